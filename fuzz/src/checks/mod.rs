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

mod exchange;
mod frames;
mod gate;
mod handshake;
mod memcached;
mod proxies;
mod pull;
mod questions;
mod settings;
mod socketio;
mod tokens;
mod value_oracle;
mod values;

pub use self::exchange::exchange;
pub use self::gate::gate;
pub use self::handshake::handshake;
pub use self::memcached::{replies, requests};
pub use self::proxies::proxies;
pub use self::pull::pull;
pub use self::settings::{settings, settings_file};
pub use self::socketio::{socketio_packet, socketio_payload, socketio_session};
pub use self::tokens::tokens;

/// Takes any bytes, and panics if an invariant is violated.
pub type Check = fn(&[u8]);

/// The name of each target, which is also the name of its corpus, and its check.
pub const TARGETS: &[(&str, Check)] = &[
    ("exchange", exchange),
    ("gate", gate),
    ("handshake", handshake),
    ("proxies", proxies),
    ("pull", pull),
    ("replies", replies),
    ("requests", requests),
    ("settings", settings),
    ("settings_file", settings_file),
    ("socketio_packet", socketio_packet),
    ("socketio_payload", socketio_payload),
    ("socketio_session", socketio_session),
    ("tokens", tokens),
];

/// Cuts the bytes at points derived from the bytes themselves, mostly into small pieces, now and
/// then into a large one.
fn pieces(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut state = data.iter().fold(data.len() as u64, |state, &byte| {
        state.wrapping_mul(31).wrapping_add(u64::from(byte))
    });
    let mut rest = data;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        // Knuth's MMIX generator; its high bits are good enough to cut with.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let bytes = match state >> 59 {
            0..2 => 100,
            number => usize::try_from(number / 4).unwrap() + 1,
        };
        let (piece, left) = rest.split_at(bytes.min(rest.len()));
        rest = left;
        Some(piece)
    })
}
