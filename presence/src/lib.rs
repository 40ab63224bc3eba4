//! The users who are here: their slots, heartbeats not yet written, and the flush that writes them.
//!
//! - [`record`]: what is written about a user: the key and the value.
//! - [`users`]: the directory of connected users; gives each a [`Slot`].
//! - [`pending`]: the lock-free set of users heard from since their last flush.
//! - [`flush`]: pending users written to memcached, paced over the flush interval (`schedule`), by
//!   node writers (`node_writers`, `node_writer`) that own a connection each and take their work
//!   from `queues`; `refill` writes all users of a node again.

mod all_bytes;
pub mod config;
pub mod flush;
pub mod limits;
pub mod metrics;
pub mod pending;
pub mod record;
mod render;
mod slot;
mod sync;
#[cfg(test)]
mod tests;
mod user_id;
pub mod users;

pub use self::all_bytes::all_bytes;
pub use self::config::Config;
pub use self::pending::Pending;
pub use self::record::Record;
pub use self::slot::Slot;
pub use self::user_id::{UserId, UserIdError};
pub use self::users::{SessionId, Users};
