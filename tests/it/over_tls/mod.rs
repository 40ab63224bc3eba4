//! Sessions over TLS on a worker alone. What holds of plain sessions holds of these: the same tests, included once more. The
//! others are for what only TLS has.

#![allow(
    clippy::duplicate_mod,
    reason = "the tests differ in what carries the sessions"
)]

mod ends;
mod histories;
mod keys;
mod records;
mod relays;

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

use presenced_session::close_reason::CloseReason;
use presenced_session::dialect::Plain;
use presenced_testkit::client_end::{ClientEnd, Over, SUITES};
use presenced_testkit::lone_worker::{Client, LoneWorker};
use presenced_tls::rustls::SupportedCipherSuite;

use self::worker::Echo;

const OVER: Over = Over::Tls;

// Types of records (RFC 8446 §5.1).
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

/// A session over TLS with this suite.
fn open_over(tried: &mut LoneWorker<Echo>, suite: SupportedCipherSuite) -> Client {
    let (client, connection) = ClientEnd::pair(Some(suite));
    let key = tried.open_on((), Plain, connection, Vec::new());
    (key, client)
}

/// The suites of TLS 1.3, whose keys can be updated.
fn suites_of_tls13() -> impl Iterator<Item = SupportedCipherSuite> {
    SUITES
        .iter()
        .copied()
        .filter(|suite| suite.tls13().is_some())
}

/// What the server says to bytes as they are.
fn says_to(tried: &mut LoneWorker<Echo>, (key, client): &Client, bytes: &[u8]) -> Vec<u8> {
    client.send_bytes(bytes);
    tried.read(*key);
    client.take()
}

/// Sessions that have ended for this reason.
fn ended(tried: &LoneWorker<Echo>, reason: CloseReason) -> u64 {
    tried.worker.metrics().ends[reason as usize].value()
}
