//! Random interleavings of more than loom can explore: several workers with users who come, beat
//! and go, on two shards that a flusher each drains, writes, restores and reaps.
//!
//! shuttle runs `src/presence/{slot,pending,users,users/shard}.rs`, the files themselves, with its own
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

#[path = "../src/presence"]
mod presence {
    pub mod pending;
    pub mod slot;
    pub mod users;

    pub use self::pending::Pending;
    pub use self::slot::Slot;
    pub use presenced::presence::UserId;

    pub mod sync {
        pub use shuttle::sync::atomic::{AtomicU64, Ordering};
        pub use shuttle::sync::{Arc, Mutex, MutexGuard};
        // What it is set to is made without a turn of another thread, so it never blocks.
        pub use std::sync::{OnceLock, PoisonError};
    }
}

use std::collections::HashMap;
use std::sync::Mutex as StdMutex;

use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

use limits::SHARDS;
use presence::sync::{Arc, AtomicU64, Ordering};
use presence::users::{Live, SessionId, Users};
use presence::{Pending, Slot, UserId};

const WORKERS: u32 = 3;
const TURNS: u32 = 12;
const TTL_S: u32 = 60;

/// Users are shared by all workers; those with an odd number never send a heartbeat.
const USERS: u32 = 6;

struct World {
    pending: Arc<Pending>,
    users: Users,
    working: AtomicU64,
    ledger: StdMutex<HashMap<String, Beats>>,
}

/// A user's heartbeats, by number.
#[derive(Default)]
struct Beats {
    /// Counted before it is recorded.
    sent: u64,
    /// The last that was sent when one was written.
    written: u64,
}

impl World {
    fn name(user: u32) -> String {
        format!("user-{user}")
    }

    fn beat(&self, user: u32, slot: Slot) {
        let mut ledger = self.ledger.lock().unwrap();
        ledger.entry(World::name(user)).or_default().sent += 1;
        drop(ledger);
        self.pending.record(slot);
    }

    /// A worker's sessions come, beat and go.
    fn work(&self, worker: u16) {
        let mut sessions: Vec<(u32, Slot, SessionId)> = Vec::new();
        for turn in 0..TURNS {
            let user = thread_rng().gen_range(0..USERS);
            match (thread_rng().gen_range(0..4), sessions.len()) {
                (0, 1..) => {
                    let index = thread_rng().gen_range(0..sessions.len());
                    let (_, slot, session) = sessions.swap_remove(index);
                    self.users.disconnect(slot, session, 0);
                }
                (1, _) | (_, 0) => {
                    let session = SessionId {
                        worker,
                        index: turn,
                        generation: 0,
                    };
                    let live = Live {
                        connected_at_ms: 0,
                        session,
                    };
                    let id = UserId::new(&World::name(user)).unwrap();
                    let slot = self.users.connect(&id, live, |_| 0).slot;
                    sessions.push((user, slot, session));
                }
                (_, count) => {
                    let (user, slot, _) = sessions[thread_rng().gen_range(0..count)];
                    if user % 2 == 0 {
                        self.beat(user, slot);
                    }
                }
            }
        }
        for (_, slot, session) in sessions {
            self.users.disconnect(slot, session, 0);
        }
        self.working.fetch_sub(1, Ordering::SeqCst);
    }

    /// A flush of a shard: some runs are written, some come back.
    fn flush(&self, shard: usize, all: bool) {
        let flight = self.users.flight(shard);
        let mut places = Vec::new();
        self.pending.drain(shard, |slot| places.push(slot.place()));
        for place in places {
            if !all && thread_rng().gen_bool(0.3) {
                self.pending.restore([Slot::new(shard, place)]);
                continue;
            }
            let shown = self.users.render(shard, &[place], 0, TTL_S, |_, due| {
                let mut ledger = self.ledger.lock().unwrap();
                let beats = ledger.entry(due.user.to_string()).or_default();
                assert!(beats.sent > 0, "{}'s is someone else's heartbeat", due.user);
                beats.written = beats.sent;
            });
            assert_eq!(shown, 1, "a slot was no one's");
        }
        drop(flight);
    }

    fn flush_while_they_work(&self, shard: usize) {
        while self.working.load(Ordering::SeqCst) > 0 {
            self.users.reap(shard, 0, TTL_S);
            self.flush(shard, false);
            thread::yield_now();
        }
    }
}

fn run() {
    let pending = Arc::new(Pending::new());
    let world = Arc::new(World {
        users: Users::new(pending.clone(), 3),
        pending,
        working: AtomicU64::new(u64::from(WORKERS)),
        ledger: StdMutex::default(),
    });
    let spawn = |part: Box<dyn FnOnce(&World) + Send>| {
        let world = world.clone();
        thread::spawn(move || part(&world))
    };
    let workers =
        (0..WORKERS as u16).map(|number| spawn(Box::new(move |world| world.work(number))));
    let mut threads: Vec<_> = workers.collect();
    for shard in 0..SHARDS {
        threads.push(spawn(Box::new(move |world| {
            world.flush_while_they_work(shard);
        })));
    }
    for thread in threads {
        thread.join().unwrap();
    }
    for shard in 0..SHARDS {
        world.flush(shard, true);
        world.users.reap(shard, 0, TTL_S);
    }
    for (name, beats) in world.ledger.lock().unwrap().iter() {
        assert_eq!(beats.written, beats.sent, "{name}'s last heartbeat is lost");
    }
    assert!(world.users.is_empty() && world.pending.is_empty());
}

/// Runs so many schedules of each kind.
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
