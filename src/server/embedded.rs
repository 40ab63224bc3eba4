//! The store on the server's own workers.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::{io, iter};

use presenced_memcached::marker::Marker;
use presenced_memcached::{Cluster, NodeAddr};
use presenced_net::listen;
use presenced_store::{Listener, Options, Store, serve, serve_stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_util::sync::CancellationToken;

/// What an operator may set of it.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Connections to it at once, this server's own among them.
    pub connections_max: u32,
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
            connections_max: config.connections_max,
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

    /// Makes the marker whole: nobody but this process writes to the store, which begins with it,
    /// so there is no user who was written before.
    ///
    /// # Errors
    ///
    /// The store does not take it, which it does unless it has next to no memory.
    pub async fn vouch(&self, cluster: &Cluster) -> io::Result<()> {
        let marker = Marker {
            is_whole: true,
            ..Marker::young(cluster.topology().ring_hash(), 0)
        };
        let (config, value) = (&cluster.config().marker, marker.value());
        let (key, ttl_s) = (&config.key, config.ttl_s());
        let set = format!("set {key} 0 {ttl_s} {}\r\n{value}\r\nquit\r\n", value.len());
        let (mut ours, theirs) = duplex(1024);
        let serving = serve_stream(theirs, self.store.clone(), CancellationToken::new());
        let storing = async {
            ours.write_all(set.as_bytes()).await?;
            let mut answer = String::new();
            ours.read_to_string(&mut answer).await?;
            Ok::<_, io::Error>(answer)
        };
        match tokio::join!(serving, storing).1?.as_str() {
            "STORED\r\n" => Ok(()),
            answer => Err(io::Error::other(format!(
                "the embedded store says {answer:?}"
            ))),
        }
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
