//! `presenced store`: the store alone, as memcached would run.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use presenced_presence::limits::SHARDS;
use presenced_store::limits::CONNECTIONS_MAX;
use presenced_store::{Address, Options};
use rustix::process::{Resource, getrlimit};

use super::listen::address;
use super::times::{Time, time};
use super::units::size;
use super::{SettingsError, Size, cores};
use crate::limits::{
    DESCRIPTORS_PER_THREAD, IDLE_TIMEOUT, STORE_MEMORY_BYTES, STORE_MEMORY_BYTES_DEFAULT,
};

/// Flags of `presenced store`.
#[derive(Args, Clone, Debug)]
pub struct StoreFlags {
    /// Address for memcached clients
    #[arg(
        long,
        env = "PRESENCED_STORE_TCP",
        value_parser = address,
        default_value = "127.0.0.1:11211",
        value_name = "ADDR:PORT",
        conflicts_with = "unix"
    )]
    pub listen: SocketAddr,

    /// Unix socket to listen on instead of an address
    #[arg(long, env = "PRESENCED_STORE_UNIX", value_name = "PATH")]
    pub unix: Option<PathBuf>,

    /// Memory for items and for what connections hold; when it is full, items are evicted
    #[arg(long, env = "PRESENCED_STORE_MEMORY", default_value_t = Size(STORE_MEMORY_BYTES_DEFAULT), value_name = "SIZE", value_parser = size(STORE_MEMORY_BYTES, "MiB"))]
    pub memory: Size,

    /// Threads that serve clients, at most 64 [default: number of cores]
    #[arg(long, env = "PRESENCED_STORE_THREADS", value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=SHARDS as i64))]
    pub threads: Option<u16>,

    /// Most connections at once; further ones get an error and are closed
    #[arg(long, env = "PRESENCED_STORE_MAX_CONNECTIONS", default_value_t = CONNECTIONS_MAX, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,

    /// How long a connection may make no progress before it is closed [default: no limit]
    #[arg(long, env = "PRESENCED_STORE_IDLE_TIMEOUT", value_name = "DURATION", value_parser = time(IDLE_TIMEOUT))]
    pub idle_timeout: Option<Time>,
}

impl StoreFlags {
    /// Where the store listens, and what it may take.
    ///
    /// # Errors
    ///
    /// More connections than this process may open files.
    pub fn check(&self) -> Result<(Address, Options), SettingsError> {
        let threads = self.threads.map_or_else(cores, usize::from);
        let needed =
            u64::from(self.max_connections) + ((threads + 1) * DESCRIPTORS_PER_THREAD) as u64;
        let files = getrlimit(Resource::Nofile).current;
        if let Some(files) = files.filter(|&files| files < needed) {
            refuse!(
                "--max-connections {}: needs {needed} open files, ulimit -n is {files}",
                self.max_connections
            );
        }
        let address = match &self.unix {
            Some(path) => Address::Unix(path.clone()),
            None => Address::Tcp(self.listen),
        };
        let options = Options {
            memory_bytes_max: self.memory.in_memory(),
            connections_max: self.max_connections,
            idle_timeout: self.idle_timeout.as_ref().map(|time| time.duration),
            threads,
        };
        Ok((address, options))
    }
}
