//! Random interleavings of more than loom can explore: several workers with users who come, beat
//! and go, on two shards that a flusher each drains, writes, restores and reaps.
//!
//! shuttle runs `presence/src/{slot,pending,users/mod,users/shard}.rs`, the files themselves, with its own
//! atomics and locks for std's, sequentially consistent; orderings are loom's to check. A failure prints
//! the schedule that `shuttle::replay` repeats. `SHUTTLE_ITERATIONS` sets how many are run.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::modulo_one,
    clippy::unwrap_used,
    reason = "not all of the modules is used here, nor their bounds; a test may panic"
)]

mod limits {
    pub const SHARDS: usize = 2;
    pub const SLOTS_MAX: u64 = 512;
    pub const PENDING_BLOCK_SLOTS: usize = 128;
}

#[path = "../presence/src"]
mod presence {
    pub mod pending;
    pub mod slot;
    pub mod users;

    pub use presenced_presence::UserId;

    pub use self::pending::Pending;
    pub use self::slot::Slot;

    pub mod sync {
        // What it is set to is made without a turn of another thread, so it never blocks.
        pub use std::sync::{OnceLock, PoisonError};

        pub use shuttle::sync::atomic::{AtomicU64, Ordering};
        pub use shuttle::sync::{Arc, Mutex, MutexGuard};
    }
}

use std::collections::{HashMap, HashSet};
use std::sync::Mutex as StdMutex;

use limits::SHARDS;
use presence::sync::{Arc, AtomicU64, Ordering};
use presence::users::{Hasher, Live, SessionId, Users};
use presence::{Pending, Slot, UserId};
use presenced_session::slab::SessionKey;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

const WORKERS: u32 = 3;
const TURNS: u32 = 12;

/// Users are shared by all workers; those with an odd number never send a heartbeat.
const USERS: u32 = 6;

struct World {
    pending: Arc<Pending>,
    users: Users,
    working: AtomicU64,
    in_flight: StdMutex<HashMap<String, Beats>>,
    /// Sessions that were replaced: they may record until they end, but keep no user here.
    replaced: StdMutex<HashSet<SessionId>>,
}

/// A user's heartbeats, by number.
#[derive(Default)]
struct Beats {
    /// Counted before it is recorded.
    sent: u64,
    /// The last that was sent when one was written.
    written: u64,
    /// Sessions, counted before each begins and until it has ended.
    sessions: u64,
    /// The last that was sent by a session which stayed to the end.
    staying: u64,
}

/// A session of a worker's.
struct Session {
    user: u32,
    slot: Slot,
    id: SessionId,
    /// Its last heartbeat.
    beat: u64,
}

impl World {
    fn name(user: u32) -> String {
        format!("user-{user}")
    }

    fn note<T>(&self, user: u32, note: impl FnOnce(&mut Beats) -> T) -> T {
        let mut in_flight = self.in_flight.lock().unwrap();
        note(in_flight.entry(World::name(user)).or_default())
    }

    fn beat(&self, session: &mut Session) {
        session.beat = self.note(session.user, |beats| {
            beats.sent += 1;
            beats.sent
        });
        self.pending.record(session.slot);
    }

    fn connect(&self, user: u32, id: SessionId) -> Session {
        self.note(user, |beats| beats.sessions += 1);
        let live = Live {
            connected_at_ms: 0,
            session: id,
        };
        let name = UserId::new(&World::name(user)).unwrap();
        let connected = self.users.connect(&name, live, |_| 0);
        self.replaced.lock().unwrap().extend(connected.replaced);
        Session {
            user,
            slot: connected.slot,
            id,
            beat: 0,
        }
    }

    fn disconnect(&self, session: &Session) {
        self.users.disconnect(session.slot, session.id);
        self.note(session.user, |beats| beats.sessions -= 1);
    }

    /// A worker's sessions come, beat and go. Returns those that stay.
    fn work(&self, worker: u16) -> Vec<Session> {
        let mut sessions: Vec<Session> = Vec::new();
        for turn in 0..TURNS {
            let user = thread_rng().gen_range(0..USERS);
            match (thread_rng().gen_range(0..4), sessions.len()) {
                (0, 1..) => {
                    let index = thread_rng().gen_range(0..sessions.len());
                    self.disconnect(&sessions.swap_remove(index));
                }
                (1, _) | (_, 0) => {
                    let id = SessionId {
                        worker,
                        key: SessionKey {
                            index: turn,
                            generation: 0,
                        },
                    };
                    sessions.push(self.connect(user, id));
                }
                (_, count) => {
                    let session = &mut sessions[thread_rng().gen_range(0..count)];
                    if session.user.is_multiple_of(2) {
                        self.beat(session);
                    }
                }
            }
        }
        self.working.fetch_sub(1, Ordering::SeqCst);
        sessions
    }

    /// A flush of a shard: some runs are written, some come back.
    fn flush(&self, shard: usize, all: bool) {
        let guard = self.users.slot_guard(shard);
        let mut indexes = Vec::new();
        self.pending.drain(shard, |slot| indexes.push(slot.index()));
        for index in indexes {
            if !all && thread_rng().gen_bool(0.3) {
                self.pending.restore([Slot::new(shard, index)]);
                continue;
            }
            self.users.render(shard, &[index], 0, |_, due| {
                let mut in_flight = self.in_flight.lock().unwrap();
                let beats = in_flight.entry(due.user.to_string()).or_default();
                assert!(beats.sent > 0, "{}'s is someone else's heartbeat", due.user);
                assert!(beats.sessions > 0, "{} has left", due.user);
                beats.written = beats.sent;
            });
            let slot = Slot::new(shard, index);
            assert!(self.users.node(slot).is_some(), "a slot was no one's");
        }
        drop(guard);
    }

    fn flush_while_they_work(&self, shard: usize) {
        while self.working.load(Ordering::SeqCst) > 0 {
            self.users.reap(shard);
            self.flush(shard, false);
            thread::yield_now();
        }
    }
}

/// What a thread does; it returns the sessions that stay.
type Part = Box<dyn FnOnce(&World) -> Vec<Session> + Send>;

fn run() {
    let pending = Arc::new(Pending::new());
    let world = Arc::new(World {
        users: Users::new(pending.clone(), 3, Hasher::random()),
        pending,
        working: AtomicU64::new(u64::from(WORKERS)),
        in_flight: StdMutex::default(),
        replaced: StdMutex::default(),
    });
    let spawn = |part: Part| {
        let world = world.clone();
        thread::spawn(move || part(&world))
    };
    let workers =
        (0..WORKERS as u16).map(|number| spawn(Box::new(move |world| world.work(number))));
    let mut threads: Vec<_> = workers.collect();
    for shard in 0..SHARDS {
        threads.push(spawn(Box::new(move |world| {
            world.flush_while_they_work(shard);
            Vec::new()
        })));
    }
    let ended = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap());
    let staying: Vec<_> = ended.collect();
    let replaced = world.replaced.lock().unwrap().clone();
    for session in staying
        .iter()
        .filter(|session| !replaced.contains(&session.id))
    {
        world.note(session.user, |beats| {
            beats.staying = beats.staying.max(session.beat);
        });
    }
    flush_all(&world);
    for (name, beats) in world.in_flight.lock().unwrap().iter() {
        assert!(beats.written >= beats.staying, "{name}'s heartbeat is lost");
    }
    staying.iter().for_each(|session| world.disconnect(session));
    flush_all(&world);
    assert!(world.users.is_empty() && world.pending.is_empty());
}

fn flush_all(world: &World) {
    for shard in 0..SHARDS {
        world.flush(shard, true);
        world.users.reap(shard);
    }
}

/// Runs this number of schedules of each kind.
fn iterations() -> usize {
    std::env::var("SHUTTLE_ITERATIONS").map_or(10_000, |count| count.parse().unwrap())
}

#[test]
fn no_heartbeat_is_lost_in_random_schedules() {
    shuttle::check_random(run, iterations());
}

/// Schedules with few preemptions, at the worst moments (PCT).
#[test]
fn no_heartbeat_is_lost_in_schedules_with_few_preemptions() {
    shuttle::check_pct(run, iterations(), 4);
}
