//! What [`pending`](super::pending) and [`users`](super::users) take from std to share things
//! between threads. The tests of their interleavings (`tests/loom_presence.rs`,
//! `tests/shuttle_presence.rs`) compile the same two files with loom's and shuttle's instead.

pub(super) use std::sync::atomic::{AtomicU64, Ordering};
pub(super) use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
