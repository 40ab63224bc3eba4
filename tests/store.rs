//! The embedded store beside a real memcached: the same bytes go to both, and the same must come
//! back, but for what names the server (its version, statistics, CAS numbers).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests may"
)]

mod store_support;

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use store_support::{Embedded, Memcached, answers, connect};

/// The answers as lines, without what may differ: the version, and of a key's CAS numbers all but
/// which are the same and which are greater.
fn comparable(answers: &[u8]) -> Vec<String> {
    let text = answers.escape_ascii().to_string();
    let lines: Vec<&str> = text.split("\\r\\n").collect();
    let cas = |line: &str| -> Option<(String, u64)> {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, key, _, _, cas] = words[..] else {
            return None;
        };
        (words[0] == "VALUE").then(|| (key.to_owned(), cas.parse().unwrap()))
    };
    let numbers: BTreeSet<(String, u64)> = lines.iter().copied().filter_map(cas).collect();
    let rank = |number: &(String, u64)| {
        numbers
            .range(..number)
            .filter(|(key, _)| *key == number.0)
            .count()
    };
    let shown = lines.iter().map(|&line| match cas(line) {
        Some(number) => {
            let (rest, _) = line.rsplit_once(' ').unwrap();
            format!("{rest} #{}", rank(&number))
        }
        None if line.starts_with("VERSION ") => "VERSION".into(),
        None => line.into(),
    });
    shown.collect()
}

/// What both must answer alike. Each ends with `version`, which shows that they are in step.
const TRANSCRIPTS: &[&str] = &[
    // Storing and looking up.
    "set a 1 0 3\r\nabc\r\nget a\r\nget a b a\r\ngets a\r\n",
    "set a 0 0 1\r\nx\r\ngets a\r\nset b 0 0 1\r\ny\r\ngets b a\r\nset a 0 0 1\r\nx\r\ngets a b\r\n",
    "set a 0 0 0\r\n\r\nget a\r\nset a 4294967295 0 2\r\n\r\n\r\nget a\r\n",
    "set a 0 0 1\nx\r\nget a\n",
    "  get   a  b \r\nset  a  7 0  1 \r\nx\r\nget a\r\n",
    "set zo\u{eb} 0 0 2\r\n\u{eb}\r\nget zo\u{eb}\r\n",
    "set a +1 +0 +1\r\nx\r\nget a\r\nset a 010 0 01\r\ny\r\nget a\r\n",
    "set noreply 0 0 1\r\nx\r\nget noreply\r\ndelete noreply\r\n",
    // Without replies.
    "set a 0 0 1 noreply\r\nx\r\nget a\r\ntouch a 0 noreply\r\ndelete a noreply\r\nget a\r\n",
    "set a 0 0 1 whatever\r\nx\r\nget a\r\nset a 0 0 1 2 noreply\r\nx\r\nget a\r\n",
    // Removing.
    "set a 0 0 1\r\nx\r\ndelete a\r\ndelete a\r\nget a\r\ntouch a 0\r\n",
    "set a 0 0 1\r\nx\r\ndelete a 0\r\ndelete a 1\r\ndelete a b c\r\ndelete a b c d\r\ndelete\r\n",
    "delete a x noreply\r\ndelete a 0 noreply\r\ndelete a noreply noreply\r\ndelete a 0 0\r\n",
    // Expiry at once.
    "set a 0 0 1\r\nx\r\nset a 0 -1 1\r\ny\r\nget a\r\ntouch a 0\r\ndelete a\r\n",
    "set a 0 0 1\r\nx\r\ntouch a -1\r\nget a\r\nset a 0 2592001 1\r\nx\r\nget a\r\n",
    "set a 0 2592000 1\r\nx\r\nget a\r\ntouch a 2592001\r\nget a\r\n",
    "touch\r\ntouch a\r\ntouch a x\r\ntouch a x noreply\r\ntouch a 0 x\r\ntouch a 0 x y\r\n",
    // flush_all.
    "set a 0 0 1\r\nx\r\nflush_all\r\nget a\r\nset a 0 0 1\r\ny\r\nget a\r\n",
    "set a 0 0 1\r\nx\r\nflush_all 0\r\nget a\r\nset a 0 0 1\r\nx\r\nflush_all noreply\r\nget a\r\n",
    "set a 0 0 1\r\nx\r\nflush_all 1\r\nget a\r\nflush_all\r\n",
    "set a 0 0 1\r\nx\r\nflush_all -1\r\nget a\r\nflush_all x\r\nflush_all x noreply\r\nflush_all 1 2 3\r\n",
    "set a 0 0 1\r\nx\r\nflush_all 100\r\nget a\r\nflush_all\r\n",
    // What is wrong, and where the next command begins after it.
    "\r\n\nfoo\r\nGET a\r\nget\r\nget \r\ngets\r\ngetx a\r\nset\r\nset a\r\nset a 0 0\r\n",
    "set a x 0 1\r\nx\r\nset a 0 x 1\r\nx\r\nset a 0 0 x\r\nset a -1 0 1\r\nx\r\nset a 0 0 -1\r\n",
    "set a 0 0 1 2 3 4 5\r\nx\r\nset a 0 0 2147483646\r\nset a 0 0 1x\r\nset a 0 0 0x1\r\nx\r\n",
    "set a 0 0 1\r\nz\r\nset a 0 0 1\r\nxyz\r\nget a\r\n",
    "set a 0 0 3\r\nx\r\n\r\nget a\r\nset a 0 0 1 noreply\r\nxyz\r\nset a 0 x 1 noreply\r\nx\r\n",
    "set a 0 0 1\r\nxy\nset a 0 0 2\r\nx\r\n\r\n",
    "version x\r\nversion noreply\r\nversion\n",
    "stats nothing\r\n",
];

/// The same with keys and values too long for a table.
fn long_transcripts() -> Vec<Vec<u8>> {
    let (longest, longer) = ("k".repeat(250), "k".repeat(251));
    let value = |bytes: usize| "v".repeat(bytes);
    let transcripts = [
        format!("set {longest} 0 0 1\r\nx\r\nget {longest}\r\ndelete {longest}\r\n"),
        format!("set {longer} 0 0 1\r\nx\r\n"),
        format!("set {longer} 0 0 1 noreply\r\nx\r\n"),
        format!("delete {longer}\r\n"),
        format!("delete {longer} noreply\r\n"),
        format!("touch {longer} 0\r\n"),
        format!("touch {longer} x noreply\r\n"),
        format!("get {longer}\r\n"),
        format!("get {longer} a\r\n"),
        format!("get{}\r\n", " nothing".repeat(5000)),
        format!("set a 0 0 1048516\r\n{}\r\nget a\r\n", value(1_048_516)),
        format!(
            "set a 0 0 1\r\nx\r\nset a 0 0 1048517\r\n{}\r\nget a\r\n",
            value(1_048_517)
        ),
        format!(
            "set a 0 0 1\r\nx\r\nset a 0 0 2000000\r\n{}\r\nget a\r\n",
            value(2_000_000)
        ),
        format!(
            "set a 0 0 1\r\nx\r\nset a 0 0 2000000 noreply\r\n{}\r\nget a\r\n",
            value(2_000_000)
        ),
        format!(
            "set a 0 0 500000\r\n{}\r\nget{}\r\n",
            value(500_000),
            " a".repeat(40)
        ),
    ];
    transcripts.map(String::into_bytes).into()
}

fn check(memcached: &Memcached, embedded: &Embedded, transcript: &[u8], piece: usize) {
    for address in [memcached.address, embedded.address] {
        // On a connection of its own: a `get` with a bad key costs memcached's earlier answers.
        assert_eq!(answers(address, b"flush_all\r\n", usize::MAX), b"OK\r\n");
    }
    let input = [transcript, b"version\r\n"].concat();
    let expected = comparable(&answers(memcached.address, &input, piece));
    let found = comparable(&answers(embedded.address, &input, piece));
    let shown = transcript[..transcript.len().min(200)].escape_ascii();
    assert!(
        expected.contains(&"VERSION".into()),
        "memcached lost step: {expected:?}"
    );
    assert!(
        found == expected,
        "in pieces of {piece}: {shown}\n memcached: {expected:.300?}\n the store: {found:.300?}"
    );
}

#[test]
fn answers_as_memcached_does() {
    let memcached = Memcached::start();
    let embedded = Embedded::start(64 << 20);
    for transcript in TRANSCRIPTS {
        for piece in [usize::MAX, 1, 7] {
            check(&memcached, &embedded, transcript.as_bytes(), piece);
        }
    }
    for transcript in long_transcripts() {
        check(&memcached, &embedded, &transcript, usize::MAX);
        check(&memcached, &embedded, &transcript, 60_000);
    }
    // All of them on one connection.
    check(
        &memcached,
        &embedded,
        TRANSCRIPTS.concat().as_bytes(),
        usize::MAX,
    );
}

/// One connection to each, asked the same at the same time.
struct Both {
    memcached: TcpStream,
    embedded: TcpStream,
}

impl Both {
    /// What both answer, if they agree.
    fn ask(&mut self, input: &str) -> String {
        let [expected, found] = [&mut self.memcached, &mut self.embedded].map(|stream| {
            stream.write_all(input.as_bytes()).unwrap();
            stream.write_all(b"version\r\n").unwrap();
            let mut answer = Vec::new();
            let mut piece = [0; 4096];
            while !(answer.ends_with(b"\r\n")
                && answer.windows(8).any(|window| window == b"VERSION "))
            {
                let bytes = stream.read(&mut piece).unwrap();
                assert!(bytes > 0, "closed after {}", answer.escape_ascii());
                answer.extend_from_slice(&piece[..bytes]);
            }
            comparable(&answer).join("|").replace("|VERSION|", "|")
        });
        assert_eq!(found, expected, "the store and memcached to {input:?}");
        found
    }
}

/// The margins are for seconds that begin at different moments in the two.
#[test]
fn forgets_when_memcached_does() {
    let memcached = Memcached::start();
    let embedded = Embedded::start(64 << 20);
    let mut both = Both {
        memcached: connect(memcached.address),
        embedded: connect(embedded.address),
    };
    let unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let start = Instant::now();
    let at = |ms: u64| thread::sleep(Duration::from_millis(ms).saturating_sub(start.elapsed()));

    let set = |key: &str, exptime: u64| format!("set {key} 0 {exptime} 1\r\n{key}\r\n");
    let sets = [
        set("a", 2),
        set("b", unix + 3),
        set("c", 0),
        set("d", 2),
        set("e", 100),
        set("f", unix + 100),
    ];
    both.ask(&sets.concat());
    assert_eq!(both.ask("touch c 2\r\ntouch d 100\r\n"), "TOUCHED|TOUCHED|");
    let all = "get a b c d e f\r\n";
    let value = |key: &str| format!("VALUE {key} 0 1|{key}|");
    let living = |keys: &[&str]| keys.iter().map(|key| value(key)).collect::<String>() + "END|";
    assert_eq!(both.ask(all), living(&["a", "b", "c", "d", "e", "f"]));
    at(300);
    assert_eq!(both.ask(all), living(&["a", "b", "c", "d", "e", "f"]));
    at(2300);
    assert_eq!(both.ask("get a c d e f\r\n"), living(&["d", "e", "f"]));
    assert_eq!(
        both.ask("touch a 5\r\ndelete c\r\n"),
        "NOT_FOUND|NOT_FOUND|"
    );
    assert_eq!(
        both.ask("flush_all 2\r\nget d e f\r\n"),
        "OK|".to_owned() + &living(&["d", "e", "f"])
    );
    at(4600);
    assert_eq!(both.ask(all), "END|");
    assert_eq!(
        both.ask(&(set("a", 0) + all)),
        "STORED|".to_owned() + &living(&["a"])
    );
}

#[test]
fn statistics_have_memcached_s_names_in_its_order() {
    let memcached = Memcached::start();
    let embedded = Embedded::start(64 << 20);
    let names = |address| {
        let answer = String::from_utf8(answers(address, b"stats\r\n", 100)).unwrap();
        assert!(answer.ends_with("END\r\n"));
        let names = answer
            .lines()
            .filter_map(|line| line.split(' ').nth(1).map(String::from));
        names.collect::<Vec<_>>()
    };
    let theirs = names(memcached.address);
    let mut rest = theirs.iter();
    for name in names(embedded.address) {
        assert!(
            rest.any(|their| *their == name),
            "{name} is not in its place in {theirs:?}"
        );
    }
}

#[test]
fn closes_a_line_without_end() {
    let embedded = Embedded::start(64 << 20);
    let line = b"x".repeat(2048);
    assert_eq!(
        answers(embedded.address, &line, 2048),
        b"CLIENT_ERROR line too long\r\n"
    );
    // Not one that is merely long, nor a long get.
    assert_eq!(
        answers(embedded.address, &[&line[..2047], b"\n"].concat(), 100),
        b"ERROR\r\n"
    );
    let get = format!("get {}\n", "a ".repeat(10_000));
    assert_eq!(answers(embedded.address, get.as_bytes(), 1000), b"END\r\n");
}

#[test]
fn quits() {
    let embedded = Embedded::start(64 << 20);
    assert_eq!(
        answers(embedded.address, b"get a\r\nquit\r\nget a\r\n", 100),
        b"END\r\n"
    );
}

#[test]
fn many_clients_at_once() {
    let embedded = Embedded::start(64 << 20);
    let client = |name: usize| {
        let mut input = Vec::new();
        let mut expected = Vec::new();
        for number in 0..2000 {
            write!(
                input,
                "set {name}:{number} 0 0 4\r\n{number:04}\r\nget {name}:{number}\r\n"
            )
            .unwrap();
            write!(
                expected,
                "STORED\r\nVALUE {name}:{number} 0 4\r\n{number:04}\r\nEND\r\n"
            )
            .unwrap();
        }
        assert!(answers(embedded.address, &input, 1 << 20) == expected);
    };
    thread::scope(|scope| {
        for name in 0..8 {
            scope.spawn(move || client(name));
        }
    });
    let counters = embedded.store.counters();
    assert_eq!(
        (counters.items, counters.sets, counters.hits),
        (16_000, 16_000, 16_000)
    );
    assert_eq!(counters.connections_total, 8);
}

#[test]
fn keeps_its_memory_limit() {
    let embedded = Embedded::start(100_000);
    let mut input = Vec::new();
    for number in 0..2000 {
        write!(input, "set {number:04} 0 0 100\r\n{:100}\r\n", "").unwrap();
    }
    let stored = answers(embedded.address, &input, 1 << 20);
    assert_eq!(stored, b"STORED\r\n".repeat(2000));
    let counters = embedded.store.counters();
    assert!(counters.bytes <= 100_000 && counters.bytes > 99_000);
    assert_eq!(counters.items + counters.evictions, 2000);
    let large = [
        &b"set x 0 0 100000\r\n"[..],
        &[b'v'; 100_000],
        b"\r\nget 1999\r\n",
    ]
    .concat();
    let answer = String::from_utf8(answers(embedded.address, &large, 1 << 20)).unwrap();
    assert!(
        answer.starts_with("SERVER_ERROR object too large for cache\r\nVALUE 1999 "),
        "{answer}"
    );
}

#[test]
fn ends_when_told() {
    let mut embedded = Embedded::start(64 << 20);
    let mut client = connect(embedded.address);
    client.write_all(b"version\r\n").unwrap();
    let mut byte = [0];
    client.read_exact(&mut byte).unwrap();
    assert_eq!(embedded.store.counters().connections, 1);
    embedded.end();
    assert_eq!(embedded.store.counters().connections, 0);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert!(TcpStream::connect(embedded.address).is_err());
}
