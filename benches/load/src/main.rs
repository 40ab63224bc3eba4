//! Opens many sessions to a presenced, answers its pings, and measures the server from outside:
//! resident memory and CPU time of its process, from `/proc`.
//!
//! One thread and one poll, so that the client takes as little of the machine as it can.

mod client;
mod process;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use self::client::Client;
use self::process::Process;

/// Opens sessions to a presenced, answers its pings, and measures the server.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Flags {
    /// The server's --listen
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR:PORT")]
    connect: SocketAddr,
    /// The server's --jwt-secret-file
    #[arg(long, value_name = "FILE")]
    jwt_secret_file: PathBuf,
    /// Sessions to open, each of a user of its own
    #[arg(long, default_value_t = 1000, value_name = "COUNT")]
    sessions: usize,
    /// Handshakes under way at a time
    #[arg(long, default_value_t = 64, value_name = "COUNT")]
    at_a_time: usize,
    /// Time to answer pings before the measurement, so that what a burst leaves behind settles
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    settle: Duration,
    /// Time of the measurement
    #[arg(long, default_value = "20s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    duration: Duration,
    /// The server's process, to be measured
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("presenced-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> io::Result<()> {
    raise_file_limit(flags.sessions)?;
    let secret = std::fs::read(&flags.jwt_secret_file)?;
    let secret = secret.strip_suffix(b"\n").unwrap_or(&secret);
    let process = flags.pid.map(Process::new);
    let usage = || process.as_ref().map(Process::usage).transpose();

    let empty = usage()?;
    let mut client = Client::new(flags.connect, secret)?;
    let begun = Instant::now();
    client.open(flags.sessions, flags.at_a_time)?;
    let opened_in = begun.elapsed();
    let opened = usage()?;
    client.answer_for(flags.settle)?;

    let (before, pings_before) = (usage()?, client.pings());
    let measured = Instant::now();
    client.answer_for(flags.duration)?;
    let (after, pings) = (usage()?, client.pings() - pings_before);

    let seconds = measured.elapsed().as_secs_f64();
    let mut report = serde_json::json!({
        "sessions": client.open_sessions(),
        "lost": client.lost(),
        "handshakes_per_second": flags.sessions as f64 / opened_in.as_secs_f64(),
        "pings": pings,
        "pings_per_second": pings as f64 / seconds,
    });
    if let (Some(empty), Some(opened), Some(before), Some(after)) = (empty, opened, before, after) {
        let per = |amount: f64, count: usize| amount / count.max(1) as f64;
        let grown = after.rss_bytes as f64 - empty.rss_bytes as f64;
        report["rss_bytes_empty"] = empty.rss_bytes.into();
        report["rss_bytes"] = after.rss_bytes.into();
        report["bytes_per_session"] = per(grown, client.open_sessions()).into();
        let handshakes = (opened.cpu - empty.cpu).as_secs_f64();
        report["cpu_us_per_handshake"] = per(handshakes * 1e6, flags.sessions).into();
        let cpu = (after.cpu - before.cpu).as_secs_f64();
        report["cpu_seconds"] = cpu.into();
        report["cpu_us_per_ping_and_pong"] = per(cpu * 1e6, pings as usize).into();
    }
    print(&report, flags.json);
    Ok(())
}

fn print(report: &serde_json::Value, json: bool) {
    if json {
        println!("{report}");
        return;
    }
    for (name, value) in report.as_object().into_iter().flatten() {
        match value.as_f64().filter(|_| value.is_f64()) {
            Some(number) => println!("{name:26} {number:.2}"),
            None => println!("{name:26} {value}"),
        }
    }
}

/// A session is a descriptor.
fn raise_file_limit(sessions: usize) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let hard = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: hard,
        maximum: hard,
    };
    setrlimit(Resource::Nofile, raised)?;
    match hard {
        Some(limit) if limit < sessions as u64 + 32 => Err(io::Error::other(format!(
            "--sessions {sessions}: the limit of open files (ulimit -n) is {limit}; \
             start several of these"
        ))),
        _ => Ok(()),
    }
}
