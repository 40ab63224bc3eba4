//! Opens many sessions to presenced or a similar server, answers its pings, puts load on it, and
//! measures it from outside: its answers and latencies, and, from `/proc` and `/metrics`, its
//! memory and CPU time.
//!
//! # Layout
//!
//! - [`flags`], [`mod@run`], [`phase`], [`report`], [`progress`]: from the flags through the phases
//!   to the result.
//! - [`client`]: all sessions of a process on one thread with one poll, so that the client uses as
//!   little of the machine as it can. [`socket`] is a connection, [`tls`] what may be on it, [`session`] the
//!   protocol on that, without IO: [`handshake`], [`frame`], [`pull`], [`engine_io`], [`probes`], [`session_error`].
//! - [`pace`], [`shard`]: how the load is spread over time and over processes. [`population`]: users
//!   of other servers who are asked for. [`tokens`]: the
//!   sessions' JWTs, signed here or (over [`http`]) by a server in dev mode.
//! - [`fleet`]: several processes that run together.
//! - [`counts`], [`latency`]: what the client counts. [`process`], [`metrics`]: what it reads about
//!   the server.

mod client;
mod counts;
mod engine_io;
mod flags;
mod fleet;
mod frame;
mod handshake;
mod http;
mod latency;
mod metrics;
mod pace;
mod phase;
mod population;
mod probes;
mod process;
mod progress;
mod pull;
mod report;
mod run;
mod session;
mod session_error;
mod shard;
mod socket;
mod tls;
mod tokens;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use self::client::Client;
use self::flags::Flags;
use self::process::Usage;
use self::tls::Tls;
use self::tokens::SigningKey;

fn main() -> ExitCode {
    let flags = Flags::parse();
    let checked = flags.check();
    let checked = checked.and_then(|()| Ok((flags.signing_key()?, flags.tls()?)));
    let (key, tls) = checked.unwrap_or_else(|error| refuse(&error));
    if let Err(error) = Usage::of_all(&flags.pid) {
        refuse(&error.to_string());
    }
    match run(&flags, key.as_ref(), tls) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("presenced-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags, key: Option<&SigningKey>, tls: Option<Tls>) -> io::Result<()> {
    if flags.shard.is_some() {
        return fleet::serve(Client::new(flags, key, tls)?, flags);
    }
    let report = run::run(flags, key, tls)?;
    let mut out = io::stdout().lock();
    match flags.json {
        true => writeln!(out, "{}", report.json()),
        false => writeln!(out, "{report}"),
    }
}

/// Exits as for an invalid flag: with the message, a hint at `--help`, and status 2.
fn refuse(message: &str) -> ! {
    Flags::command()
        .error(ErrorKind::ValueValidation, message)
        .exit()
}
