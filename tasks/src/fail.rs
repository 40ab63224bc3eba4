//! Fail points: a test makes work panic that it can't reach otherwise. They are in every place that catches,
//! and do nothing until they are armed.

#![allow(clippy::panic, reason = "that is what they do")]

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Task;

static ARMED: [AtomicU64; Task::ALL.len()] = [const { AtomicU64::new(0) }; Task::ALL.len()];

/// The next `times` that this kind of work is run, it panics, wherever in the process.
pub fn arm(task: Task, times: u64) {
    ARMED[task as usize].store(times, Ordering::Relaxed);
}

/// How often it is still to panic.
pub fn left(task: Task) -> u64 {
    ARMED[task as usize].load(Ordering::Relaxed)
}

#[inline]
pub(crate) fn point(task: Task) {
    let armed = &ARMED[task as usize];
    let is_armed = armed.load(Ordering::Relaxed) > 0;
    let one_less = |left: u64| left.checked_sub(1);
    // Another thread may have been faster.
    if is_armed
        && armed
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_ok()
    {
        panic!("a fail point of {}", task.label());
    }
}
