//! The bodies of the fuzz targets. Each takes any bytes, and panics if an invariant is violated.
//!
//! They do not depend on libFuzzer, so that `tests/it/fuzz_corpus.rs` can replay the corpora on
//! stable. A new target needs a function here, a line in [`TARGETS`], a file in `fuzz_targets/`, a
//! `[[bin]]` and a folder in `corpus/`.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a check fails"
)]
#![allow(unreachable_pub, reason = "a test includes this folder as a module")]

mod frames;
mod gate;
mod handshake;
mod memcached_client;
#[allow(
    clippy::duplicate_mod,
    reason = "a test includes the protocol's checks, too"
)]
#[path = "../../../protocol/fuzz/src/checks/pieces.rs"]
mod pieces;
mod proxies;
mod pull;
mod questions;
mod settings;
mod socketio;
mod tls;
mod tokens;
mod worker_records;

pub use self::gate::gate;
pub use self::handshake::handshake;
pub use self::memcached_client::memcached_client;
pub use self::proxies::proxies;
pub use self::pull::pull;
pub use self::settings::{settings, settings_file};
pub use self::socketio::{socketio_packet, socketio_payload, socketio_session};
pub use self::tls::{tls_hello, tls_records};
pub use self::tokens::tokens;
pub use self::worker_records::worker_records;

/// Takes any bytes, and panics if an invariant is violated.
pub type Check = fn(&[u8]);

/// The name of each target, which is also the name of its corpus, and its check.
pub const TARGETS: &[(&str, Check)] = &[
    ("gate", gate),
    ("handshake", handshake),
    ("memcached_client", memcached_client),
    ("proxies", proxies),
    ("pull", pull),
    ("settings", settings),
    ("settings_file", settings_file),
    ("socketio_packet", socketio_packet),
    ("socketio_payload", socketio_payload),
    ("socketio_session", socketio_session),
    ("tls_hello", tls_hello),
    ("tls_records", tls_records),
    ("tokens", tokens),
    ("worker_records", worker_records),
];
