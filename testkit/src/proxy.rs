//! A proxy before a node that does to replies what a network or a faulty middle does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Duration, sleep};

/// What happens to what memcached answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mischief {
    /// Nothing.
    None,
    /// A byte is another.
    Garble,
    /// It is said twice.
    Double,
    /// The connection ends in the middle of it.
    Cut,
    /// It comes late, but in time.
    Delay,
    /// What memcached is told comes late, but in time.
    Late,
    /// It comes much later than replies usually may.
    VeryLate,
    /// Nothing comes through, either way, and no one is told: a cable that is cut.
    Silence,
    /// The connection ends when a user's entry is to be written.
    NoEntries,
    /// It comes one line after another, each in time.
    Trickle,
}

/// Ends with its connections when dropped.
pub struct Proxy {
    /// For `--memcached`.
    pub node: String,
    mischief: Arc<AtomicU8>,
    connections: Arc<AtomicU64>,
    open: Arc<()>,
    _task: JoinSet<()>,
}

impl Proxy {
    pub async fn before(node: &str) -> Proxy {
        Proxy::at("127.0.0.1:0", node).await
    }

    /// The same, where it is told to listen.
    pub async fn at(listen: &str, node: &str) -> Proxy {
        let listener = TcpListener::bind(listen).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (mischief, connections) = (Arc::<AtomicU8>::default(), Arc::<AtomicU64>::default());
        let (open, mut task) = (Arc::new(()), JoinSet::new());
        let held = open.clone();
        let (node, wanted, count) = (node.to_string(), mischief.clone(), connections.clone());
        task.spawn(async move {
            let mut running = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                let (passing, held) = (pass(client, node.clone(), wanted.clone()), held.clone());
                running.spawn(async move {
                    passing.await;
                    drop(held);
                });
            }
        });
        Proxy {
            node: address,
            mischief,
            connections,
            open,
            _task: task,
        }
    }

    pub fn set(&self, mischief: Mischief) {
        self.mischief.store(mischief as u8, Ordering::Relaxed);
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        // One is here, one with what accepts.
        Arc::strong_count(&self.open) - 2
    }

    /// Connections so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn pass(mut client: TcpStream, node: String, mischief: Arc<AtomicU8>) {
    let is = |what: Mischief| mischief.load(Ordering::Relaxed) == what as u8;
    let Ok(mut server) = TcpStream::connect(node).await else {
        return;
    };
    let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
    loop {
        if is(Mischief::Silence) {
            sleep(Duration::from_millis(10)).await;
            continue;
        }
        // After a reset a kernel sends nothing again that was lost.
        if client.take_error().is_ok_and(|error| error.is_some()) {
            return;
        }
        tokio::select! {
            // What comes late must not come later still because there is more of it.
            biased;
            read = server.read(&mut down) => {
                let Ok(count) = read else { return };
                if count == 0 {
                    return;
                }
                let (middle, mut ends) = (count / 2, false);
                let mut reply = down[..count].to_vec();
                if is(Mischief::Garble) {
                    reply[middle] ^= 0x20;
                } else if is(Mischief::Double) {
                    reply.extend_from_slice(&down[..count]);
                } else if is(Mischief::Cut) {
                    reply.truncate(middle);
                    ends = true;
                } else if is(Mischief::Delay) {
                    sleep(Duration::from_millis(50)).await;
                }
                if is(Mischief::Trickle) {
                    for line in reply.split_inclusive(|byte| *byte == b'\n') {
                        if client.write_all(line).await.is_err() {
                            return;
                        }
                        sleep(Duration::from_millis(300)).await;
                    }
                } else if client.write_all(&reply).await.is_err() || ends {
                    return;
                }
            }
            read = client.read(&mut up) => match read {
                Ok(count) if count > 0 => {
                    let has_entry = up[..count].windows(9).any(|bytes| bytes == b"set user:");
                    if is(Mischief::NoEntries) && has_entry {
                        return;
                    }
                    if is(Mischief::Late) {
                        sleep(Duration::from_millis(300)).await;
                    } else if is(Mischief::VeryLate) {
                        sleep(Duration::from_secs(3)).await;
                    }
                    if !is(Mischief::Silence) && server.write_all(&up[..count]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
        }
    }
}
