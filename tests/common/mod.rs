//! What the integration tests share: real parts (memcached, a server in this process, the binary)
//! and clients that are not ours.
//!
//! - [`memcached`]: a real memcached and two ways to look into it.
//! - [`node`]: a memcached node by hand.
//! - [`server`]: a server in this process, with short times.
//! - [`client`]: a WebSocket client on tokio-tungstenite, which answers pings.
//! - [`crowd`]: thousands of sessions without sockets; [`proxy`]: what happens to their replies.
//! - [`network`]: a memcached beyond a network that can be cut, on [`cable`], a real one.
//! - [`raw`]: HTTP and frames by hand, for what no well-behaved client sends.
//! - [`process`]: the binary.
//! - [`tokens`]: good tokens and bad ones.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "each file of tests uses a part of it; helpers of tests may panic"
)]

pub mod cable;
pub mod client;
pub mod crowd;
pub mod memcached;
pub mod network;
pub mod node;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod server;
pub mod tokens;

use std::net::{Ipv4Addr, TcpListener};
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

/// Looks again and again for a time whether a condition holds; panics with `what` as soon as it
/// does not.
pub async fn throughout(what: &str, time: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        assert!(holds().await, "{what}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// A port of loopback that nobody listens on. It is below those that connections are given, so that it
/// is still free when what has it starts again.
pub fn free_port() -> u16 {
    let mut ports = std::iter::repeat_with(|| fastrand::u16(15_000..30_000)).take(1000);
    let port = ports.find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
    port.expect("a free port")
}

/// Unix time in ms.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_millis() as u64
}
