//! A real memcached and a store, and clients of both.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests, each of which uses some"
)]

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use presenced_store::{Listener, Options, Store, listen, serve};
use tokio_util::sync::CancellationToken;

/// How long an answer may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A real memcached on a free port of loopback.
pub struct Memcached {
    process: Child,
    pub address: SocketAddr,
}

impl Memcached {
    pub fn start() -> Memcached {
        Memcached::with(&[])
    }

    /// With more flags.
    pub fn with(flags: &[&str]) -> Memcached {
        // The port may be taken by another between the look and the use; then another is tried.
        (0..5)
            .find_map(|_| Memcached::try_start(flags))
            .expect("memcached does not start")
    }

    fn try_start(flags: &[&str]) -> Option<Memcached> {
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let port = address.port().to_string();
        let process = Command::new("memcached")
            // Only root needs to say as whom it is to run.
            .args(["-l", "127.0.0.1", "-p", &port, "-U", "0", "-u", "nobody"])
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs memcached: install the package of that name");
        let mut memcached = Memcached { process, address };
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if memcached.process.try_wait().unwrap().is_some() {
                return None;
            }
            if TcpStream::connect(address).is_ok() {
                return Some(memcached);
            }
            thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

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

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// All that is answered to `input`, sent in pieces of `piece` bytes on a new connection, until its end
/// or the server's.
pub fn answers(address: SocketAddr, input: &[u8], piece: usize) -> Vec<u8> {
    let stream = connect(address);
    let mut sender = stream.try_clone().unwrap();
    thread::scope(|scope| {
        // Beside the reading: neither server reads on while its answers aren't taken.
        scope.spawn(move || {
            let sent = input
                .chunks(piece)
                .try_for_each(|bytes| sender.write_all(bytes));
            until_closed(sent.and_then(|()| sender.shutdown(Shutdown::Write)));
        });
        let mut answers = Vec::new();
        until_closed((&stream).read_to_end(&mut answers));
        answers
    })
}

/// What is sent or read may end early where the server has closed: mostly in good order, but by a reset
/// where there is more than it has read.
pub fn until_closed<T>(done: io::Result<T>) {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    if let Err(error) = done {
        let is_end = matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected);
        assert!(is_end, "{error}");
    }
}
