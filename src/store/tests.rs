//! The pure part with simulated time, against a plain model of what it should do; a connection over
//! a pipe that nobody reads.

use std::{collections::HashMap, sync::Arc, time::Duration};

use presenced_protocol::{Key, Limits, Parsed, Request, encode, request};
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use super::{
    ITEM_OVERHEAD_BYTES, Store,
    connection::Connection,
    execute::{After, execute, get, refuse},
    items::{Items, TooLarge},
    record::Now,
    serve::{CONNECTIONS_MAX, Open, serve},
    stats,
};

const MANY: usize = 1 << 30;

/// Unix time at the start of each test.
const UNIX_S: u64 = 1_700_000_000;

fn at(uptime_s: u32) -> Now {
    Now {
        uptime_s,
        unix_s: UNIX_S + u64::from(uptime_s),
    }
}

fn key(text: &str) -> Key<'_> {
    Key::new(text.as_bytes()).unwrap()
}

/// What is answered to `input`, all of which must be whole requests.
fn answers(items: &mut Items, uptime_s: u32, mut input: &[u8]) -> String {
    let mut out = Vec::new();
    while !input.is_empty() {
        let consumed = match request::parse(input, &Limits::default()) {
            Parsed::Incomplete => unreachable!("not whole: {}", input.escape_ascii()),
            Parsed::Request { request, consumed } => {
                run(items, request, at(uptime_s), &mut out);
                consumed
            }
            Parsed::Bad {
                answer,
                noreply,
                consumed,
                ..
            } => {
                refuse(items, &answer, noreply, &mut out);
                consumed
            }
        };
        input = &input[consumed..];
    }
    String::from_utf8(out).unwrap().replace("\r\n", "|")
}

fn run(items: &mut Items, request: Request<'_>, now: Now, out: &mut Vec<u8>) {
    if let Request::Get { mut keys, with_cas } = request {
        while !get(items, &mut keys, with_cas, now, out, MANY) {}
        return;
    }
    assert_eq!(execute(items, &request, now, out), After::Continue);
}

fn check(items: &mut Items, uptime_s: u32, input: &str, expected: &str) {
    assert_eq!(
        answers(items, uptime_s, input.as_bytes()),
        expected,
        "at {uptime_s}: {input:?}"
    );
}

#[test]
fn answers_each_command() {
    let items = &mut Items::new(MANY);
    check(
        items,
        5,
        "get a\r\ndelete a\r\ntouch a 0\r\n",
        "END|NOT_FOUND|NOT_FOUND|",
    );
    check(
        items,
        5,
        "set a 7 0 3\r\nxyz\r\nget a b a\r\n",
        "STORED|VALUE a 7 3|xyz|VALUE a 7 3|xyz|END|",
    );
    check(
        items,
        5,
        "set a 0 0 0\r\n\r\nset b 0 0 1\r\ny\r\n",
        "STORED|STORED|",
    );
    check(
        items,
        5,
        "gets a b\r\n",
        "VALUE a 0 0 2||VALUE b 0 1 3|y|END|",
    );
    check(
        items,
        5,
        "touch a 0\r\ndelete a\r\nget a\r\n",
        "TOUCHED|DELETED|END|",
    );
    check(
        items,
        5,
        "version\r\nflush_all\r\nget b\r\n",
        "VERSION 1.6.0-presenced|OK|END|",
    );
}

#[test]
fn says_nothing_when_told_so() {
    let items = &mut Items::new(MANY);
    check(
        items,
        5,
        "set a 0 0 1 noreply\r\nx\r\ntouch a 0 noreply\r\nget a\r\n",
        "VALUE a 0 1|x|END|",
    );
    check(
        items,
        5,
        "delete a noreply\r\nflush_all noreply\r\nget a\r\n",
        "END|",
    );
    check(items, 5, "touch a x noreply\r\ndelete a x noreply\r\n", "");
}

#[test]
fn expires_to_the_second() {
    let items = &mut Items::new(MANY);
    check(items, 5, "set a 0 60 1\r\nx\r\n", "STORED|");
    check(items, 64, "get a\r\n", "VALUE a 0 1|x|END|");
    check(
        items,
        65,
        "get a\r\ntouch a 9\r\ndelete a\r\n",
        "END|NOT_FOUND|NOT_FOUND|",
    );
    assert_eq!((items.len(), items.bytes()), (0, 0));
    // Each of the others finds it out too.
    for ask in ["touch a 9\r\n", "delete a\r\n"] {
        check(items, 70, "set a 0 1 1\r\nx\r\n", "STORED|");
        check(items, 71, ask, "NOT_FOUND|");
        assert_eq!((items.len(), items.bytes()), (0, 0));
    }
}

#[test]
fn reads_expiry_times_as_memcached_does() {
    let month = 60 * 60 * 24 * 30;
    let far = i64::try_from(UNIX_S).unwrap();
    // Expiry time, set at uptime 5, and how many seconds it lives.
    let cases = [
        (0, None),
        (-1, Some(0)),
        (i64::MIN, Some(0)),
        (1, Some(1)),
        (month, Some(2_592_000)),
        // Unix time from here on, and long ago.
        (month + 1, Some(0)),
        (far + 4, Some(0)),
        (far + 5, Some(0)),
        (far + 6, Some(1)),
        (far + 605, Some(600)),
        (i64::MAX, None),
    ];
    for (exptime, lives) in cases {
        for by_touch in [false, true] {
            let items = &mut Items::new(MANY);
            if by_touch {
                check(items, 5, "set a 0 0 1\r\nx\r\n", "STORED|");
                check(items, 5, &format!("touch a {exptime}\r\n"), "TOUCHED|");
            } else {
                check(
                    items,
                    5,
                    &format!("set a 0 {exptime} 1\r\nx\r\n"),
                    "STORED|",
                );
            }
            let dead_at = lives.map_or(u32::MAX, |seconds| 5 + seconds);
            if dead_at > 5 {
                check(items, dead_at - 1, "get a\r\n", "VALUE a 0 1|x|END|");
            }
            if dead_at < u32::MAX {
                check(items, dead_at, "get a\r\n", "END|");
            }
        }
    }
}

/// Found by trial with memcached 1.6.18, and just so: see [`Items::flush_all`].
#[test]
fn flushes_late() {
    let items = &mut Items::new(MANY);
    check(
        items,
        10,
        "set a 0 0 1\r\nx\r\nflush_all 3\r\nset b 0 0 1\r\nx\r\n",
        "STORED|OK|STORED|",
    );
    check(items, 11, "get a b\r\n", "VALUE a 0 1|x|VALUE b 0 1|x|END|");
    check(
        items,
        12,
        "get a b\r\nset c 0 0 1\r\nx\r\nget c\r\n",
        "END|STORED|END|",
    );
    check(
        items,
        13,
        "get c\r\nset d 0 0 1\r\nx\r\nget d\r\n",
        "END|STORED|VALUE d 0 1|x|END|",
    );
    check(items, 14, "get d\r\n", "VALUE d 0 1|x|END|");
}

#[test]
fn flushes_even_if_nobody_asks_at_the_time() {
    let items = &mut Items::new(MANY);
    check(
        items,
        10,
        "set a 0 0 1\r\nx\r\nflush_all 3\r\n",
        "STORED|OK|",
    );
    check(
        items,
        99,
        "set b 0 0 1\r\nx\r\nget a b\r\n",
        "STORED|VALUE b 0 1|x|END|",
    );
}

#[test]
fn a_later_flush_takes_the_place_of_one_to_come() {
    let items = &mut Items::new(MANY);
    check(
        items,
        10,
        "flush_all 3\r\nflush_all\r\nset a 0 0 1\r\nx\r\n",
        "OK|OK|STORED|",
    );
    check(items, 12, "get a\r\n", "VALUE a 0 1|x|END|");
    check(items, 12, &format!("flush_all {}\r\n", UNIX_S + 14), "OK|");
    check(items, 13, "get a\r\n", "END|");
}

#[test]
fn a_value_too_large_removes_the_last() {
    let items = &mut Items::new(MANY);
    for bytes in [1_048_517, 2_000_000] {
        check(items, 5, "set a 0 0 1\r\nx\r\n", "STORED|");
        let value = vec![b'y'; bytes];
        let mut out = Vec::new();
        encode::set(&mut out, key("a"), 0, 0, &value);
        let end = if bytes > 1_048_576 {
            out.len() - bytes - 2
        } else {
            out.len()
        };
        let answer = answers(items, 5, &out[..end]);
        assert_eq!(answer, "SERVER_ERROR object too large for cache|");
        check(items, 5, "get a\r\n", "END|");
    }
}

/// Found by trial with memcached 1.6.18.
#[test]
fn items_are_as_large_as_memcached_takes_them() {
    for (key_bytes, flags, value_bytes_max) in [
        (1, 0, 1_048_516),
        (1, 5, 1_048_512),
        (10, 0, 1_048_507),
        (250, 0, 1_048_267),
        (6, 1, 1_048_507),
    ] {
        let key = "k".repeat(key_bytes);
        let key = self::key(&key);
        let items = &mut Items::new(MANY);
        assert_eq!(
            items.set(key, flags, 0, &vec![0; value_bytes_max], at(0)),
            Ok(())
        );
        assert_eq!(
            items.set(key, flags, 0, &vec![0; value_bytes_max + 1], at(0)),
            Err(TooLarge)
        );
    }
}

#[test]
fn a_value_over_the_whole_limit_is_too_large_too() {
    let cost = 1 + 10 + ITEM_OVERHEAD_BYTES;
    let items = &mut Items::new(cost);
    assert_eq!(items.set(key("a"), 0, 0, &[0; 10], at(0)), Ok(()));
    assert_eq!(items.set(key("b"), 0, 0, &[0; 11], at(0)), Err(TooLarge));
    // Nothing was evicted for it.
    check(items, 0, "get b\r\n", "END|");
    assert_eq!(
        (items.len(), items.bytes(), items.tally().evictions),
        (1, cost, 0)
    );
}

#[test]
fn evicts_the_least_recently_used() {
    let cost = 1 + 1 + ITEM_OVERHEAD_BYTES;
    let items = &mut Items::new(3 * cost);
    check(
        items,
        0,
        "set a 0 0 1\r\nx\r\nset b 0 0 1\r\nx\r\nset c 0 0 1\r\nx\r\n",
        "STORED|STORED|STORED|",
    );
    check(
        items,
        0,
        "get a\r\ntouch b 0\r\n",
        "VALUE a 0 1|x|END|TOUCHED|",
    );
    check(items, 0, "set d 0 0 1\r\nx\r\nget c\r\n", "STORED|END|");
    // A larger value of the same key has room made for it, the old one's counted.
    check(items, 0, "set a 0 0 2\r\nxx\r\n", "STORED|");
    check(
        items,
        0,
        "get b a d\r\n",
        "VALUE a 0 2|xx|VALUE d 0 1|x|END|",
    );
    assert_eq!((items.bytes(), items.tally().evictions), (2 * cost + 1, 2));
}

#[test]
fn what_expired_goes_before_what_lives() {
    let cost = 1 + 1 + ITEM_OVERHEAD_BYTES;
    let items = &mut Items::new(2 * cost);
    check(
        items,
        0,
        "set a 0 1 1\r\nx\r\nset b 0 0 1\r\nx\r\n",
        "STORED|STORED|",
    );
    check(
        items,
        1,
        "set c 0 0 1\r\nx\r\nget b c\r\n",
        "STORED|VALUE b 0 1|x|VALUE c 0 1|x|END|",
    );
    assert_eq!((items.tally().evictions, items.tally().reclaimed), (0, 1));
}

#[test]
fn a_step_drops_what_expired_and_no_more_than_told() {
    let items = &mut Items::new(MANY);
    for number in 0..10 {
        items
            .set(key(&format!("k{number}")), 0, 60, b"x", at(number))
            .unwrap();
    }
    items.step(100, at(60));
    assert_eq!(items.len(), 9);
    items.step(3, at(1000));
    assert_eq!(items.len(), 6);
    items.flush_all(None, at(1000));
    items.set(key("new"), 0, 0, b"x", at(1000)).unwrap();
    assert_eq!(items.len(), 5);
    items.step(100, at(1000));
    assert_eq!(
        (items.len(), items.bytes()),
        (1, 3 + 1 + ITEM_OVERHEAD_BYTES)
    );
    assert_eq!(items.tally().reclaimed, 10);
}

#[test]
fn a_get_stops_when_its_answer_is_long() {
    let items = &mut Items::new(MANY);
    items.set(key("a"), 0, 0, &[b'x'; 100], at(0)).unwrap();
    let line = format!("get{}\r\n", " a".repeat(200));
    let Parsed::Request {
        request: Request::Get { mut keys, .. },
        ..
    } = request::parse(line.as_bytes(), &Limits::default())
    else {
        unreachable!("a get");
    };
    let (mut out, mut sent) = (Vec::new(), 0);
    while !get(items, &mut keys, false, at(0), &mut out, 1000) {
        assert!(out.len() < 1000 + 200);
        sent += out.len();
        out.clear();
    }
    let value = "VALUE a 0 100\r\n".len() + 100 + 2;
    assert_eq!(sent + out.len(), 200 * value + "END\r\n".len());
}

#[test]
fn counts_what_it_does() {
    let store = Store::new(MANY);
    {
        let items = &mut store.lock();
        check(
            items,
            0,
            "set a 0 0 1\r\nx\r\nget a b b\r\n",
            "STORED|VALUE a 0 1|x|END|",
        );
        check(items, 0, "set b 0 9 1\r\nx\r\n", "STORED|");
        check(items, 9, "get b\r\n", "END|");
        check(
            items,
            9,
            "touch a 0\r\ntouch b 0\r\ndelete b\r\n",
            "TOUCHED|NOT_FOUND|NOT_FOUND|",
        );
    }
    let counters = store.counters();
    assert_eq!(
        (counters.items, counters.bytes),
        (1, 2 + ITEM_OVERHEAD_BYTES as u64)
    );
    assert_eq!(
        (
            counters.hits,
            counters.misses,
            counters.sets,
            counters.expired
        ),
        (1, 3, 2, 1)
    );
    let mut out = Vec::new();
    stats::write(&mut out, &store.server(), &store.lock(), at(9));
    let stats = String::from_utf8(out).unwrap();
    for line in [
        "cmd_get 4",
        "get_hits 1",
        "get_expired 1",
        "curr_items 1",
        "total_items 2",
        "touch_misses 1",
    ] {
        assert!(
            stats.contains(&format!("STAT {line}\r\n")),
            "{line} in {stats}"
        );
    }
    assert!(stats.ends_with("END\r\n"));
}

/// What the store should be, without a limit: a map that looks at everything each time.
#[derive(Default)]
struct Model {
    /// Value and deadline.
    items: HashMap<u8, (u32, Option<u32>)>,
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Get(u8),
    Set(u8, i64),
    Touch(u8, i64),
    Delete(u8),
    FlushAll,
    Wait(u32),
    Step(usize),
}

impl Model {
    /// The answer at `uptime_s`; `number` makes each value another.
    fn answer(&mut self, operation: Operation, number: u32, uptime_s: u32) -> String {
        self.items
            .retain(|_, (_, deadline)| deadline.is_none_or(|deadline| deadline > uptime_s));
        let deadline = |exptime: i64| match exptime {
            0 => None,
            _ => Some(uptime_s + u32::try_from(exptime.max(0)).unwrap()),
        };
        match operation {
            Operation::Get(key) => match self.items.get(&key) {
                Some((value, _)) => {
                    format!("VALUE {key} 0 {}|{value}|END|", value.to_string().len())
                }
                None => "END|".into(),
            },
            Operation::Set(key, exptime) => {
                self.items.insert(key, (number, deadline(exptime)));
                "STORED|".into()
            }
            Operation::Touch(key, exptime) => match self.items.get_mut(&key) {
                Some(item) => {
                    item.1 = deadline(exptime);
                    "TOUCHED|".into()
                }
                None => "NOT_FOUND|".into(),
            },
            Operation::Delete(key) => match self.items.remove(&key) {
                Some(_) => "DELETED|".into(),
                None => "NOT_FOUND|".into(),
            },
            Operation::FlushAll => {
                self.items.clear();
                "OK|".into()
            }
            Operation::Wait(_) | Operation::Step(_) => String::new(),
        }
    }
}

fn operation() -> impl Strategy<Value = Operation> {
    let key = 0_u8..6;
    let exptime = prop_oneof![Just(0_i64), -1_i64..4];
    prop_oneof![
        6 => key.clone().prop_map(Operation::Get),
        4 => (key.clone(), exptime.clone()).prop_map(|(key, exptime)| Operation::Set(key, exptime)),
        2 => (key.clone(), exptime).prop_map(|(key, exptime)| Operation::Touch(key, exptime)),
        1 => key.prop_map(Operation::Delete),
        1 => Just(Operation::FlushAll),
        2 => (0_u32..3).prop_map(Operation::Wait),
        1 => (0_usize..3).prop_map(Operation::Step),
    ]
}

proptest! {
    #[test]
    fn answers_as_the_model_does(operations in prop::collection::vec(operation(), 0..80)) {
        let items = &mut Items::new(MANY);
        let mut model = Model::default();
        let mut uptime_s = 3;
        for (number, operation) in (0_u32..).zip(operations) {
            let value = number.to_string();
            let command = match operation {
                Operation::Get(key) => format!("get {key}\r\n"),
                Operation::Set(key, exptime) => format!("set {key} 0 {exptime} {}\r\n{value}\r\n", value.len()),
                Operation::Touch(key, exptime) => format!("touch {key} {exptime}\r\n"),
                Operation::Delete(key) => format!("delete {key}\r\n"),
                Operation::FlushAll => "flush_all\r\n".into(),
                Operation::Wait(seconds) => {
                    uptime_s += seconds;
                    continue;
                }
                Operation::Step(items_max) => {
                    items.step(items_max, at(uptime_s));
                    continue;
                }
            };
            let expected = model.answer(operation, number, uptime_s);
            prop_assert_eq!(answers(items, uptime_s, command.as_bytes()), expected, "{:?}", operation);
            prop_assert_eq!(items.len() == 0, items.bytes() == 0);
        }
    }

    /// The bytes never exceed the limit, are what the items add up to, and what was used last is
    /// still there.
    #[test]
    fn keeps_the_limit(
        bytes_max in 0_usize..2000,
        sets in prop::collection::vec((0_u8..20, 0_usize..600, any::<bool>()), 0..60),
    ) {
        let items = &mut Items::new(bytes_max);
        let mut order: Vec<(u8, usize)> = Vec::new();
        for (name, value_bytes, read) in sets {
            let name_text = format!("{name:02}");
            order.retain(|(other, _)| *other != name || read);
            if read {
                let found = items.get(key(&name_text), at(0), |found| found.value.len());
                let place = order.iter().position(|(other, _)| *other == name);
                let expected = place.map(|place| order.remove(place));
                prop_assert_eq!(found, expected.map(|(_, bytes)| bytes));
                order.extend(expected);
                continue;
            }
            let cost = |bytes: usize| 2 + bytes + ITEM_OVERHEAD_BYTES;
            let stored = items.set(key(&name_text), 0, 0, &vec![0; value_bytes], at(0));
            prop_assert_eq!(stored.is_ok(), cost(value_bytes) <= bytes_max);
            if stored.is_ok() {
                order.push((name, value_bytes));
                while order.iter().map(|(_, bytes)| cost(*bytes)).sum::<usize>() > bytes_max {
                    order.remove(0);
                }
            }
            let bytes: usize = order.iter().map(|(_, bytes)| cost(*bytes)).sum();
            prop_assert_eq!((items.len(), items.bytes()), (order.len(), bytes));
        }
    }
}

/// A client that asks and never reads is, in the end, not read from.
#[tokio::test]
async fn a_slow_reader_is_not_read_from() {
    let store = Arc::new(Store::new(MANY));
    store
        .lock()
        .set(key("a"), 0, 0, &[b'x'; 1000], at(0))
        .unwrap();
    let (mut client, server) = tokio::io::duplex(4096);
    let connection = Connection::new(server, Open::new(Arc::clone(&store)), true);
    let serving = tokio::spawn(connection.run());
    let question = b"get a a a a a a a a\r\n".repeat(100);
    let asking = async {
        let mut asked = 0;
        while tokio::time::timeout(Duration::from_millis(200), client.write_all(&question))
            .await
            .is_ok()
        {
            asked += question.len();
            assert!(asked < 1 << 20, "it takes what it can't answer");
        }
        asked
    };
    let asked = asking.await;
    assert!(asked < 64 * 1024, "{asked} bytes were taken");
    // Once the client reads, everything comes.
    let mut answer = vec![0; 100_000];
    client.read_exact(&mut answer).await.unwrap();
    drop(client);
    assert!(serving.await.unwrap().is_err());
    assert_eq!(store.counters().connections, 0);
}

/// Far from this machine nobody flushes or looks at statistics.
#[tokio::test]
async fn a_remote_client_may_not_flush() {
    let store = Arc::new(Store::new(MANY));
    let (mut client, server) = tokio::io::duplex(4096);
    let connection = Connection::new(server, Open::new(Arc::clone(&store)), false);
    let serving = tokio::spawn(connection.run());
    client
        .write_all(b"set a 0 0 1\r\nx\r\nflush_all\r\nstats\r\nget a\r\nquit\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    let refused = "CLIENT_ERROR only for clients on this machine\r\n";
    assert_eq!(
        answer,
        format!("STORED\r\n{refused}{refused}VALUE a 0 1\r\nx\r\nEND\r\n")
    );
    serving.await.unwrap().unwrap();
}

/// As many connections as are allowed are there already, and one more comes.
#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let store = Arc::new(Store::new(MANY));
    let others: Vec<Open> = (0..CONNECTIONS_MAX)
        .map(|_| Open::new(Arc::clone(&store)))
        .collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, Arc::clone(&store), stop.clone()));
    let mut told = String::new();
    let mut client = TcpStream::connect(address).await.unwrap();
    client.read_to_string(&mut told).await.unwrap();
    assert_eq!(told, "ERROR Too many open connections\r\n");
    drop(others);
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"get a\r\nquit\r\n").await.unwrap();
    told.clear();
    client.read_to_string(&mut told).await.unwrap();
    assert_eq!(told, "END\r\n");
    stop.cancel();
    serving.await.unwrap();
    let counters = store.counters();
    assert_eq!(
        (counters.connections, counters.connections_rejected),
        (0, 1)
    );
    assert_eq!(counters.connections_total, CONNECTIONS_MAX + 1);
}
