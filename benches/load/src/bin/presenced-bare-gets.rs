//! Asks a memcached for presence entries by bare pipelined `get`s, as fast as it answers: the yardstick for
//! pulls (`scripts/compare_pulls.py`).

#[path = "../../../common/bare_gets.rs"]
mod bare_gets;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use clap::Parser;

use self::bare_gets::{BareGets, KEYS_PER_GET};

/// Commands that are rendered beforehand, and sent over and over.
const COMMANDS: usize = 2000;

/// Commands between two looks at the clock.
const ROUND: usize = 200;

/// Asks a memcached for users by pipelined `get`s of 100 keys, and prints the rate as one JSON object.
#[derive(Debug, Parser)]
#[command(name = "presenced-bare-gets", version, max_term_width = 100)]
struct Flags {
    /// Address of memcached
    #[arg(long, default_value = "127.0.0.1:11211", value_name = "ADDR:PORT")]
    connect: SocketAddr,

    /// Prefix of the user ids, followed by a number below --population
    #[arg(long, default_value = "load-", value_name = "TEXT")]
    user_prefix: String,

    /// Users with that prefix, of whom each command asks for some
    #[arg(long, default_value = "100000", value_name = "COUNT")]
    population: NonZeroUsize,

    /// Time to measure for
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    duration: Duration,
}

fn main() -> io::Result<()> {
    let flags = Flags::parse();
    let keys = (0..COMMANDS * KEYS_PER_GET).map(|_| {
        let number = fastrand::usize(..flags.population.get());
        format!("user:{}{number}:online", flags.user_prefix)
    });
    let mut gets = BareGets::connect(flags.connect, keys)?;
    let started = Instant::now();
    let mut keys = 0;
    while started.elapsed() < flags.duration {
        gets.ask(ROUND)?;
        keys += ROUND * KEYS_PER_GET;
    }
    let seconds = started.elapsed().as_secs_f64();
    let report = serde_json::json!({
        "seconds": seconds,
        "keys": keys,
        "keys_per_second": keys as f64 / seconds,
    });
    println!("{report}");
    Ok(())
}
