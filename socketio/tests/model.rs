//! The state machines against a naive model, driven by random operations on both transports. The
//! fuzz target `socketio` drives the same model.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a panic is how a check fails; fuzz/ includes the model, too"
)]

use proptest::collection::vec;
use proptest::prelude::*;

#[path = "model/mod.rs"]
mod model;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn machines_are_as_the_model(operations in vec(any::<u8>(), 0..400)) {
        model::run(&operations);
    }
}
