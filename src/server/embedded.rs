//! The store on the server's own workers.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::{io, iter};

use presenced_memcached::NodeAddr;
use presenced_net::listen;
use presenced_store::{Listener, Options, Store, serve};
use tokio_util::sync::CancellationToken;

/// What an operator may set of it.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Memory for items, in bytes.
    pub memory_bytes: usize,
}

/// A store that listens already.
#[derive(Debug)]
pub struct EmbeddedStore {
    /// The address it listens on.
    pub addr: SocketAddr,
    /// Its items.
    pub store: Arc<Store>,
    listeners: Vec<TcpListener>,
}

/// What one worker serves of it.
#[derive(Debug)]
pub struct Part {
    listener: TcpListener,
    store: Arc<Store>,
}

impl EmbeddedStore {
    /// A store as `config` says, for this number of workers.
    ///
    /// # Errors
    ///
    /// The address is taken, or not this machine's.
    pub fn bind(config: &Config, workers: usize) -> io::Result<Self> {
        let listeners = listen::tcp(config.listen, workers)?;
        let options = Options {
            threads: workers,
            ..Options::new(config.memory_bytes)
        };
        Ok(EmbeddedStore {
            addr: listeners[0].local_addr()?,
            store: Arc::new(Store::new(options)),
            listeners,
        })
    }

    /// The store as the client sees it.
    pub fn node(&self) -> NodeAddr {
        NodeAddr::Tcp(self.addr.ip().to_string(), self.addr.port())
    }

    /// The workers' parts; without a store none, as often as is asked for.
    pub fn parts(store: Option<EmbeddedStore>) -> impl Iterator<Item = Option<Part>> {
        let parts = store.into_iter().flat_map(|embedded| {
            let store = embedded.store;
            let part = move |listener| Part {
                listener,
                store: store.clone(),
            };
            embedded.listeners.into_iter().map(part)
        });
        parts.map(Some).chain(iter::repeat_with(|| None))
    }
}

impl Part {
    /// Serves it until `stop`.
    pub async fn serve(self, stop: CancellationToken) {
        if let Err(error) = serve(Listener::Tcp(self.listener), self.store, stop).await {
            tracing::error!(%error, "the store cannot listen");
        }
    }
}
