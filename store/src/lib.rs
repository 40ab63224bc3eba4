//! The store: a server of memcached's text protocol.
//!
//! Without `--memcached` the server starts one on its own workers and reaches it through the same
//! client as a real memcached, over TCP; any other memcached client can connect too.
//! `presenced store` is one alone ([`RunningStore`]). It keeps what memcached promises and clients
//! can see: replies byte for byte, expiry to the second, a memory limit with least-recently-used
//! eviction. It persists nothing and knows nothing of sessions or users. `docs/store.md` has the
//! commands one by one, and what is left out.
//!
//! # Layout
//!
//! * `clock`: what time it is.
//! * `item`: one item: its bytes, its expiry, what it costs. Pure: time is an argument.
//! * `hash`, `slab`, `flush_all`, `evicted`, `shard`: all that a shard holds, in order of use,
//!   within its memory limit. Pure.
//! * `mutations`: what storage commands and arithmetic do to items; `no_room`: why not. Pure.
//! * `store`: the shards, and what is counted of all of them.
//! * `execute`, `meta`, `meta_reply`: a request on the store, its reply into a buffer.
//! * `stat_counters`, `processor_time`, `stats`: what is counted, and the answer to `stats`.
//! * `conversation`: a client's requests in order: bytes in, bytes out.
//! * `open`: connections are counted and limited. `hold`: what they keep of the memory.
//! * `connection`: one client, over any stream.
//! * `listener`: a worker's listener, the connection limit, the small periodic step.
//! * `running`: a store on threads of its own.
//!
//! # Shards
//!
//! Workers share the items. They are cut into shards by the hash of their key, each behind a lock
//! that is held for one key and never while anything waits. A shard has an equal share of the
//! memory limit and evicts its own least recently used item, as memcached's slab classes do; keys
//! spread evenly, so that is nearly the same.

mod clock;
mod connection;
mod conversation;
mod evicted;
mod execute;
mod flush_all;
mod hash;
mod hold;
mod item;
pub mod limits;
mod listener;
#[cfg(test)]
mod memory_tests;
mod meta;
mod meta_reply;
mod mutations;
mod no_room;
mod open;
mod processor_time;
mod replies;
mod running;
mod shard;
mod slab;
mod stat_counters;
mod stats;
mod store;
#[cfg(test)]
mod tests;

pub use presenced_net::listen;

pub use self::item::ITEM_OVERHEAD_BYTES;
pub use self::listener::{Listener, serve, serve_stream};
pub use self::running::{Address, RunningStore, StoreError};
pub use self::store::{Counters, Options, Store};
