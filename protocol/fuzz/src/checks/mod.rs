//! The bodies of the protocol's fuzz targets. Each takes any bytes, and panics if an invariant is
//! violated.
//!
//! They do not depend on libFuzzer, so that `tests/it/fuzz_corpus.rs` can replay the corpora on
//! stable.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a check fails"
)]
#![allow(unreachable_pub, reason = "a test includes this folder as a module")]

mod exchange;
mod parsers;
mod pieces;
mod skimmed;
mod value_oracle;

pub use self::exchange::exchange;
pub use self::parsers::{replies, requests};

/// Takes any bytes, and panics if an invariant is violated.
pub type Check = fn(&[u8]);

/// The name of each target, which is also the name of its corpus, and its check.
pub const TARGETS: &[(&str, Check)] = &[
    ("exchange", exchange),
    ("replies", replies),
    ("requests", requests),
];
