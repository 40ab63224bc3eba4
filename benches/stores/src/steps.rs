//! What is measured, step by step.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::order::Order;
use crate::{Connection, Flags, Result, process};

/// Users of a pull.
const PULL: usize = 50;
const PULL_EVERY: Duration = Duration::from_millis(10);
/// How long refreshes are gathered.
const GATHERED: Duration = Duration::from_secs(5);
/// A fifth of the users is written at a time, and so each user every 25 s.
const PARTS: u32 = 5;
/// Users that are asked for at once when all are counted.
const COUNT_AT_ONCE: usize = 500;

/// A measurement that has begun.
struct Measured {
    start: Instant,
    server: Duration,
    client: Duration,
}

impl Measured {
    fn start(flags: &Flags) -> Result<Measured> {
        Ok(Measured {
            server: process::cpu(flags.pid)?,
            client: process::cpu(std::process::id())?,
            start: Instant::now(),
        })
    }

    fn end(self, flags: &Flags, written: u64) -> Result<Value> {
        let seconds = self.start.elapsed().as_secs_f64();
        let server = (process::cpu(flags.pid)? - self.server).as_secs_f64();
        let client = (process::cpu(std::process::id())? - self.client).as_secs_f64();
        Ok(
            json!({"written": written, "seconds": seconds, "server_cpu": server, "client_cpu": client}),
        )
    }
}

fn connect_all(flags: &Flags) -> Result<Vec<Box<dyn Connection>>> {
    (0..flags.connections).map(|_| flags.connect()).collect()
}

/// Writes on all connections at once: each takes its share of the places.
fn write_all(
    connections: &mut [Box<dyn Connection>],
    places: std::ops::Range<u64>,
    order: Order,
    deadline: Instant,
) -> Result<u64> {
    let step = connections.len();
    thread::scope(|scope| {
        let threads: Vec<_> = connections
            .iter_mut()
            .enumerate()
            .map(|(index, connection)| {
                let places = places.clone().skip(index).step_by(step).enumerate();
                // A look at the clock for each would take time.
                let mut users = places
                    .take_while(move |(nth, _)| nth % 256 != 0 || Instant::now() < deadline)
                    .map(move |(_, place)| order.user(place));
                scope.spawn(move || connection.write(&mut users))
            })
            .collect();
        let mut written = 0;
        for thread in threads {
            written += thread.join().map_err(|_| "a writer panicked")??;
        }
        Ok(written)
    })
}

fn far_away() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

pub fn fill(flags: &Flags) -> Result<Value> {
    let mut connections = connect_all(flags)?;
    let before = process::memory(flags.pid)?;
    let measured = Measured::start(flags)?;
    let places = 0..u64::from(flags.users);
    let written = write_all(
        &mut connections,
        places,
        Order::random(flags.users),
        far_away(),
    )?;
    let mut report = measured.end(flags, written)?;
    report["memory_before"] = before.into();
    Ok(report)
}

pub fn refresh(flags: &Flags) -> Result<Value> {
    let mut connections = connect_all(flags)?;
    let measured = Measured::start(flags)?;
    let deadline = Instant::now() + Duration::from_secs(flags.seconds.into());
    let written = write_all(
        &mut connections,
        0..u64::MAX,
        Order::random(flags.users),
        deadline,
    )?;
    measured.end(flags, written)
}

pub fn steady(flags: &Flags) -> Result<Value> {
    let mut connections = connect_all(flags)?;
    let mut reader = flags.connect()?;
    let (order, users) = (Order::random(flags.users), u64::from(flags.users));
    let periods = (flags.seconds.div_ceil(GATHERED.as_secs() as u32)).max(1);
    let measured = Measured::start(flags)?;
    let start = Instant::now();
    let deadline = start + GATHERED * periods;
    let (written, longest, latencies) = thread::scope(|scope| {
        let puller = scope.spawn(|| pull_until(&mut *reader, flags.users, start, deadline));
        let (mut written, mut longest) = (0, Duration::ZERO);
        for period in 0..periods {
            let due = start + GATHERED * period;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let part = u64::from(period % PARTS);
            let places = part * users / u64::from(PARTS)..(part + 1) * users / u64::from(PARTS);
            written += write_all(&mut connections, places, order, deadline)?;
            longest = longest.max(due.elapsed());
        }
        let latencies = puller.join().map_err(|_| "the reader panicked")??;
        Result::Ok((written, longest, latencies))
    })?;
    let mut report = measured.end(flags, written)?;
    report["due"] = (users * u64::from(periods) / u64::from(PARTS)).into();
    report["longest_flush"] = longest.as_secs_f64().into();
    report["pulls"] = latencies.len().into();
    for (name, share) in [("p50_ms", 0.5), ("p99_ms", 0.99), ("max_ms", 1.0)] {
        let place = ((latencies.len() as f64 * share).ceil() as usize).max(1) - 1;
        report[name] = (latencies[place].as_secs_f64() * 1000.0).into();
    }
    Ok(report)
}

/// Pulls at fixed times, and returns the sorted latencies. Each counts from when the pull was due, so that a pull that
/// waits for the one before it has waited, too.
fn pull_until(
    connection: &mut dyn Connection,
    users: u32,
    start: Instant,
    deadline: Instant,
) -> Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    let mut due = start;
    while due < deadline {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let wanted: Vec<u32> = (0..PULL).map(|_| fastrand::u32(..users)).collect();
        connection.pull(&wanted)?;
        latencies.push(due.elapsed());
        due += PULL_EVERY;
    }
    latencies.sort_unstable();
    Ok(latencies)
}

pub fn count(flags: &Flags) -> Result<Value> {
    let mut connection = flags.connect()?;
    let users: Vec<u32> = (0..flags.users).step_by(flags.every).collect();
    let mut found = 0;
    for some in users.chunks(COUNT_AT_ONCE) {
        found += connection.pull(some)?;
    }
    let mut report = usage_of(flags, &mut *connection)?;
    report["found"] = found.into();
    report["asked"] = users.len().into();
    Ok(report)
}

pub fn usage(flags: &Flags) -> Result<Value> {
    let mut connection = flags.connect()?;
    usage_of(flags, &mut *connection)
}

/// PostgreSQL's shared memory counts as far as a process that is alive has touched it, so `count` asks while its
/// connection is open.
fn usage_of(flags: &Flags, connection: &mut dyn Connection) -> Result<Value> {
    let mut report = json!({
        "memory": process::memory(flags.pid)?,
        "server_cpu": process::cpu(flags.pid)?.as_secs_f64(),
        "items": connection.items()?,
    });
    if let Some(table) = connection.table() {
        report["relation_bytes"] = table.relation_bytes()?.into();
        report["hot_share"] = table.hot_share()?.into();
    }
    Ok(report)
}

pub fn clean(flags: &Flags) -> Result<Value> {
    let mut connection = flags.connect()?;
    let table = connection
        .table()
        .ok_or("only PostgreSQL must be cleaned")?;
    let before = process::cpu(flags.pid)?;
    let (rows, deleted) = table.delete_expired()?;
    let between = process::cpu(flags.pid)?;
    let vacuumed = table.vacuum()?;
    let after = process::cpu(flags.pid)?;
    Ok(json!({
        "rows": rows,
        "delete_seconds": deleted.as_secs_f64(),
        "delete_cpu": (between - before).as_secs_f64(),
        "vacuum_seconds": vacuumed.as_secs_f64(),
        "vacuum_cpu": (after - between).as_secs_f64(),
    }))
}
