//! Faults, and for how long another edge calls users offline who are online: the rows of `docs/truth.md`.
//!
//! Real memcacheds, real processes. Each row is a test: it asserts what it measures, and writes a line of the
//! table. Most of their time is waiting, so they want more threads than there are cores: `make truth`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic"
)]

mod fleet;
