//! What connections hold counts against the memory limit, and is given back however they end.

use std::sync::Arc;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::{JoinHandle, yield_now};

use super::connection::Connection;
use super::hold::Hold;
use super::open::Open;
use super::stat_counters::Count;
use super::{Options, Store};
use crate::limits::SHARD_BYTES_MIN;

/// A store of one shard.
const ONE_SHARD: usize = SHARD_BYTES_MIN;

fn store(bytes_max: usize) -> Arc<Store> {
    Arc::new(Store::new(Options::new(bytes_max)))
}

fn held(store: &Store) -> usize {
    usize::try_from(store.counters().held_bytes).unwrap()
}

/// One client, over a pipe that takes 1 KiB.
struct Client {
    stream: DuplexStream,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Client {
    fn new(store: &Arc<Store>) -> Client {
        let (stream, server) = tokio::io::duplex(1024);
        let open = Open::new(store).unwrap();
        let serving = tokio::spawn(Connection::new(server, open).run());
        Client { stream, serving }
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        settle().await;
    }

    /// What is answered to `bytes`, which must end in `mn`.
    async fn ask(&mut self, bytes: &[u8]) -> String {
        self.stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"MN\r\n") {
            let read = self.stream.read_buf(&mut answer).await.unwrap();
            assert!(read > 0, "closed after {}", answer.escape_ascii());
        }
        String::from_utf8(answer).unwrap().replace("\r\n", "|")
    }

    /// Hangs up, and waits for the other end.
    async fn end(self) {
        drop(self.stream);
        let _ = self.serving.await;
    }
}

/// All tasks of this thread have come to where they wait for their client.
async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

/// The line and a piece of a value of this length.
fn begun(key: &str, bytes: usize, sent: usize) -> Vec<u8> {
    let mut begun = format!("set {key} 0 0 {bytes}\r\n").into_bytes();
    begun.resize(begun.len() + sent, b'v');
    begun
}

#[tokio::test]
async fn a_value_counts_from_its_line_on() {
    let store = store(ONE_SHARD);
    let mut client = Client::new(&store);
    client.say(&begun("a", 1_000_000, 0)).await;
    assert_eq!(held(&store), begun("a", 1_000_000, 1_000_000).len() + 2);
    // It makes way for itself when it is whole, and is an item then.
    client.say(&vec![b'v'; 1_000_000]).await;
    assert_eq!(client.ask(b"\r\nmn\r\n").await, "STORED|MN|");
    assert_eq!((held(&store), store.counters().items), (0, 1));
    // One that is not begun at length, or not at all, is the connection's own.
    client.say(&begun("a", 5000, 3000)).await;
    assert_eq!(held(&store), 0);
    client.end().await;
}

#[tokio::test]
async fn a_begun_value_evicts_and_then_is_refused() {
    let store = store(ONE_SHARD);
    let mut first = Client::new(&store);
    for number in 0..8 {
        let whole = begun(&format!("k{number}"), 900_000, 900_000);
        first.say(&whole).await;
        assert_eq!(first.ask(b"\r\nmn\r\n").await, "STORED|MN|");
    }
    assert_eq!(store.counters().items, 8);
    let mut others = Vec::new();
    for number in 0..4 {
        others.push(Client::new(&store));
        let begun = begun(&format!("o{number}"), 1_000_000, 10);
        others[number].say(&begun).await;
        let counters = store.counters();
        assert!(counters.bytes + counters.held_bytes <= ONE_SHARD as u64);
    }
    // Connections hold half of the memory now, nearly.
    assert_eq!(store.counters().items, 4);
    assert_eq!(first.ask(b"set s 0 0 1\r\nx\r\nmn\r\n").await, "STORED|MN|");
    for (line, answer, left) in [
        (
            "set s 0 0 900000",
            "SERVER_ERROR out of memory storing object|MN|",
            "END|MN|",
        ),
        (
            "ms s 900000",
            "SERVER_ERROR out of memory storing object|MN|",
            "END|MN|",
        ),
        (
            "add s 0 0 900000",
            "SERVER_ERROR out of memory storing object|MN|",
            "VALUE s 0 1|x|END|MN|",
        ),
        ("set s 0 0 900000 noreply", "MN|", "END|MN|"),
    ] {
        first.ask(b"set s 0 0 1\r\nx\r\nmn\r\n").await;
        first.say(format!("{line}\r\n").as_bytes()).await;
        // The block is swallowed, whatever is in it, and costs nothing.
        let block = b"flush_all\r\n".repeat(90_000);
        first.say(&block[..900_000]).await;
        assert_eq!(
            held(&store),
            4 * (begun("o0", 1_000_000, 1_000_000).len() + 2)
        );
        assert_eq!(first.ask(b"\r\nmn\r\n").await, answer, "{line}");
        assert_eq!(first.ask(b"get s\r\nmn\r\n").await, left, "{line}");
    }
    assert_eq!(store.sum().counters.of(Count::OutOfMemory), 4);
    // A line has no block that could be swallowed.
    let line = format!("get {}", "k ".repeat(5000));
    let mut lines = Vec::new();
    while lines.len() < 100 {
        let mut client = Client::new(&store);
        let _ = client.stream.write_all(line.as_bytes()).await;
        settle().await;
        if client.serving.is_finished() {
            let mut told = String::new();
            client.stream.read_to_string(&mut told).await.unwrap();
            assert_eq!(told, "SERVER_ERROR out of memory reading request\r\n");
            break;
        }
        lines.push(client);
    }
    assert!(lines.len() < 100, "lines count");
    let told = first.ask(b"stats\r\nmn\r\n").await;
    let bytes = held(&store);
    for stat in [
        "read_buf_oom 1".to_owned(),
        format!("read_buf_bytes {bytes}"),
    ] {
        assert!(told.contains(&format!("|STAT {stat}|")), "{stat} in {told}");
    }
    // The others go on as if nothing had been.
    for client in &mut others {
        client.say(&vec![b'v'; 1_000_000 - 10]).await;
        assert_eq!(client.ask(b"\r\nmn\r\n").await, "STORED|MN|");
    }
    for client in others.into_iter().chain(lines).chain([first]) {
        client.end().await;
    }
    assert_eq!(held(&store), 0);
}

/// What connections hold leaves too little for an item only where an item takes most of the memory.
#[tokio::test]
async fn without_memory_a_whole_value_is_refused_too() {
    let store = store(1000);
    let mut client = Client::new(&store);
    let mut hold = Hold::new(Arc::clone(&store));
    hold.resize(1000).unwrap();
    assert_eq!(held(&store), 500);
    let no = "SERVER_ERROR out of memory storing object|";
    let value = "v".repeat(500);
    for (line, answer) in [
        (
            "set n 0 0 1\r\n9\r\nappend n 0 0 500",
            "STORED|NOT_STORED|MN|",
        ),
        ("add m 0 0 500", no),
        ("ms m 500 q", no),
        ("replace n 0 0 500", no),
        ("set n 0 0 500 noreply", ""),
    ] {
        let answer = format!("{}MN|", answer.trim_end_matches("MN|"));
        let asked = format!("{line}\r\n{value}\r\nmn\r\n");
        assert_eq!(client.ask(asked.as_bytes()).await, answer, "{line}");
        let left = match line.starts_with("set n 0 0 500") {
            true => "END|MN|",
            false => "VALUE n 0 1|9|END|MN|",
        };
        assert_eq!(client.ask(b"get n\r\nmn\r\n").await, left, "{line}");
    }
    assert_eq!(store.sum().counters.of(Count::OutOfMemory), 4);
    drop(hold);
    let asked = format!("set n 0 0 500\r\n{value}\r\nmn\r\n");
    assert_eq!(client.ask(asked.as_bytes()).await, "STORED|MN|");
    client.end().await;
}

/// As memcached says it.
#[tokio::test]
async fn without_memory_numbers_do_not_grow_and_nothing_is_made() {
    // A number of 16 digits fits beside what is held, and one of 20 does not.
    let cost = crate::item::cost(8 + 16);
    let store = store(2 * cost);
    let mut client = Client::new(&store);
    let set = b"set numberxy 0 0 16\r\n1234567890123456\r\nmn\r\n";
    assert_eq!(client.ask(set).await, "STORED|MN|");
    let mut hold = Hold::new(Arc::clone(&store));
    hold.resize(cost).unwrap();
    let delta = "10000000000000000000";
    let asked =
        format!("incr numberxy {delta}\r\nma numberxy D{delta}\r\nincr numberxy 1\r\nmn\r\n");
    let no = "SERVER_ERROR out of memory|";
    let told = format!("{no}{no}1234567890123457|MN|");
    assert_eq!(client.ask(asked.as_bytes()).await, told);
    let key = "k".repeat(200);
    let asked = format!("mg {key} N0\r\nma {key} N0\r\nmn\r\n");
    let told = "EN|SERVER_ERROR Out of memory allocating new item|MN|";
    assert_eq!(client.ask(asked.as_bytes()).await, told);
    client.end().await;
}

/// What a client does not read is held by whoever lets it wait: it evicts, and where there is
/// nothing left to evict the connection ends.
#[tokio::test]
async fn answers_that_nobody_reads_count() {
    let store = store(ONE_SHARD);
    let mut reader = Client::new(&store);
    reader.say(&begun("a", 500_000, 500_000)).await;
    assert_eq!(reader.ask(b"\r\nmn\r\n").await, "STORED|MN|");
    let mut slow: Vec<Client> = Vec::new();
    let ended = |slow: &[Client]| {
        slow.iter()
            .filter(|client| client.serving.is_finished())
            .count()
    };
    while ended(&slow) == 0 {
        assert!(slow.len() < 100, "they count");
        let mut client = Client::new(&store);
        client.say(b"get a\r\n").await;
        let counters = store.counters();
        assert!(counters.bytes + counters.held_bytes <= ONE_SHARD as u64);
        slow.push(client);
    }
    slow.retain(|client| !client.serving.is_finished());
    let told = reader.ask(b"stats\r\nmn\r\n").await;
    assert!(told.contains("|STAT response_obj_oom 1|"), "{told}");
    assert!(
        held(&store) > ONE_SHARD / 3,
        "{} of {}",
        held(&store),
        slow.len()
    );
    // Whoever reads gives it back.
    for client in &mut slow {
        let mut answer = vec![0; "VALUE a 0 500000\r\n\r\nEND\r\n".len() + 500_000];
        client.stream.read_exact(&mut answer).await.unwrap();
    }
    settle().await;
    assert_eq!(held(&store), 0);
}

/// What a client may do, of up to four.
#[derive(Clone, Debug)]
enum Act {
    /// Begins a value of this length, and sends a part of it.
    Begin(usize, usize),
    /// Sends more of what it has begun, or begins something with it.
    More(usize),
    /// Ends what it has begun, if it has.
    Finish,
    /// Asks for more than its pipe takes.
    Ask,
    /// Hangs up.
    Abort,
    /// Its task is ended from outside.
    Kill,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0_usize..2_000_000, 0_usize..100_000).prop_map(|(bytes, sent)| Act::Begin(bytes, sent.min(bytes))),
        3 => (0_usize..200_000).prop_map(Act::More),
        2 => Just(Act::Finish),
        2 => Just(Act::Ask),
        1 => Just(Act::Abort),
        1 => Just(Act::Kill),
    ]
}

/// Does it; what the pipe does not take at once is left.
async fn perform(store: &Arc<Store>, place: &mut Option<(Client, usize)>, act: Act) {
    let (client, missing) = place.get_or_insert_with(|| (Client::new(store), 0));
    let (bytes, left) = match act {
        Act::Begin(bytes, sent) if *missing == 0 => (begun("a", bytes, sent), bytes - sent + 2),
        Act::More(sent) => {
            let sent = sent.min(missing.saturating_sub(2));
            (vec![b'v'; sent], *missing - sent)
        }
        Act::Finish if *missing > 0 => {
            let mut rest = vec![b'v'; *missing - 2];
            rest.extend(b"\r\n");
            (rest, 0)
        }
        Act::Ask if *missing == 0 => (b"get a b a c a\r\n".repeat(500), 0),
        Act::Abort => {
            place.take().unwrap().0.end().await;
            return;
        }
        Act::Kill => {
            let (client, _) = place.take().unwrap();
            client.serving.abort();
            let _ = client.serving.await;
            return;
        }
        _ => return,
    };
    let sending = tokio::time::timeout(std::time::Duration::from_millis(1), async {
        let _ = client.stream.write_all(&bytes).await;
    });
    if sending.await.is_err() {
        // It does not read, so it is not read from, and can't go on where it was.
        place.take().unwrap().0.end().await;
        return;
    }
    *missing = left;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever has been begun, ended and aborted: there is never more than the limit, and nothing
    /// is held when all have ended.
    #[test]
    fn what_connections_hold_is_given_back(
        shards in 1_usize..3,
        acts in prop::collection::vec((0_usize..4, act()), 0..30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let bytes_max = shards * ONE_SHARD / 4;
            let store = store(bytes_max);
            let mut clients = [None, None, None, None];
            for (number, act) in acts {
                perform(&store, &mut clients[number], act).await;
                settle().await;
                let counters = store.counters();
                assert!(counters.bytes + counters.held_bytes <= bytes_max as u64);
            }
            for client in clients.into_iter().flatten() {
                client.0.end().await;
            }
            assert_eq!((held(&store), store.counters().connections), (0, 0));
        });
    }

    /// The holds of all connections and the items share the memory, in several shards.
    #[test]
    fn holds_are_what_they_add_up_to(sizes in prop::collection::vec((0_usize..6, 0_usize..9_000_000), 0..40)) {
        let bytes_max = 4 * ONE_SHARD;
        let store = store(bytes_max);
        let mut holds: Vec<_> = (0..6).map(|_| (Hold::new(Arc::clone(&store)), 0)).collect();
        for (number, bytes) in sizes {
            let sum: usize = holds.iter().map(|(_, bytes)| bytes).sum();
            let (hold, before) = &mut holds[number];
            match hold.resize(bytes) {
                Ok(()) => *before = bytes.min(ONE_SHARD / 2),
                // No shard has room for it.
                Err(_) => prop_assert!(sum + bytes > ONE_SHARD / 2),
            }
            let sum: usize = holds.iter().map(|(_, bytes)| bytes).sum();
            prop_assert_eq!(held(&store), sum);
            prop_assert!(sum <= bytes_max / 2);
        }
        drop(holds);
        prop_assert_eq!(held(&store), 0);
    }
}
