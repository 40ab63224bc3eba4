//! What the tests share: real parts (memcached, a server in this process, the binary) and clients
//! that are not ours.
//!
//! With tokio alone:
//!
//! - [`memcached`]: a real memcached, on a port that no other test process takes ([`port`]).
//! - [`blocking`]: the same for tests without a runtime.
//! - [`proxy`]: a proxy that meddles with replies; [`network`]: a network that can be cut, on
//!   [`cable`], a real one.
//! - [`programs`]: programs that others wrote, `openssl s_client` among them.
//! - [`proxies`]: twemproxy and HAProxy.
//! - [`frame`]: a client's frames, byte by byte.
//! - [`temp`]: files that are gone when dropped.
//!
//! With the feature `presenced`:
//!
//! - `server`: a server in this process, with short times; `process`: the binary.
//! - `balancers`: HAProxy and nginx before the edge.
//! - `client`: a WebSocket client on tokio-tungstenite, which answers pings.
//! - `client_end`: a client's end of a connection in memory, plain or over TLS; `lone_worker`: a worker with such clients.
//! - `raw`: HTTP and frames by hand, for what no well-behaved client sends.
//! - `crowd`: thousands of sessions without sockets.
//! - `middle`: HAProxy and twemproxy before memcached; `names`: host names of one process alone.
//! - `node`: a memcached node by hand; `embedded`: the store on threads of its own.
//! - `fleet`: edges with sessions and users, on a `simulation`.
//! - `simulation`: memcached nodes and a network in memory, in virtual time.
//! - `tokens`: good tokens and bad ones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic"
)]
#![allow(missing_docs, reason = "most of it says what it is by its name")]

#[cfg(feature = "presenced")]
pub mod balancers;
pub mod blocking;
pub mod cable;
pub mod frame;
pub mod kernel_sockets;
pub mod memcached;
pub mod network;
pub mod port;
pub mod programs;
pub mod proxies;
pub mod proxy;
pub mod temp;

#[cfg(feature = "presenced")]
pub mod client;
#[cfg(feature = "presenced")]
pub mod client_end;
#[cfg(feature = "presenced")]
pub mod crowd;
#[cfg(feature = "presenced")]
pub mod edge_core;
#[cfg(feature = "presenced")]
pub mod edge_stream;
#[cfg(feature = "presenced")]
pub mod embedded;
#[cfg(feature = "presenced")]
pub mod fleet;
#[cfg(feature = "presenced")]
pub mod lone_worker;
#[cfg(feature = "presenced")]
mod memcached_contents;
#[cfg(feature = "presenced")]
pub mod middle;
#[cfg(feature = "presenced")]
pub mod names;
#[cfg(feature = "presenced")]
pub mod node;
#[cfg(feature = "presenced")]
pub mod null;
#[cfg(feature = "presenced")]
pub mod process;
#[cfg(feature = "presenced")]
pub mod raw;
#[cfg(feature = "presenced")]
pub mod server;
#[cfg(feature = "presenced")]
pub mod simulation;
#[cfg(feature = "presenced")]
pub mod tokens;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, sleep};

/// How long what must happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until a condition holds that no event tells of. Panics with `what` when it takes longer
/// than `within`.
pub async fn until(what: &str, within: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Checks again and again for a time whether a condition holds; panics with `what` as soon as it
/// does not.
pub async fn throughout(what: &str, time: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        assert!(holds().await, "{what}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Unix time in ms.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_millis() as u64
}

/// Held by a test that measures time, memory, descriptors or allocations: no other test of the
/// process that takes a turn runs meanwhile, with however many threads.
#[derive(Debug)]
pub struct Alone(#[expect(dead_code, reason = "held, not read")] MutexGuard<'static, ()>);

/// Waits for the test's turn.
pub fn alone() -> Alone {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that has failed is over, too.
    Alone(TURN.lock().unwrap_or_else(PoisonError::into_inner))
}
