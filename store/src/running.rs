//! [`RunningStore`]: a store on threads of its own.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::{fmt, io};

use presenced_net::listen;
use thiserror::Error;
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::listener::{Listener, serve};
use crate::store::{Options, Store};

/// Where a store listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a port; port 0 is any that is free.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(addr) => addr.fmt(f),
            Address::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Why a store could not start, or ended.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The address or file is taken, or not this machine's.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Where it was to listen.
        address: Address,
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

/// A store that runs on threads of its own. Dropping it stops it, and waits for nothing.
#[derive(Debug)]
pub struct RunningStore {
    address: Address,
    store: Arc<Store>,
    /// One for each thread that has ended.
    ends: mpsc::Receiver<StoreError>,
    threads: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl RunningStore {
    /// Listens, and serves an empty store on [`Options::threads`] threads, at least on one.
    ///
    /// # Errors
    ///
    /// An address that is taken, threads that the system refuses.
    pub fn start(address: &Address, options: Options) -> Result<RunningStore, StoreError> {
        let threads = options.threads.max(1);
        let (address, listeners) = bind(address, threads)?;
        let (ending, ends) = mpsc::channel(threads);
        // From here on an error stops the threads that run already.
        let mut running = RunningStore {
            address,
            store: Arc::new(Store::new(Options { threads, ..options })),
            ends,
            threads: Vec::with_capacity(threads),
            stop: CancellationToken::new(),
        };
        for (number, listener) in listeners.into_iter().enumerate() {
            running.spawn(number, listener, ending.clone())?;
        }
        Ok(running)
    }

    fn spawn(
        &mut self,
        number: usize,
        listener: Listener,
        ending: mpsc::Sender<StoreError>,
    ) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (store, stop) = (self.store.clone(), self.stop.clone());
        let thread = thread::Builder::new().name(format!("store-{number}"));
        self.threads.push(thread.spawn(move || {
            let serving = || runtime.block_on(serve(listener, store, stop));
            let error = match catch_unwind(AssertUnwindSafe(serving)) {
                Ok(Err(error)) => StoreError::Start(error),
                // A panic was logged where it happened.
                Ok(Ok(())) | Err(_) => StoreError::Thread,
            };
            // Nobody waits for it when the store was stopped or dropped.
            let _ = ending.blocking_send(error);
        })?);
        Ok(())
    }

    /// Where it listens: the port is the one that clients connect to.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What is stored.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Returns when a thread ends, which none should before [`RunningStore::stop`].
    pub async fn failed(&mut self) -> StoreError {
        self.ends.recv().await.unwrap_or(StoreError::Thread)
    }

    /// Closes all connections and waits for the threads.
    pub fn stop(mut self) {
        self.stop.cancel();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for RunningStore {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A listener for each thread, and where they listen.
fn bind(address: &Address, threads: usize) -> Result<(Address, Vec<Listener>), StoreError> {
    let refused = |error| StoreError::Listen {
        address: address.clone(),
        error,
    };
    match address {
        Address::Unix(path) => {
            let listeners = listen::unix(path, threads).map_err(refused)?;
            let listeners = listeners.into_iter().map(Listener::Unix);
            Ok((address.clone(), listeners.collect()))
        }
        Address::Tcp(addr) => {
            let listeners = listen::tcp(*addr, threads).map_err(refused)?;
            let addr = listeners[0].local_addr()?;
            if !addr.ip().is_loopback() {
                tracing::warn!(
                    listen = %addr,
                    "memcached's protocol has no authentication: whoever reaches this address reads, writes and flushes the store"
                );
            }
            let listeners = listeners.into_iter().map(Listener::Tcp);
            Ok((Address::Tcp(addr), listeners.collect()))
        }
    }
}
