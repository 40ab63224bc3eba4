//! A memcached at the other end of a network that can be cut.

use std::net::SocketAddr;

use crate::cable::Cable;
use crate::kernel_sockets::{FIN_WAIT_1, KernelSocket};
use crate::memcached::Memcached;
use crate::proxy::{Mischief, Proxy};

/// The way to a memcached, which can be cut without a word to either side.
pub struct Network {
    pub memcached: Memcached,
    /// Where no real network can be made.
    proxy: Option<Proxy>,
}

impl Network {
    pub async fn lay() -> Network {
        if let Some(cable) = Cable::lay() {
            return Network {
                memcached: Memcached::start_beyond(cable).await,
                proxy: None,
            };
        }
        eprintln!("no network namespace without root and `ip`: a proxy goes silent instead");
        let memcached = Memcached::start().await;
        let proxy = Proxy::before(&memcached.node()).await;
        Network {
            memcached,
            proxy: Some(proxy),
        }
    }

    /// For `--memcached`.
    pub fn node(&self) -> String {
        let proxy = self.proxy.as_ref().map(|proxy| proxy.node.clone());
        proxy.unwrap_or_else(|| self.memcached.node())
    }

    /// Connections to memcached that were closed on this side, and of which this machine's kernel
    /// has something to deliver still.
    pub fn undelivered(&self) -> usize {
        let node: SocketAddr = self.node().parse().unwrap();
        let is_held = |socket: &KernelSocket| socket.remote == node && socket.state == FIN_WAIT_1;
        KernelSocket::all().into_iter().filter(is_held).count()
    }

    /// Nothing comes back from now on.
    pub fn cut(&self) {
        match &self.proxy {
            Some(proxy) => proxy.set(Mischief::Silence),
            None => self.memcached.cable().unwrap().cut(),
        }
    }

    /// As if nothing had been.
    pub fn mend(&self) {
        match &self.proxy {
            Some(proxy) => proxy.set(Mischief::None),
            None => self.memcached.cable().unwrap().mend(),
        }
    }
    /// Nothing gets there from now on.
    pub fn divert(&self) {
        match &self.proxy {
            Some(proxy) => proxy.set(Mischief::Silence),
            None => self.memcached.cable().unwrap().divert(),
        }
    }

    /// As if nothing had been, but for what is sent again.
    pub fn lead_back(&self) {
        match &self.proxy {
            Some(proxy) => proxy.set(Mischief::None),
            None => self.memcached.cable().unwrap().lead_back(),
        }
    }
}
