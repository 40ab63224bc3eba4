//! Puts the load of presence on a store, and prints what it took as JSON (scripts/compare_stores.py runs it).

mod order;
mod process;
mod steps;
mod table;
mod text;

use clap::{Parser, ValueEnum};

use table::{Options, Table};
use text::{Protocol, Text, WINDOW};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long an entry lasts.
const TTL_S: u32 = 60;

/// A connection to a store, with what presence needs of it.
trait Connection: Send {
    /// Writes users, and returns how many the server has acknowledged.
    fn write(&mut self, users: &mut dyn Iterator<Item = u32>) -> Result<u64>;

    /// Asks for users at once, and returns how many of them are online.
    fn pull(&mut self, users: &[u32]) -> Result<u64>;

    /// The number of entries, those included that have expired and are still in memory.
    fn items(&mut self) -> Result<u64>;

    /// The table, if the store is PostgreSQL.
    fn table(&mut self) -> Option<&mut Table> {
        None
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Store {
    Memcached,
    MemcachedNoreply,
    Redis,
    Postgresql,
}

#[derive(Clone, Copy, ValueEnum)]
enum Step {
    /// Writes each user once.
    Fill,
    /// Writes users for some time, as fast as it goes.
    Refresh,
    /// Writes each user every 25 s, gathered for 5 s, and pulls 50 at a time meanwhile.
    Steady,
    /// Asks for all users, and counts those who are online.
    Count,
    /// Counts entries, and says what the server has used.
    Usage,
    /// Removes what has expired from PostgreSQL's table.
    Clean,
}

/// Puts the load of presence on a store.
#[derive(Parser)]
struct Flags {
    store: Store,
    step: Step,
    /// Port on 127.0.0.1.
    #[arg(long)]
    port: u16,
    /// The server's process, whose CPU time and memory are measured.
    #[arg(long)]
    pid: u32,
    #[arg(long, value_parser = clap::value_parser!(u32).range(1000..))]
    users: u32,
    /// Connections that write.
    #[arg(long, default_value_t = 1)]
    connections: u32,
    /// How long to refresh. A steady load lasts for whole periods of 5 s.
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Count every nth user only.
    #[arg(long, default_value_t = 1)]
    every: usize,
    /// Rows of an upsert.
    #[arg(long, default_value_t = 5000)]
    batch: usize,
    /// How full PostgreSQL makes a page, in per cent, before updates.
    #[arg(long, default_value_t = 70)]
    fillfactor: u32,
    /// Whether PostgreSQL's table survives a crash.
    #[arg(long)]
    logged: bool,
    /// Password for PostgreSQL.
    #[arg(long, env, hide_env_values = true, default_value = "")]
    password: String,
}

impl Flags {
    fn connect(&self) -> Result<Box<dyn Connection>> {
        let window = WINDOW / u64::from(self.connections);
        let text = |protocol| -> Result<Box<dyn Connection>> {
            Ok(Box::new(Text::connect(self.port, protocol, window)?))
        };
        match self.store {
            Store::Memcached => text(Protocol::Memcached),
            Store::MemcachedNoreply => text(Protocol::MemcachedNoreply),
            Store::Redis => text(Protocol::Redis),
            Store::Postgresql => Ok(Box::new(Table::connect(&Options {
                port: self.port,
                password: self.password.clone(),
                batch: self.batch,
                fillfactor: self.fillfactor,
                logged: self.logged,
            })?)),
        }
    }
}

fn main() -> Result<()> {
    let flags = Flags::parse();
    let report = match flags.step {
        Step::Fill => steps::fill(&flags),
        Step::Refresh => steps::refresh(&flags),
        Step::Steady => steps::steady(&flags),
        Step::Count => steps::count(&flags),
        Step::Usage => steps::usage(&flags),
        Step::Clean => steps::clean(&flags),
    }?;
    println!("{report}");
    Ok(())
}
