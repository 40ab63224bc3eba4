//! All interleavings of heartbeats, flushes and users who come and go, under the C11 memory model.
//!
//! loom runs `presence/src/{slot,pending,users/mod,users/shard}.rs`, the files themselves, with its own
//! atomics and locks for std's and with bounds as small as can be: one shard, one word a block.
//!
//! What happens to one user, Ann, and her slot: every pair and triple of
//!
//! - a session of hers that records a heartbeat and leaves,
//! - a drain whose slots are written and answered,
//! - a slot that an earlier drain took and that is restored,
//! - another session of hers that leaves, the slot freed if it may be, and a newcomer.
//!
//! While she has a session no heartbeat of hers may be lost; once she has none she may not be written
//! any more; and none of hers may be taken for the newcomer's.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::modulo_one,
    clippy::unwrap_used,
    reason = "not all of the modules is used here, nor their bounds; a test may panic"
)]

mod limits {
    pub const SHARDS: usize = 1;
    pub const SLOTS_MAX: u64 = 128;
    pub const PENDING_BLOCK_SLOTS: usize = 64;
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
        pub use std::sync::PoisonError;

        use loom::sync::atomic::AtomicBool;
        pub use loom::sync::atomic::{AtomicU64, Ordering};
        pub use loom::sync::{Arc, Mutex, MutexGuard};

        /// loom has none. It orders as std's does: a writer's `Release`, a reader's `Acquire`.
        #[derive(Debug)]
        pub struct OnceLock<T> {
            is_set: AtomicBool,
            setting: Mutex<()>,
            value: std::sync::OnceLock<T>,
        }

        impl<T> OnceLock<T> {
            pub fn new() -> OnceLock<T> {
                OnceLock {
                    is_set: AtomicBool::new(false),
                    setting: Mutex::new(()),
                    value: std::sync::OnceLock::new(),
                }
            }

            pub fn get(&self) -> Option<&T> {
                if self.is_set.load(Ordering::Acquire) {
                    self.value.get()
                } else {
                    None
                }
            }

            pub fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
                let _setting = self.setting.lock().unwrap();
                let value = self.value.get_or_init(init);
                self.is_set.store(true, Ordering::Release);
                value
            }
        }
    }
}

use std::sync::atomic::{AtomicBool, Ordering};

use loom::model::Builder;
use loom::thread;
use presence::sync::Arc;
use presence::users::{Hasher, Live, SessionId, SlotGuard, Users};
use presence::{Pending, Slot, UserId};
use presenced_session::slab::SessionKey;

const SHARD: usize = 0;

/// His session.
const BOB: u32 = 100;

/// What a thread does.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Record,
    Drain,
    Restore,
    Reuse,
}

use Role::{Drain, Record, Restore, Reuse};

/// What all threads have in common.
struct World {
    pending: Arc<Pending>,
    users: Users,
}

/// The users written to memcached.
type Written = Vec<String>;

impl World {
    fn new() -> World {
        let pending = Arc::new(Pending::new());
        let users = Users::new(pending.clone(), 10, Hasher::random());
        World { pending, users }
    }

    fn connect(&self, name: &str, session: u32) -> Slot {
        let id = UserId::new(name).unwrap();
        self.users.connect(&id, live(session), |_| 0).slot
    }

    fn take(&self) -> (SlotGuard, Vec<Slot>) {
        let guard = self.users.slot_guard(SHARD);
        let mut slots = Vec::new();
        self.pending.drain(SHARD, |slot| slots.push(slot));
        (guard, slots)
    }

    fn flush(&self) -> Written {
        let (_guard, slots) = self.take();
        let indexes: Vec<_> = slots.into_iter().map(Slot::index).collect();
        let mut written = Written::new();
        self.users.render(SHARD, &indexes, 0, |_, due| {
            written.push(due.user.to_string());
        });
        for index in indexes {
            let slot = Slot::new(SHARD, index);
            assert!(self.users.node(slot).is_some(), "a slot was no one's");
        }
        written
    }

    /// Returns the newcomer's slot.
    fn reuse(&self, ann: Slot, session: u32, newcomer: &str, newcomers_record: bool) -> Slot {
        self.users.disconnect(ann, live(session).session);
        self.users.reap(SHARD);
        let slot = self.connect(newcomer, session);
        if newcomers_record {
            self.pending.record(slot);
        }
        slot
    }
}

fn live(session: u32) -> Live {
    Live {
        connected_at_ms: 0,
        session: SessionId {
            worker: 0,
            key: SessionKey {
                index: session,
                generation: 0,
            },
        },
    }
}

/// What came of a thread.
struct Done {
    written: Written,
    /// A newcomer and their slot.
    newcomer: Option<(String, Slot)>,
}

/// A thread's part. `session` is a session of Ann's that it may end, or a newcomer's.
fn play(world: &World, role: Role, ann: Slot, session: u32, newcomers_record: bool) -> Done {
    let (mut written, mut newcomer) = (Written::new(), None);
    match role {
        Record => {
            world.pending.record(ann);
            world.users.disconnect(ann, live(session).session);
        }
        Drain => written = world.flush(),
        Restore => world.pending.restore([ann]),
        Reuse => {
            let name = format!("newcomer-{session}");
            let slot = world.reuse(ann, session, &name, newcomers_record);
            newcomer = Some((name, slot));
        }
    }
    Done { written, newcomer }
}

/// One interleaving. Ann has a heartbeat that is recorded in it, on its way back if there is a
/// restore, or pending. She keeps a session unless her slot is to be used again. Says whether a
/// newcomer got it.
fn run(roles: &[Role], newcomers_record: bool) -> bool {
    let world = Arc::new(World::new());
    let mut ann = world.connect("ann", 0);
    for (session, role) in (1..).zip(roles) {
        if matches!(role, Record | Reuse) {
            ann = world.connect("ann", session);
        }
    }
    let stays = !roles.contains(&Reuse);
    if !stays {
        world.users.disconnect(ann, live(0).session);
    }
    // With a session that records she has nothing pending: its heartbeat is the one to be kept.
    let mut taken = None;
    if roles.contains(&Restore) {
        world.pending.record(ann);
        taken = Some(world.take().0);
    } else if !roles.contains(&Record) {
        world.pending.record(ann);
    }
    // A neighbour in the same word, so that a drain has something to take from it.
    let bob = world.connect("bob", BOB);
    world.pending.record(bob);
    let threads: Vec<_> = (1..)
        .zip(roles.to_vec())
        .map(|(session, role)| {
            let world = world.clone();
            let guard = taken.clone().filter(|_| role == Restore);
            thread::spawn(move || {
                let done = play(&world, role, ann, session, newcomers_record);
                drop(guard);
                done
            })
        })
        .collect();
    drop(taken);
    let done: Vec<_> = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();

    let mut written: Written = done.iter().flat_map(|done| done.written.clone()).collect();
    let last = world.flush();
    assert!(stays || !last.contains(&"ann".to_string()), "she has left");
    written.extend(last);
    let is_written = |name: &str| written.iter().any(|written| written == name);
    assert!(is_written("bob"), "his heartbeat is lost");
    assert!(!stays || is_written("ann"), "her heartbeat is lost");
    let newcomers: Vec<_> = done.into_iter().filter_map(|done| done.newcomer).collect();
    for (name, _) in &newcomers {
        assert_eq!(is_written(name), newcomers_record, "{name}'s heartbeat");
    }
    newcomers.iter().any(|&(_, slot)| slot == ann)
}

/// Explores all interleavings of two roles, and of three those with two preemptions at most, or
/// with `LOOM_MAX_PREEMPTIONS`.
fn explore(roles: &'static [Role]) {
    let mut model = Builder::new();
    model.preemption_bound = match roles {
        [_, _] => None,
        _ => model.preemption_bound.or(Some(2)),
    };
    let reuses = roles.contains(&Reuse);
    let reused = std::sync::Arc::new(AtomicBool::new(false));
    for newcomers_record in [false, true] {
        let reused = reused.clone();
        model.check(move || {
            if run(roles, newcomers_record) {
                reused.store(true, Ordering::Relaxed);
            }
        });
        if !reuses {
            break;
        }
    }
    let reused = reused.load(Ordering::Relaxed);
    assert_eq!(
        reused, reuses,
        "a newcomer gets the slot in some interleaving"
    );
}

macro_rules! interleavings {
    ($($name:ident: $roles:expr;)+) => {
        $(#[test]
        fn $name() {
            explore(&$roles);
        })+
    };
}

interleavings! {
    record_and_record: [Record, Record];
    record_and_drain: [Record, Drain];
    record_and_restore: [Record, Restore];
    record_and_reuse: [Record, Reuse];
    drain_and_drain: [Drain, Drain];
    drain_and_restore: [Drain, Restore];
    drain_and_reuse: [Drain, Reuse];
    restore_and_restore: [Restore, Restore];
    restore_and_reuse: [Restore, Reuse];
    reuse_and_reuse: [Reuse, Reuse];
    record_record_and_record: [Record, Record, Record];
    record_record_and_drain: [Record, Record, Drain];
    record_record_and_restore: [Record, Record, Restore];
    record_record_and_reuse: [Record, Record, Reuse];
    record_drain_and_drain: [Record, Drain, Drain];
    record_drain_and_restore: [Record, Drain, Restore];
    record_drain_and_reuse: [Record, Drain, Reuse];
    record_restore_and_restore: [Record, Restore, Restore];
    record_restore_and_reuse: [Record, Restore, Reuse];
    record_reuse_and_reuse: [Record, Reuse, Reuse];
    drain_drain_and_drain: [Drain, Drain, Drain];
    drain_drain_and_restore: [Drain, Drain, Restore];
    drain_drain_and_reuse: [Drain, Drain, Reuse];
    drain_restore_and_restore: [Drain, Restore, Restore];
    drain_restore_and_reuse: [Drain, Restore, Reuse];
    drain_reuse_and_reuse: [Drain, Reuse, Reuse];
    restore_restore_and_restore: [Restore, Restore, Restore];
    restore_restore_and_reuse: [Restore, Restore, Reuse];
    restore_reuse_and_reuse: [Restore, Reuse, Reuse];
    reuse_reuse_and_reuse: [Reuse, Reuse, Reuse];
}

/// A heartbeat in a block that has just been made is not lost, nor one beside it.
#[test]
fn growth_record_and_drain() {
    loom::model(|| {
        let pending = Arc::new(Pending::new());
        let (old, new) = (Slot::new(SHARD, 0), Slot::new(SHARD, 64));
        pending.reserve(old);
        let spawn = |slot, is_new| {
            let pending = pending.clone();
            thread::spawn(move || {
                if is_new {
                    pending.reserve(slot);
                }
                pending.record(slot);
            })
        };
        let threads = [spawn(old, false), spawn(new, true)];
        let mut drained = Vec::new();
        pending.drain(SHARD, |slot| drained.push(slot));
        for thread in threads {
            thread.join().unwrap();
        }
        pending.drain(SHARD, |slot| drained.push(slot));
        drained.sort_by_key(|slot| slot.index());
        assert_eq!(drained, [old, new]);
    });
}
