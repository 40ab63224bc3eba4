//! The flush as a whole, in virtual time.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use presenced_memcached::discovery::Discovery;
use presenced_memcached::network::{Dialler, Resolver};
use presenced_memcached::probe::{self, NoWrites};
use presenced_memcached::stream::Stream;
use presenced_memcached::{Cluster, Network, NodeList, NodeSpec};
use presenced_session::clock::Clock;
use presenced_session::slab::SessionKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Flusher, Presence};
use crate::limits::SHARDS;
use crate::users::Live;
use crate::{Config, Record, SessionId, Slot, UserId};

fn presence(cluster: Arc<Cluster>) -> Arc<Presence> {
    let config = Config::new(Record::new("{userId}", "edge-1", 0, 1).unwrap());
    Presence::new(&config, cluster, Clock::start(), Arc::default()).into()
}

fn connect(presence: &Presence, number: u32) -> Slot {
    let live = Live {
        connected_at_ms: 1,
        session: SessionId {
            worker: 0,
            key: SessionKey {
                index: number,
                generation: 0,
            },
        },
    };
    let user = UserId::new(&format!("u{number}")).unwrap();
    presence.connect(&user, live).slot
}

#[tokio::test(start_paused = true)]
async fn with_the_last_flush_the_regular_flush_is_over() {
    // Without a node, each flush gives a pending user back, and counts that.
    let presence = presence(Cluster::new([], Default::default()).into());
    let restored = || presence.metrics().restored.value();
    let slot = connect(&presence, 0);
    let mut tasks = JoinSet::new();
    let flusher = Flusher::start(&presence, 0, 1, &mut tasks);
    tasks.spawn(flusher.clone().run());
    presence.pending().record(slot);
    let interval = presence.flush_interval();
    sleep(3 * interval).await;
    assert!(restored() >= 2, "{}", restored());

    presence.begin_last_flush(30);
    // A turn that is due at this very moment is still had.
    sleep(Duration::from_millis(1)).await;
    let before = restored();
    sleep(3 * interval).await;
    assert_eq!(restored(), before);
    assert_eq!(presence.pending().len(), 1);
    assert!(!flusher.flush_all().await);
    assert!(restored() > before, "what is left to do is done");
}

/// How many users each read of a node finds.
type Writes = Arc<Mutex<Vec<usize>>>;

/// Answers as memcached does, a millisecond later.
async fn serve(stream: DuplexStream, writes: Writes) -> io::Result<()> {
    let (mut from, mut to) = split(stream);
    let (says, mut said) = unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        while let Some((at, answer)) = said.recv().await {
            sleep_until(at).await;
            to.write_all(&answer).await?;
        }
        io::Result::Ok(())
    });
    let mut asked = Vec::with_capacity(1 << 16);
    while from.read_buf(&mut asked).await? > 0 {
        let text = String::from_utf8_lossy(&asked);
        let (count, mut answer) = (text.matches("set ").count(), Vec::new());
        if text.contains("version") {
            answer.extend(b"VERSION 1.6.18\r\n");
        } else {
            writes.lock().unwrap().push(count);
        }
        answer.extend(b"STORED\r\n".repeat(count));
        let _ = says.send((Instant::now() + Duration::from_millis(1), answer));
        asked.clear();
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn who_connects_alone_is_written_at_once_and_many_are_written_together() {
    let (writes, mut tasks) = (Writes::default(), JoinSet::new());
    let dialler = Dialler::new({
        let writes = writes.clone();
        move |_| {
            let (ours, theirs) = duplex(1 << 16);
            tokio::spawn(serve(theirs, writes.clone()));
            Box::pin(async { Ok(Stream::Simulated(Box::new(ours))) })
        }
    });
    let mut config = presenced_memcached::Config::default();
    config.connect.network.dialler = dialler;
    let node = "10.0.0.1:1".parse::<NodeSpec>().unwrap().into();
    let presence = presence(Cluster::new([node], config).into());
    let flusher = Flusher::start(&presence, 0, 1, &mut tasks);
    sleep(Duration::from_secs(60)).await;
    let written = || -> Vec<_> { std::mem::take(&mut *writes.lock().unwrap()) };
    written();

    let began = Instant::now();
    flusher.write_now(connect(&presence, 0));
    while writes.lock().unwrap().is_empty() {
        yield_now().await;
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(written(), [1]);
    sleep(Duration::from_millis(10)).await;

    for number in 1..=1000 {
        flusher.write_now(connect(&presence, number));
        // The writer has its turn each time.
        yield_now().await;
        if number % 10 == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    sleep(Duration::from_millis(10)).await;
    let together = written();
    assert_eq!(together.iter().sum::<usize>(), 1000);
    assert!(together.len() < 1000 / 4, "{together:?}");
    assert_eq!(presence.metrics().restored.value(), 0);

    // A flush does not wait for more, though each of its shards is little work. Who connects meanwhile is written.
    presence.users().mark_all();
    let began = Instant::now();
    flusher.write_now(connect(&presence, 1001));
    flusher.write_now(connect(&presence, 1002));
    assert!(flusher.flush_all().await);
    assert!(
        began.elapsed() < Duration::from_millis(10),
        "{:?}",
        began.elapsed()
    );
    sleep(Duration::from_millis(10)).await;
    assert_eq!(written().iter().sum::<usize>(), 1003);
}

/// The addresses of a name, which change.
type Addresses = Arc<Mutex<Vec<SocketAddr>>>;

fn set(addresses: &Addresses, hosts: [&str; 2]) {
    let parsed = hosts.map(|host| format!("{host}:11211").parse().unwrap());
    *addresses.lock().unwrap() = parsed.into();
}

/// A cluster of the nodes at `addresses`, none of which answers, and which is kept up to date by
/// `tasks`.
async fn cluster_at(addresses: &Addresses, tasks: &mut JoinSet<()>) -> Arc<Cluster> {
    let addresses = addresses.clone();
    let resolver = Resolver::new(move |_, _| {
        let now = addresses.lock().unwrap().clone();
        Box::pin(async { Ok(now) })
    });
    let node: NodeSpec = "dns+nodes:11211".parse().unwrap();
    let mut discovery = Discovery::new(NodeList::from(vec![node]), resolver.clone());
    let mut config = presenced_memcached::Config::default();
    config.connect.network = Network {
        resolver,
        dialler: Dialler::new(|_| Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })),
        ..Network::default()
    };
    let cluster = Arc::new(Cluster::new(discovery.first().await, config));
    tasks.spawn(discovery.follow(cluster.clone(), Duration::from_secs(1)));
    let probe = probe::Config {
        interval: Duration::from_secs(1),
        entry_bytes: 64..=64,
        writes: Arc::new(NoWrites),
    };
    tasks.spawn(probe::watch(cluster.clone(), probe));
    cluster
}

/// Waits until the cluster has another topology.
async fn changed(cluster: &Cluster) {
    let before = cluster.topology().version();
    while cluster.topology().version() == before {
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn users_of_a_node_whose_number_another_has_by_now_have_moved() {
    let (addresses, mut tasks) = (Addresses::default(), JoinSet::new());
    set(&addresses, ["10.0.0.1", "10.0.0.9"]);
    let cluster = cluster_at(&addresses, &mut tasks).await;
    let presence = presence(cluster.clone());
    let slots: Vec<_> = (0..200).map(|number| connect(&presence, number)).collect();
    let node = |slot: &Slot| presence.users().node(*slot).unwrap();
    let before: Vec<_> = slots.iter().map(node).collect();

    // No shard has its turn between the two changes.
    for first in ["10.0.0.2", "10.0.0.3"] {
        set(&addresses, [first, "10.0.0.9"]);
        changed(&cluster).await;
    }
    let topology = cluster.topology();
    let at = |id| topology.nodes().iter().find(|node| node.id() == id);
    let name = |id| at(id).unwrap().addr().to_string();
    assert_eq!([name(0), name(1)], ["10.0.0.3:11211", "10.0.0.9:11211"]);
    let (mut kept, mut moved, mut renumbered) = (0, 0, 0);
    for shard in 0..SHARDS {
        presence.remap(shard).await;
        let mut pending = Vec::new();
        presence.pending().drain(shard, |slot| pending.push(slot));
        for (slot, before) in slots.iter().zip(&before) {
            if slot.shard() != shard {
                continue;
            }
            let is_pending = pending.contains(slot);
            match (*before, node(slot)) {
                (1, 1) => kept += u32::from(!is_pending),
                (0, 0) => renumbered += u32::from(is_pending),
                _ => moved += u32::from(is_pending),
            }
        }
        // It is over then.
        presence.remap(shard).await;
        presence.pending().drain(shard, |slot| panic!("{slot:?}"));
    }
    assert!(kept > 0 && moved > 0 && renumbered > 0);
    assert_eq!(kept + moved + renumbered, 200);
}
