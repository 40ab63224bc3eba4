//! Opens many sessions to a presenced or a like server, answers its pings, loads it as told, and
//! measures it from outside: what it answers and how fast, and, from `/proc` and `/metrics`, what
//! it takes.
//!
//! # Layout
//!
//! - [`flags`], [`mod@run`], [`phase`], [`report`], [`progress`]: from the flags through the phases to
//!   the result.
//! - [`client`]: all sessions of a process, one thread and one poll, so that the client takes as
//!   little of the machine as it can. [`socket`] is a connection, [`session`] what is said on it,
//!   without IO: [`handshake`], [`frame`], [`pull`], [`engine_io`], [`probes`], [`end`].
//! - [`pace`], [`part`]: how much is done when, and by whom. [`tokens`]: who sessions are.
//! - [`fleet`]: several processes in step.
//! - [`counts`], [`latency`]: what is counted. [`process`], [`metrics`]: what is read.

mod client;
mod counts;
mod end;
mod engine_io;
mod flags;
mod fleet;
mod frame;
mod handshake;
mod latency;
mod metrics;
mod pace;
mod part;
mod phase;
mod probes;
mod process;
mod progress;
mod pull;
mod report;
mod run;
mod session;
mod socket;
mod tokens;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use self::client::Client;
use self::flags::Flags;
use self::process::Usage;

fn main() -> ExitCode {
    let flags = Flags::parse();
    let secret = flags.check().and_then(|()| flags.secret());
    let secret = secret.unwrap_or_else(|error| refuse(&error));
    if let Err(error) = Usage::of_all(&flags.pid) {
        refuse(&error.to_string());
    }
    match run(&flags, secret.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("presenced-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags, secret: Option<&[u8]>) -> io::Result<()> {
    if flags.part.is_some() {
        return fleet::serve(Client::new(flags, secret)?, flags);
    }
    let report = run::run(flags, secret)?;
    let mut out = io::stdout().lock();
    match flags.json {
        true => writeln!(out, "{}", report.json()),
        false => writeln!(out, "{report}"),
    }
}

/// Ends the process as a wrong flag does: the message, a hint at `--help`, status 2.
fn refuse(message: &str) -> ! {
    Flags::command()
        .error(ErrorKind::ValueValidation, message)
        .exit()
}
