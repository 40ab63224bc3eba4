use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use proptest::prelude::*;

use crate::{Pending, Slot};

fn drained(pending: &Pending, shard: usize) -> Vec<Slot> {
    let mut slots = Vec::new();
    pending.drain(shard, |slot| slots.push(slot));
    slots
}

#[test]
fn a_user_of_any_number_has_a_bit_of_their_own() {
    const PLACES: u32 = 100_000;
    let pending = Pending::new();
    for index in (0..PLACES).rev() {
        pending.reserve(Slot::new(1, index));
    }
    for index in 0..PLACES {
        let slot = Slot::new(1, index);
        assert!(!pending.contains(slot));
        pending.record(slot);
    }
    assert_eq!(pending.len(), u64::from(PLACES));
    let indexes = drained(&pending, 1).into_iter().map(Slot::index);
    assert!(indexes.eq(0..PLACES));
}

#[test]
fn a_heartbeat_is_drained_once_however_often_it_was_recorded() {
    let pending = Pending::new();
    let slot = Slot::new(3, 70);
    pending.reserve(slot);
    pending.record(slot);
    pending.record(slot);
    assert!(pending.contains(slot));
    assert_eq!(pending.len(), 1);
    assert_eq!(drained(&pending, 4), []);
    assert_eq!(drained(&pending, 3), [slot]);
    assert_eq!(drained(&pending, 3), []);
    pending.restore([slot]);
    assert_eq!(drained(&pending, 3), [slot]);
    pending.record(slot);
    pending.forget(slot);
    assert!(pending.is_empty());
}

proptest! {
    #[test]
    fn behaves_as_a_set(ops in prop::collection::vec((0..4u8, 0..3usize, 0..5000u32), 0..200)) {
        let pending = Pending::new();
        let mut oracle = BTreeSet::new();
        for (op, shard, index) in ops {
            let slot = Slot::new(shard, index);
            pending.reserve(slot);
            match op {
                0 | 1 => {
                    pending.record(slot);
                    oracle.insert((shard, index));
                }
                2 => {
                    let expected: Vec<_> =
                        oracle.extract_if((shard, 0)..(shard + 1, 0), |_| true)
                            .map(|(shard, index)| Slot::new(shard, index)).collect();
                    prop_assert_eq!(drained(&pending, shard), expected);
                }
                _ => {
                    pending.forget(slot);
                    oracle.remove(&(shard, index));
                }
            }
            prop_assert_eq!(pending.len(), oracle.len() as u64);
        }
    }
}

/// Recorders count their heartbeats *before* they record them; the flusher reads the count
/// after each drain that held the user. So at the end the flusher must have seen the last.
#[test]
fn no_heartbeat_is_lost_between_record_drain_and_restore() {
    const PLACES: u32 = 256;
    let pending = Pending::new();
    for index in 0..PLACES {
        pending.reserve(Slot::new(0, index));
    }
    let beats: Vec<AtomicU32> = (0..PLACES).map(|_| AtomicU32::new(0)).collect();
    let seen: Vec<AtomicU32> = (0..PLACES).map(|_| AtomicU32::new(0)).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let recorders: Vec<_> = (0..3)
            .map(|thread| {
                let (pending, beats) = (&pending, &beats);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(thread);
                    for _ in 0..200_000 {
                        let index = random.u32(0..PLACES);
                        beats[index as usize].fetch_add(1, Ordering::SeqCst);
                        pending.record(Slot::new(0, index));
                    }
                })
            })
            .collect();
        let flusher = scope.spawn(|| {
            let mut random = fastrand::Rng::with_seed(99);
            loop {
                let last = done.load(Ordering::SeqCst);
                for slot in drained(&pending, 0) {
                    // One in four is "not acknowledged" and comes back.
                    if !last && random.u8(..) < 64 {
                        pending.restore([slot]);
                        continue;
                    }
                    let index = slot.index() as usize;
                    let count = beats[index].load(Ordering::SeqCst);
                    seen[index].store(count, Ordering::SeqCst);
                }
                if last {
                    return;
                }
            }
        });
        for recorder in recorders {
            recorder.join().unwrap();
        }
        done.store(true, Ordering::SeqCst);
        flusher.join().unwrap();
    });
    for (beats, seen) in beats.iter().zip(&seen) {
        assert_eq!(beats.load(Ordering::SeqCst), seen.load(Ordering::SeqCst));
    }
}
