//! The store on threads of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use presenced_store::{Address, Options, RunningStore, Store};

/// A store on worker threads of its own.
pub struct Embedded {
    pub store: Arc<Store>,
    pub address: SocketAddr,
    running: Option<RunningStore>,
}

impl Embedded {
    pub fn start(memory_bytes_max: usize) -> Embedded {
        Embedded::with(Options {
            threads: 2,
            ..Options::new(memory_bytes_max)
        })
    }

    pub fn with(options: Options) -> Embedded {
        let free = Address::Tcp("127.0.0.1:0".parse().unwrap());
        let running = RunningStore::start(&free, options).unwrap();
        let Address::Tcp(address) = *running.address() else {
            panic!("a store on TCP listens at {}", running.address());
        };
        Embedded {
            store: Arc::clone(running.store()),
            address,
            running: Some(running),
        }
    }

    /// Stops it and waits until it has.
    pub fn end(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.end();
    }
}
