//! Settings that change while the server runs: read again on SIGHUP, and when a file changes that they come from.
//!
//! - [`changeable`]: which settings can change.
//! - `difference`: what is new in settings that were read again.
//! - `files`: those that settings come from, and when they have changed.
//! - [`reloader`]: the task.

pub mod changeable;
mod difference;
mod files;
pub mod reloader;

pub use self::reloader::{Begun, Reloader};
