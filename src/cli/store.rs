//! `presenced store`: the store alone, as memcached would run.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use clap::Args;
use rustix::process::{Resource, getrlimit};
use thiserror::Error;
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cli::times::{Time, time};
use crate::cli::units::size;
use crate::cli::{Size, cores};
use crate::limits::{
    DESCRIPTORS_PER_THREAD, IDLE_TIMEOUT, STORE_MEMORY_BYTES, STORE_MEMORY_BYTES_DEFAULT,
};
use presenced_presence::limits::SHARDS;
use presenced_store::limits::CONNECTIONS_MAX;
use presenced_store::listen;
use presenced_store::{Listener, Options, Store, serve};

/// Flags of `presenced store`.
#[derive(Args, Clone, Debug)]
pub struct StoreFlags {
    /// Address for memcached clients
    #[arg(
        long,
        env = "PRESENCED_STORE_TCP",
        default_value = "127.0.0.1:11211",
        value_name = "ADDR:PORT"
    )]
    pub listen: SocketAddr,

    /// Unix socket to listen on instead
    #[arg(long, env = "PRESENCED_STORE_UNIX", value_name = "PATH")]
    pub unix: Option<PathBuf>,

    /// Memory for items; beyond it what was used least recently goes
    #[arg(long, env = "PRESENCED_STORE_MEMORY", default_value_t = Size(STORE_MEMORY_BYTES_DEFAULT), value_name = "SIZE", value_parser = size(STORE_MEMORY_BYTES, "MiB"))]
    pub memory: Size,

    /// Threads, at most 64 [default: number of cores]
    #[arg(long, env = "PRESENCED_STORE_THREADS", value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=SHARDS as i64))]
    pub threads: Option<u16>,

    /// Connections at once; one more is told so and closed
    #[arg(long, env = "PRESENCED_STORE_MAX_CONNECTIONS", default_value_t = CONNECTIONS_MAX, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,

    /// How long a connection may do nothing [default: for ever]
    #[arg(long, env = "PRESENCED_STORE_IDLE_TIMEOUT", value_name = "DURATION", value_parser = time(IDLE_TIMEOUT))]
    pub idle_timeout: Option<Time>,
}

/// Why a store could not start, or ended.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A flag that can't work.
    #[error("{0}")]
    Flag(String),
    /// The address or file is taken, or not this machine's.
    #[error("cannot listen on {at}: {error}")]
    Listen {
        /// The address or the path.
        at: String,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The system refused something else that is needed.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
    /// A fault of the server's own.
    #[error("a thread of the store ended unexpectedly")]
    Thread,
}

/// A store that runs on threads of its own. Dropping it stops it.
#[derive(Debug)]
pub struct RunningStore {
    at: String,
    ends: mpsc::Receiver<io::Result<()>>,
    threads: Vec<thread::JoinHandle<()>>,
    stop: CancellationToken,
}

impl StoreFlags {
    /// Starts the store.
    ///
    /// # Errors
    ///
    /// Flags that can't work, an address that is taken, threads that the system refuses.
    pub fn start(&self) -> Result<RunningStore, StoreError> {
        let threads = self.threads.map_or_else(cores, usize::from);
        let options = self.options(threads)?;
        let (at, listeners) = self.bind(threads)?;
        let store = Arc::new(Store::new(options));
        let stop = CancellationToken::new();
        let (ending, ends) = mpsc::channel(threads);
        let mut handles = Vec::new();
        for (number, listener) in listeners.into_iter().enumerate() {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (store, stop, ending) = (store.clone(), stop.clone(), ending.clone());
            let thread = thread::Builder::new().name(format!("store-{number}"));
            handles.push(thread.spawn(move || {
                let ended = runtime.block_on(serve(listener, store, stop));
                // Nobody waits for it when the store was dropped.
                let _ = ending.blocking_send(ended);
            })?);
        }
        Ok(RunningStore {
            at,
            ends,
            threads: handles,
            stop,
        })
    }

    fn options(&self, threads: usize) -> Result<Options, StoreError> {
        let needed =
            u64::from(self.max_connections) + ((threads + 1) * DESCRIPTORS_PER_THREAD) as u64;
        let files = getrlimit(Resource::Nofile).current;
        if let Some(files) = files.filter(|&files| files < needed) {
            return Err(StoreError::Flag(format!(
                "--max-connections {}: needs {needed} open files, ulimit -n is {files}",
                self.max_connections
            )));
        }
        Ok(Options {
            memory_bytes_max: self.memory.in_memory(),
            connections_max: self.max_connections,
            idle_timeout: self.idle_timeout.as_ref().map(|time| time.duration),
            threads,
        })
    }

    fn bind(&self, threads: usize) -> Result<(String, Vec<Listener>), StoreError> {
        if let Some(path) = &self.unix {
            let at = path.display().to_string();
            let listeners = listen::unix(path, threads);
            let listeners = listeners.map_err(|error| StoreError::Listen {
                at: at.clone(),
                error,
            })?;
            return Ok((at, listeners.into_iter().map(Listener::Unix).collect()));
        }
        let listeners = listen::tcp(self.listen, threads);
        let at = self.listen.to_string();
        let listeners = listeners.map_err(|error| StoreError::Listen { at, error })?;
        let addr = listeners[0].local_addr()?;
        if !addr.ip().is_loopback() {
            tracing::warn!(
                listen = %addr,
                "memcached's protocol has no authentication: whoever reaches this address reads, writes and flushes the store"
            );
        }
        Ok((
            addr.to_string(),
            listeners.into_iter().map(Listener::Tcp).collect(),
        ))
    }
}

impl RunningStore {
    /// Returns when a thread ends, which none should before [`RunningStore::stop`].
    pub async fn failed(&mut self) -> StoreError {
        match self.ends.recv().await {
            Some(Err(error)) => StoreError::Start(error),
            _ => StoreError::Thread,
        }
    }

    /// Closes all connections and waits for the threads.
    pub fn stop(mut self) {
        self.stop.cancel();
        for thread in self.threads.drain(..) {
            // One that has panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Drop for RunningStore {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Where it listens.
impl fmt::Display for RunningStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.at)
    }
}
