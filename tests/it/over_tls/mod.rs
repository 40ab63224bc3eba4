//! Sessions over TLS on a worker alone. What holds of plain sessions holds of these: the same tests, included once more.

#![allow(
    clippy::duplicate_mod,
    reason = "the tests differ in what carries the sessions"
)]

#[path = "../dialect.rs"]
mod dialect;
#[path = "../expiry.rs"]
mod expiry;
#[path = "../first_pings.rs"]
mod first_pings;
#[path = "../panics.rs"]
mod panics;
#[path = "../worker.rs"]
mod worker;

use presenced_testkit::client_end::Over;

const OVER: Over = Over::Tls;
