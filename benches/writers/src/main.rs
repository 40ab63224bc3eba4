//! Writes entries with one memcached client, and prints the time and CPU time as JSON:
//! `presenced-writers CLIENT PORT USERS STRIDE` (scripts/compare_memcached.py runs it).

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_memcached::AsciiProtocol;
use memcached::proto::{MultiOperation, Operation, ProtoType};
use presenced_memcached::pipeline::WriteCommand;
use presenced_memcached::{Cluster, Config, NodeAddr, NodeSpec};
use presenced_presence::flush::{Flusher, Presence};
use presenced_presence::users::Live;
use presenced_presence::{Record, SessionId, UserId};
use presenced_session::clock::Clock;
use presenced_session::slab::SessionKey;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Builder;
use tokio::task::JoinSet;

type Done = Result<(), Box<dyn Error>>;

const TTL_S: u32 = 60;
/// Entries per call of clients that accept many.
const CHUNK: usize = 1000;
/// `set`s that the bare writer has in flight.
const WINDOW: usize = 8192;

fn main() -> Done {
    let arguments: Vec<_> = std::env::args().collect();
    let [_, client, port, users, stride] = &arguments[..] else {
        return Err("expected: CLIENT PORT USERS STRIDE".into());
    };
    let (port, users, stride): (u16, u32, u64) = (port.parse()?, users.parse()?, stride.parse()?);
    let numbers = (0..u64::from(users)).map(|index| (index * stride % u64::from(users)) as u32);
    let entries: Vec<_> = numbers.map(entry).collect();
    match &client[..] {
        "bare" => bare(port, &entries),
        "presenced" => presenced(port, users, WriteCommand::Set),
        "presenced-ms" => presenced(port, users, WriteCommand::Ms),
        "async-memcached" => run(users, async_memcached(port, &entries, CHUNK)),
        "async-memcached-1" => run(users, async_memcached(port, &entries, 1)),
        "memcache" => run(users, memcache(port, &entries)),
        "memcache-async" => run(users, memcache_async(port, &entries)),
        "mtop" => run(users, mtop(port, &entries)),
        "memcached-rs" => memcached_rs(port, &entries),
        other => Err(format!("no client {other}").into()),
    }
}

fn entry(number: u32) -> (String, String) {
    let value = format!(
        r#"{{"serverId":"server-1","connectedAt":1700000000000,"socketId":"00000001-0-{number}-0"}}"#
    );
    (format!("user:{number}:online"), value)
}

/// The measurement, from `start` to `report`.
struct Measured(Instant, Duration);

fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

impl Measured {
    fn start() -> Measured {
        Measured(Instant::now(), cpu())
    }

    fn report(self) {
        let (seconds, cpu) = (self.0.elapsed(), cpu() - self.1);
        let [seconds, cpu] = [seconds, cpu].map(|time| time.as_secs_f64());
        println!(r#"{{"seconds":{seconds:.4},"cpu":{cpu:.4}}}"#);
    }
}

fn run(_: u32, work: impl Future<Output = Done>) -> Done {
    Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

fn bare(port: u16, entries: &[(String, String)]) -> Done {
    let mut bytes = Vec::new();
    for (key, value) in entries {
        write!(bytes, "set {key} 0 {TTL_S} {}\r\n{value}\r\n", value.len())?;
    }
    let (each, total) = (bytes.len() / entries.len(), entries.len() * 8);
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let (mut sent, mut answered) = (0, 0);
    let mut replies = vec![0; 64 * 1024];
    let measured = Measured::start();
    while answered < total {
        let in_flight = (sent / each).saturating_sub(answered / 8);
        if sent < bytes.len() && in_flight < WINDOW {
            let end = bytes.len().min(sent + 64 * 1024);
            stream.write_all(&bytes[sent..end])?;
            sent = end;
        } else {
            // Otherwise each of memcached's small writes would wake us, which costs memcached time.
            if in_flight > WINDOW / 32 {
                std::thread::sleep(Duration::from_millis(1));
            }
            answered += stream.read(&mut replies)?;
        }
    }
    measured.report();
    Ok(())
}

fn presenced(port: u16, users: u32, command: WriteCommand) -> Done {
    let node = NodeSpec::from(NodeAddr::Tcp("127.0.0.1".into(), port));
    let mut options = Config::default();
    options.connect.write_command = command;
    let presence = Arc::new(Presence::new(
        &presenced_presence::Config {
            sessions_per_user_max: 1,
            ..presenced_presence::Config::new(Record::new(
                "user:{userId}:online",
                "server-1",
                0,
                1,
            )?)
        },
        Arc::new(Cluster::new([node.into()], options)),
        Clock::start(),
        Arc::default(),
    ));
    run(users, async {
        let mut tasks = JoinSet::new();
        let flusher = Flusher::start(&presence, 0, 1, &mut tasks);
        for number in 0..users {
            let session = SessionId {
                worker: 0,
                key: SessionKey {
                    index: number,
                    generation: 0,
                },
            };
            let connected_at_ms = 1_700_000_000_000;
            let live = Live {
                connected_at_ms,
                session,
            };
            presence.connect(&UserId::new(&number.to_string())?, live);
        }
        // With nobody pending, a flush fails until the connection is up.
        while !flusher.flush_all().await {
            tokio::task::yield_now().await;
        }
        presence.users().mark_all();
        let measured = Measured::start();
        if !flusher.flush_all().await {
            return Err("not all were written".into());
        }
        measured.report();
        Ok(())
    })
}

async fn async_memcached(port: u16, entries: &[(String, String)], chunk: usize) -> Done {
    let mut client = async_memcached::Client::new(format!("tcp://127.0.0.1:{port}")).await?;
    let measured = Measured::start();
    for chunk in entries.chunks(chunk) {
        if let [(key, value)] = chunk {
            client
                .set(key, value.as_str(), Some(TTL_S.into()), None)
                .await?;
        } else {
            let pairs: Vec<_> = chunk
                .iter()
                .map(|(k, v)| (k.as_str(), v.as_str()))
                .collect();
            client.set_multi(&pairs, Some(TTL_S.into()), None).await?;
        }
    }
    measured.report();
    Ok(())
}

async fn memcache(port: u16, entries: &[(String, String)]) -> Done {
    let address = [format!("127.0.0.1:{port}")];
    let client = memcache::exp::AsyncMemcache::connect(address).await?;
    let measured = Measured::start();
    for chunk in entries.chunks(CHUNK) {
        let pairs = chunk.iter().map(|(key, value)| (key, value.as_bytes()));
        client
            .set_many(pairs, Duration::from_secs(TTL_S.into()))
            .await?;
    }
    measured.report();
    Ok(())
}

async fn memcache_async(port: u16, entries: &[(String, String)]) -> Done {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let mut client = memcache_async::ascii::Protocol::new(stream);
    let measured = Measured::start();
    for (key, value) in entries {
        client.set(key, value.as_bytes(), TTL_S).await?;
    }
    // It is answered once all commands before it are done.
    client.version().await?;
    measured.report();
    Ok(())
}

async fn mtop(port: u16, entries: &[(String, String)]) -> Done {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    let mut client = mtop_client::Memcached::new(read, write);
    let measured = Measured::start();
    for (key, value) in entries {
        let key = mtop_client::Key::try_from(key.as_str())?;
        client.set(&key, 0, TTL_S, value).await?;
    }
    measured.report();
    Ok(())
}

fn memcached_rs(port: u16, entries: &[(String, String)]) -> Done {
    let server = format!("tcp://127.0.0.1:{port}");
    let mut client = memcached::Client::connect(&[(&server[..], 1)], ProtoType::Binary)?;
    // The client connects on first use.
    client.set(b"warm", b"up", 0, TTL_S)?;
    let measured = Measured::start();
    for chunk in entries.chunks(CHUNK) {
        let entries = chunk
            .iter()
            .map(|(k, v)| (k.as_bytes(), (v.as_bytes(), 0, TTL_S)));
        client.set_multi(entries.collect::<BTreeMap<_, _>>())?;
    }
    measured.report();
    Ok(())
}
