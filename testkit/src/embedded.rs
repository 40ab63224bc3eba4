//! The store on threads of its own.

use std::{
    net::SocketAddr,
    sync::Arc,
    thread::{self, JoinHandle},
};

use presenced_store::{Listener, Options, Store, listen, serve};
use tokio_util::sync::CancellationToken;

/// A store on worker threads of its own.
pub struct Embedded {
    pub store: Arc<Store>,
    pub address: SocketAddr,
    stop: CancellationToken,
    threads: Vec<JoinHandle<()>>,
}

impl Embedded {
    pub fn start(memory_bytes_max: usize) -> Embedded {
        Embedded::with(Options {
            threads: 2,
            ..Options::new(memory_bytes_max)
        })
    }

    pub fn with(options: Options) -> Embedded {
        let store = Arc::new(Store::new(options));
        let stop = CancellationToken::new();
        let listeners = listen::tcp("127.0.0.1:0".parse().unwrap(), options.threads).unwrap();
        let address = listeners[0].local_addr().unwrap();
        let serve = |listener| {
            let (store, stop) = (Arc::clone(&store), stop.clone());
            thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime
                    .block_on(serve(Listener::Tcp(listener), store, stop))
                    .unwrap();
            })
        };
        let threads = listeners.into_iter().map(serve).collect();
        Embedded {
            store,
            address,
            stop,
            threads,
        }
    }

    /// Stops it and waits until it has.
    pub fn end(&mut self) {
        self.stop.cancel();
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.stop.cancel();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
