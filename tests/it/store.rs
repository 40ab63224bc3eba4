//! The embedded store beside a real memcached: the same bytes go to both, and the same must come
//! back, but for what names the server (its version, statistics, CAS numbers).

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use presenced_store::limits::LINE_BYTES_MAX;
use presenced_testkit::blocking::{answers, connect, memcached};
use presenced_testkit::embedded::Embedded;
use presenced_testkit::memcached::Memcached;

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
    // Keys with control bytes, a CR at the end among them.
    "set a\u{1}\t\u{7f} 7 0 1\r\nx\r\nget a\u{1}\t\u{7f} a a\u{1}\r\ngat 0 a\u{1}\t\u{7f}\r\ndelete a\u{1}\t\u{7f}\r\n",
    "set a\rb 0 0 1\r\n1\r\nadd a\rb 0 0 1\r\n2\r\nincr a\rb 6\r\nappend a\rb 0 0 1\r\n0\r\nget a\rb\r\ntouch a\rb 0\r\n",
    "set a\r 0 0 1\r\nx\r\nget a\r\r\nget a\r\nget a\r\n\nget a\r b\r\ndelete a\r\r\n",
    "ms a\r\u{1b} 1 k T0\r\nx\r\nmg a\r\u{1b} k v\r\nma a\r\u{1b} k\r\nmd a\r\u{1b} k O1\r\nmg a\r\u{1b} k\r\nme \u{1}\r\n",
    "ms Y\u{1}W\tJj 1 b k\r\nx\r\nget abc\r\nmg YWJj b k v\r\n",
    // Without replies.
    "set a 0 0 1 noreply\r\nx\r\nget a\r\ntouch a 0 noreply\r\ndelete a noreply\r\nget a\r\n",
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
    "\r\n\nfoo\r\nGET a\r\nget\r\nget \r\ngets\r\ngetx a\r\n",
    "set a 0 0 3\r\nx\r\n\r\nget a\r\nms a 2 Tx\r\nhi\r\nget a\r\n",
    "version x\r\nversion noreply\r\nversion\n",
    "stats nothing\r\nstats detail\r\nstats detail x\r\nstats detail on\r\nstats detail off x\r\nstats detail dump\r\n",
    "stats cachedump\r\nstats cachedump 1\r\nstats cachedump 1 10\r\nstats cachedump 63 0 x\r\nstats cachedump 64 1\r\n",
    "stats cachedump x 1\r\nstats cachedump 1 x\r\nstats cachedump -1 1\r\nstats cachedump 1 -1\r\nstats sizes\r\n",
    // Deltas below zero, and numbers at the limits of what is read.
    "set a 0 0 1\r\n5\r\nincr a -1\r\ndecr a -1\r\nincr a -9223372036854775808\r\nincr a -0\r\nma a D-1\r\n",
    "set a 0 0 1\r\n5\r\nincr a 18446744073709551615\r\nincr a 18446744073709551616\r\nma a D18446744073709551616\r\nget a\r\n",
    "set a 4294967295 2147483647 1\r\n5\r\nmg a f\r\ntouch a 9223372036854775808\r\nflush_all 9223372036854775808\r\n",
    "verbosity 4294967295\r\nverbosity -1\r\nverbosity\r\nget \u{7f}\u{1}\r\n",
];

/// Where the store follows memcached no further, as `docs/store.md` says: what each answers to a line.
const DIFFERENT: &[(&str, &str, &str)] = &[
    // Numbers beyond 32 bits are cut by memcached: to 0, 1 or 10 here.
    (
        "set a 4294967297 0 1\r\nx\r\nmg a f",
        "STORED|HD f1",
        "CLIENT_ERROR bad command line format|EN",
    ),
    (
        "set a 0 4294967296 1\r\nx\r\nmg a t",
        "STORED|HD t-1",
        "STORED|HD t",
    ),
    (
        "set a 0 0 4294967297\r\nx\r\nmg a s",
        "STORED|HD s1",
        "CLIENT_ERROR bad command line format",
    ),
    (
        "set a 0 0 1\r\nx\r\ntouch a 4294967296\r\nmg a t",
        "STORED|TOUCHED|HD t-1",
        "STORED|TOUCHED|HD t",
    ),
    (
        "set a 0 0 1\r\nx\r\ngat 2147483648 a\r\nmg a v",
        "STORED|VALUE a 0 1|x|END|EN",
        "STORED|VALUE a 0 1|x|END|VA 1|x",
    ),
    ("mg a N4294967306 t", "HD t10 W", "HD t"),
    (
        "ms a 1 F4294967297\r\nx\r\nmg a f",
        "HD|HD f1",
        "CLIENT_ERROR bad command line format|EN",
    ),
    (
        "set a 0 0 1\r\nx\r\nflush_all 4294967296\r\nmg a",
        "STORED|OK|EN",
        "STORED|OK|HD",
    ),
    (
        "verbosity 4294967296",
        "OK",
        "CLIENT_ERROR bad command line format",
    ),
    (
        "stats cachedump 4294967297 1",
        "END",
        "CLIENT_ERROR bad command line format",
    ),
    // Deltas below -2^63 are what is left of 2^64 to memcached.
    (
        "set a 0 0 1\r\n5\r\nincr a -18446744073709551615",
        "STORED|6",
        "STORED|CLIENT_ERROR invalid numeric delta argument",
    ),
    (
        "ma a N0 J-18446744073709551615 v",
        "VA 1|1",
        "CLIENT_ERROR invalid or duplicate flag",
    ),
    (
        "set a 0 0 1\r\n5\r\nma a D-18446744073709551615 v",
        "STORED|VA 1|6",
        "STORED|CLIENT_ERROR invalid or duplicate flag",
    ),
    (
        "set a 0 0 1\r\nx\r\nmd a C-18446744073709551615",
        "STORED|EX",
        "STORED|CLIENT_ERROR invalid or duplicate flag",
    ),
    // A tab beside a number is a blank to memcached.
    (
        "set a 0 0 1\r\n5\r\nincr a 1\t",
        "STORED|6",
        "STORED|CLIENT_ERROR invalid numeric delta argument",
    ),
    (
        "set a \t7 0 1\r\nx\r\nmg a f",
        "STORED|HD f7",
        "CLIENT_ERROR bad command line format|EN",
    ),
    // The line ends at a NUL.
    (
        "set a 0 0 1\r\nx\r\nget a\0b",
        "STORED|VALUE a 0 1|x|END",
        "STORED|CLIENT_ERROR bad command line format",
    ),
    (
        "delete a\0b",
        "NOT_FOUND",
        "CLIENT_ERROR bad command line format",
    ),
    ("version\0x", "VERSION", "ERROR"),
];

#[test]
fn differs_from_memcached_where_it_says_so() {
    let memcached = memcached(&[]);
    let embedded = Embedded::start(64 << 20);
    for (lines, theirs, ours) in DIFFERENT {
        for (address, expected) in [(memcached.address(), theirs), (embedded.address, ours)] {
            let input = format!("flush_all\r\n{lines}\r\n");
            let told = answers(address, input.as_bytes(), usize::MAX);
            let told = comparable(&told).join("|");
            let told = told.strip_prefix("OK|").unwrap().trim_end_matches('|');
            // How many seconds are left, where that is no small number, is the clock's.
            let timeless = expected.ends_with(" t") && told.starts_with(expected);
            assert!(
                told == *expected || timeless,
                "{lines:?} at {address}: {told}"
            );
        }
    }
}

/// The same with keys and values too long for a table.
fn long_transcripts() -> Vec<Vec<u8>> {
    let (longest, longer) = ("k".repeat(250), "k".repeat(251));
    let value = |bytes: usize| "v".repeat(bytes);
    let transcripts = [
        format!("set {longest} 0 0 1\r\nx\r\nget {longest}\r\ndelete {longest}\r\n"),
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
    let long_lines = [2041, 2048, 2049, 5000, 16_384]
        .into_iter()
        .flat_map(|bytes| {
            // Filled up to so many bytes, the line end included.
            LONG_LINES.map(|line| {
                let room = bytes - (line.len() - 1) - 2;
                let fill = if line.contains("_v") { " v" } else { "x" };
                let fill = fill.repeat(room.div_ceil(fill.len()));
                line.replace("_v", "_").replace('_', &fill[..room]) + "\r\n"
            })
        });
    let transcripts = transcripts.into_iter().chain(long_lines);
    transcripts.map(String::into_bytes).collect()
}

/// Lines that are long where `_` is, and have an end.
const LONG_LINES: [&str; 9] = [
    "_",
    "delete _",
    "delete _ noreply",
    "get a _",
    "mg _ v",
    "touch a 0 _",
    "incr a _",
    "stats _",
    "verbosity _",
];

fn check(memcached: &Memcached, embedded: &Embedded, transcript: &[u8], piece: usize) {
    for address in [memcached.address(), embedded.address] {
        // On a connection of its own: a `get` with a bad key costs memcached's earlier answers.
        assert_eq!(answers(address, b"flush_all\r\n", usize::MAX), b"OK\r\n");
    }
    let input = [transcript, b"version\r\n"].concat();
    let expected = comparable(&answers(memcached.address(), &input, piece));
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
    let memcached = memcached(&[]);
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

/// Refused, but for how long the value is, which has 9 bytes.
const SWALLOWED: &[&str] = &[
    "set K 0 0 9",
    "set K 0 0 9 noreply",
    "cas K 0 0 9 1",
    "ms K 9 T0",
    "set a x 0 9",
    "add a -1 0 9",
    "replace a 1x 0 9",
    "append a 0 x 9",
    "prepend a 0 1.5 9",
    "set a 0 undefined 9",
    "set a 0 99999999999999999999 9",
    "set a 0 x 9 noreply",
    "cas a 0 0 9 x",
    "cas a 0 0 9 -1",
    "cas a 0 0 9 18446744073709551616",
    "cas a 0 0 9 x noreply",
    "ms a 9 k c O1 F1 I T0 MS v s t f u h l N0 q P",
];

/// Refused, and where the value ends is not known.
const CLOSED: &[&str] = &[
    "set",
    "set a",
    "set a 0 0",
    "add a 0 0 9 2 noreply",
    "set a b c 0 0 9",
    "set a 0 0 9 2 3 4 5 6 7",
    "cas a 0 0 9",
    "cas a 0 0 9 1 noreply 2",
    "set a 0 0 x",
    "set a 0 0 x noreply",
    "set a 0 0 9x",
    "set a 0 0 0x9",
    "set a 0 0 -1",
    "set a 0 0 -9",
    "set a 0 0 2147483646",
    "set a 0 0 9223372036854775808",
    "ms",
    "ms a",
    "ms a S9",
    "ms a x",
    "ms a -9",
    "ms a b 9",
];

/// memcached is sent the line alone: the value it would run. What is wrong is answered once and in its
/// words; what was there is there still.
#[test]
fn a_refused_value_is_not_run() {
    let memcached = memcached(&[]);
    let embedded = Embedded::start(64 << 20);
    let stored = b"set a 0 0 1\r\nx\r\n";
    let after = "mn\r\nget a\r\n";
    for (line, closes) in SWALLOWED
        .iter()
        .map(|line| (line, false))
        .chain(CLOSED.iter().map(|line| (line, true)))
    {
        let line = line.replace('K', &"k".repeat(251));
        for address in [memcached.address(), embedded.address] {
            assert_eq!(answers(address, stored, usize::MAX), b"STORED\r\n");
        }
        let alone = format!("{line}\r\n{after}");
        let with_value = format!("{line}\r\nflush_all\r\n{after}");
        let mut expected = answers(memcached.address(), alone.as_bytes(), usize::MAX);
        if closes {
            let end = expected.windows(4).position(|bytes| bytes == b"MN\r\n");
            expected.truncate(end.unwrap());
        }
        for piece in [usize::MAX, 1, 7] {
            let found = answers(embedded.address, with_value.as_bytes(), piece);
            assert_eq!(
                found.escape_ascii().to_string(),
                expected.escape_ascii().to_string(),
                "in pieces of {piece}: {line:.80}"
            );
        }
        let left = answers(embedded.address, b"get a\r\n", usize::MAX);
        assert_eq!(left, b"VALUE a 0 1\r\nx\r\nEND\r\n", "{line:.80}");
    }
}

/// What stands behind a value that is longer than its line says, whether it was refused or not.
#[test]
fn what_is_beyond_a_value_is_not_run() {
    let embedded = Embedded::start(64 << 20);
    let stored = b"set b 0 0 1\r\nx\r\n";
    assert_eq!(answers(embedded.address, stored, usize::MAX), b"STORED\r\n");
    let beyond = "flush_all\r\n";
    let large = "v".repeat(2_000_000);
    let chunk = "CLIENT_ERROR bad data chunk\r\n";
    let format = "CLIENT_ERROR bad command line format\r\n";
    let too_large = "SERVER_ERROR object too large for cache\r\n";
    for (input, expected) in [
        (format!("set a 0 0 3\r\n\u{eb}\u{eb}\u{eb}{beyond}"), chunk),
        (format!("set a 0 0 1\r\nxyz{beyond}"), chunk),
        (format!("set a 0 0 1 noreply\r\nxyz{beyond}"), ""),
        (format!("ms a 1 q\r\nxyz{beyond}"), chunk),
        (format!("set a x 0 1\r\nxyz{beyond}"), format),
        (format!("set a x 0 1 noreply\r\nxyz{beyond}"), ""),
        (format!("ms a 1 F-1\r\nxyz{beyond}"), format),
        (format!("set a 0 0 2000000\r\n{large}xx{beyond}"), too_large),
        // A key with a space moves the length.
        (format!("set a 0 0 0 9\r\n\r\n{beyond}"), "ERROR\r\n"),
        (format!("set a 0 0 0 9 x\r\n\r\n{beyond}"), "ERROR\r\n"),
        (
            format!("ms a 0 9\r\n\r\n{beyond}"),
            "CLIENT_ERROR invalid flag\r\n",
        ),
    ] {
        let input = format!("{input}flush_all\r\n");
        for piece in [usize::MAX, 100_001, 7] {
            if piece == 7 && input.len() > 1000 {
                continue;
            }
            let found = answers(embedded.address, input.as_bytes(), piece);
            assert_eq!(
                found.escape_ascii().to_string(),
                expected.escape_default().to_string()
            );
        }
        let left = answers(embedded.address, b"get b\r\n", usize::MAX);
        assert_eq!(left, b"VALUE b 0 1\r\nx\r\nEND\r\n", "{input:.80}");
    }
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
    let memcached = memcached(&[]);
    let embedded = Embedded::start(64 << 20);
    let mut both = Both {
        memcached: connect(memcached.address()),
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
    let memcached = memcached(&[]);
    let embedded = Embedded::start(64 << 20);
    let names = |address| {
        let answer = String::from_utf8(answers(address, b"stats\r\n", 100)).unwrap();
        assert!(answer.ends_with("END\r\n"));
        let names = answer
            .lines()
            .filter_map(|line| line.split(' ').nth(1).map(String::from));
        names.collect::<Vec<_>>()
    };
    let theirs = names(memcached.address());
    let mut rest = theirs.iter();
    for name in names(embedded.address) {
        assert!(
            rest.any(|their| *their == name),
            "{name} is not in its place in {theirs:?}"
        );
    }
}

/// The value of one of the general statistics.
fn stat(address: SocketAddr, name: &str) -> u64 {
    let answer = String::from_utf8(answers(address, b"stats\r\n", usize::MAX)).unwrap();
    let line = format!("STAT {name} ");
    let value = answer.lines().find_map(|stat| stat.strip_prefix(&line));
    value.unwrap().parse().unwrap()
}

/// What nobody came upon goes by itself in both, as `reclaimed`.
#[test]
fn counts_what_expires_as_memcached_does() {
    let memcached = memcached(&[]);
    let embedded = Embedded::start(64 << 20);
    let mut input = Vec::new();
    for number in 0..100 {
        write!(input, "set k{number} 0 1 1\r\nx\r\n").unwrap();
    }
    for number in 0..40 {
        write!(input, "get k{number}\r\nget k{number}\r\n").unwrap();
    }
    let counted = [memcached.address(), embedded.address].map(|address| {
        answers(address, &input, usize::MAX);
        while stat(address, "curr_items") > 0 {
            thread::sleep(Duration::from_millis(50));
        }
        ["reclaimed", "expired_unfetched", "get_expired", "evictions"]
            .map(|name| stat(address, name))
    });
    assert_eq!(counted, [[100, 60, 0, 0]; 2]);
}

/// Each connection's turn is bounded, and that it has more to do is counted.
#[test]
fn counts_turns_and_processor_time() {
    let embedded = Embedded::start(64 << 20);
    let many = b"get a\r\n".repeat(100_000);
    let told = answers(embedded.address, &many, usize::MAX);
    assert_eq!(told, b"END\r\n".repeat(100_000));
    assert!(stat(embedded.address, "conn_yields") > 0);
    assert!(stat(embedded.address, "connection_structures") > 0);
    let stats = String::from_utf8(answers(embedded.address, b"stats\r\n", 100)).unwrap();
    for name in ["rusage_user", "rusage_system"] {
        let line = format!("STAT {name} ");
        let value = stats.lines().find_map(|stat| stat.strip_prefix(&line));
        let (seconds, rest) = value.unwrap().split_once('.').unwrap();
        assert!(
            seconds.parse::<u64>().is_ok() && rest.len() == 6,
            "{value:?}"
        );
    }
    let told = answers(embedded.address, b"stats conns\r\n", usize::MAX);
    assert_eq!(told, b"END\r\n");
}

#[test]
fn closes_a_line_without_end() {
    let embedded = Embedded::start(64 << 20);
    let line = b"x".repeat(LINE_BYTES_MAX);
    assert_eq!(
        answers(embedded.address, &line, 5000),
        b"CLIENT_ERROR line too long\r\n"
    );
    // Not one that is merely long, nor a long get.
    assert_eq!(
        answers(embedded.address, &[&line[1..], b"\n"].concat(), 5000),
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
