//! What a session costs on this host, measured: a server in this process, and its clients on loopback.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use clap::Parser;
use presenced_presence::UserId;
use presenced_session::clock::unix_ms;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Map, json};
use tokio::task::spawn_blocking;

use super::clients::Clients;
use super::costs::Costs;
use super::files::field;
use super::host::has_embedded_store;
use crate::cli::Flags;
use crate::limits::STORE_BYTES_PER_USER;
use crate::server::{Config, Server};
use crate::tokens::Signer;

/// Time between two pings, and two flushes, while it is measured: each heartbeat is written, as with the usual times.
const INTERVAL: Duration = Duration::from_secs(2);
/// Rounds of pings that are measured.
const ROUNDS: u32 = 2;
/// Both ends of a session are in this process, beside all that a server has.
const DESCRIPTORS_SHARE: u64 = 4;
/// With fewer sessions their memory can't be told from everything else's.
const MEMORY_SESSIONS_MIN: usize = 1000;
/// What one end of a connection takes in the kernel, at any rate. If it seems to take something else, another process
/// has taken or freed memory meanwhile.
const KERNEL_BYTES: std::ops::RangeInclusive<f64> = 1500.0..=15_000.0;

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    /// How many sessions there were.
    pub(super) sessions: usize,
    pub(super) costs: Costs,
    /// CPU time of a handshake.
    pub(super) handshake: Duration,
    pub(super) is_process_memory_measured: bool,
    pub(super) is_kernel_memory_measured: bool,
}

/// Serves `wanted` sessions for some seconds, or fewer if the limit of open files is low.
///
/// # Errors
///
/// The system allows no server, or not so many connections.
pub(super) async fn measure(
    config: &Config,
    wanted: usize,
) -> Result<Measured, Box<dyn Error + Send + Sync>> {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = usize::try_from(files / DESCRIPTORS_SHARE).unwrap_or(usize::MAX);
    let sessions = wanted.min(most).max(1);
    let own = server(config, sessions)?;
    let tokens = tokens(&own, sessions)?;
    let server = Server::start(own).await?;
    let addr = server.gateway_addr();
    let measured = spawn_blocking(move || measure_sessions(Clients::new(addr, sessions)?, &tokens));
    let mut measured = measured.await??;
    if measured.is_process_memory_measured && !has_embedded_store(config) {
        // The server here has one, and each user is in it.
        let process = &mut measured.costs.process_bytes;
        *process = (*process - STORE_BYTES_PER_USER as f64).max(0.0);
    }
    Ok(measured)
}

/// The settings of a server that only this process uses.
fn server(config: &Config, sessions: usize) -> Result<Config, Box<dyn Error + Send + Sync>> {
    let interval = format!("{INTERVAL:?}");
    let mut flags = Flags::try_parse_from([
        "presenced",
        "--listen=127.0.0.1:0",
        "--admin=127.0.0.1:0",
        "--store-listen=127.0.0.1:0",
        "--ping-timeout=1900ms",
        // As busy as one of many would be: a heartbeat costs less the more of them a worker has.
        "--workers=1",
        &format!("--ping-interval={interval}"),
        &format!("--flush-interval={interval}"),
        &format!("--coalesce={}ms", config.session.coalesce.as_millis()),
        &format!("--max-sessions={sessions}"),
    ])?;
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)?;
    let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    flags.tokens.issuer.jwt_secret = Some(secret.into());
    Ok(flags.check()?)
}

/// One for each session, of as many users.
fn tokens(config: &Config, sessions: usize) -> Result<Vec<String>, Box<dyn Error + Send + Sync>> {
    let secret = config.gateway.secret.as_ref().ok_or("no secret")?;
    let issuer = config.gateway.tokens.issuers.first().ok_or("no issuer")?;
    let signer = Signer::new(secret.as_bytes(), issuer);
    let expiry = json!(unix_ms() / 1000 + 3600);
    let token = |number| {
        let user = UserId::new(&format!("capacity-{number}"))?;
        let claims = Map::from_iter([("exp".to_owned(), expiry.clone())]);
        Ok(signer.sign(&user, None, claims)?)
    };
    (0..sessions).map(token).collect()
}

/// The first sessions settle everything that is there once, such as code that runs for the first time.
fn measure_sessions(
    mut clients: Clients,
    tokens: &[String],
) -> Result<Measured, Box<dyn Error + Send + Sync>> {
    let (first, rest) = tokens.split_at(tokens.len() / 4);
    clients.open(first)?;
    clients.serve(INTERVAL)?;
    let (memory, cpu) = (Memory::now(), server_cpu());
    clients.open(rest)?;
    let handshake = server_cpu().saturating_sub(cpu).div_f64(rest.len() as f64);
    clients.serve(INTERVAL)?;
    let (pongs, cpu) = (clients.pongs, server_cpu());
    clients.serve(ROUNDS * INTERVAL)?;
    let pongs = clients.pongs - pongs;
    if pongs == 0 {
        return Err("the server sent no ping".into());
    }
    let heartbeat = server_cpu().saturating_sub(cpu).div_f64(pongs as f64);
    let now = Memory::now();
    let per_session = |now: Option<u64>, before: Option<u64>| {
        let grown = now? as f64 - before? as f64;
        Some(grown / rest.len() as f64)
    };
    let process = per_session(now.process, memory.process)
        .filter(|bytes| *bytes > 0.0 && tokens.len() >= MEMORY_SESSIONS_MIN);
    // Both ends are in this kernel.
    let kernel = per_session(now.kernel, memory.kernel).map(|bytes| bytes / 2.0);
    let kernel = kernel.filter(|bytes| KERNEL_BYTES.contains(bytes));
    let usual = Costs::default();
    Ok(Measured {
        sessions: tokens.len(),
        costs: Costs {
            process_bytes: process.unwrap_or(usual.process_bytes),
            kernel_bytes: kernel.unwrap_or(usual.kernel_bytes),
            heartbeat,
        },
        handshake,
        is_process_memory_measured: process.is_some(),
        is_kernel_memory_measured: kernel.is_some(),
    })
}

/// CPU time of the process, but for this thread's, which is the clients'.
fn server_cpu() -> Duration {
    let [all, clients] = [ClockId::ProcessCPUTime, ClockId::ThreadCPUTime]
        .map(|clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default());
    all.saturating_sub(clients)
}

/// Memory in bytes, where the kernel tells.
struct Memory {
    process: Option<u64>,
    kernel: Option<u64>,
}

impl Memory {
    fn now() -> Memory {
        Memory {
            process: field(Path::new("/proc/self/smaps_rollup"), "Anonymous"),
            kernel: field(Path::new("/proc/meminfo"), "Slab"),
        }
    }
}
