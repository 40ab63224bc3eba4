//! The integration tests, in one program and at the same time: nothing here measures what another test
//! may use up (see `tests/alone`).
//!
//! One program instead of one for each file: the dependencies are linked once, and the tests wait for
//! time to pass side by side.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic"
)]

mod admin;
mod algorithms;
mod backends;
mod capacity;
mod certificates;
mod cli;
mod codec;
mod conformance;
mod congestion;
mod cross_origin;
mod departure;
mod dialect;
mod docs;
mod drain;
mod expiry;
mod faults;
mod first_message;
mod first_pings;
mod frames;
mod fuzz_corpus;
mod handshake;
mod handshake_rates;
mod hostile;
mod http;
mod http_connections;
mod identity_provider;
mod issuers;
mod lateness;
mod log;
mod memcached_access;
mod memcached_faults;
mod metrics;
mod moves;
mod other_memcacheds;
mod out_of_step;
mod over_tls;
mod panics;
mod peer_words;
mod polling;
mod presence;
mod proxies;
mod proxy_configs;
mod pull;
mod pull_shares;
mod refusals;
mod refused_sessions;
mod reload;
mod renewal;
mod revocation;
mod ring;
mod ring_changes;
mod settings;
mod settings_page;
mod simulation;
mod socketio;
mod start_up;
mod store;
mod store_clients;
mod store_command;
mod store_differential;
mod store_memory;
mod tls;
mod token_commands;
mod worker;

use presenced_testkit::client_end::Over;

/// What carries the sessions of tests of a worker alone; `over_tls` has these tests once more.
const OVER: Over = Over::Plain;
