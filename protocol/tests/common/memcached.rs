//! A real memcached.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A process on a free port of loopback, killed when dropped.
pub struct Memcached {
    process: Child,
    address: SocketAddr,
}

impl Memcached {
    pub fn start() -> Memcached {
        // The port may be taken by another between the look and the use; then another is tried.
        (0..5)
            .find_map(|_| Memcached::try_start())
            .expect("memcached does not start")
    }

    fn try_start() -> Option<Memcached> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let port = address.port().to_string();
        let process = Command::new("memcached")
            // Only root needs to say as whom it is to run.
            .args(["-l", "127.0.0.1", "-p", &port, "-U", "0", "-u", "nobody"])
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

    /// All that is answered to `input` on a new connection until it ends.
    pub fn answers(&self, input: &[u8]) -> Vec<u8> {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answers = Vec::new();
        thread::scope(|scope| {
            // Beside the reading: it does not read on while its answers aren't taken.
            scope.spawn(|| {
                // Fails where memcached hangs up before the end, which may be what is tested.
                if (&stream).write_all(input).is_ok() {
                    let _ = stream.shutdown(Shutdown::Write);
                }
            });
            // A reset is an end, too.
            let _ = (&stream).read_to_end(&mut answers);
        });
        answers
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
