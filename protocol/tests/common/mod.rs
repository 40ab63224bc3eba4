//! What servers do with requests, and tables of them.

#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests may"
)]

use presenced_protocol::request::{self, ReceivedKeys, StoreVerb};
use presenced_protocol::{
    BadRequest, Limits, Next, Parsed, Received, ReceivedKey, Request, encode,
};

/// What a server would do with `input`, request after request, as text.
///
/// A request that was understood is shown; of one that was not, the answer, between `<` and `>` if
/// `noreply` keeps it from being sent. `…` is input that isn't whole.
pub fn read(input: &[u8], limits: &Limits) -> Vec<String> {
    let mut reader = Reader::new(limits);
    reader.feed(input);
    reader.finish()
}

pub struct Reader {
    parser: request::Parser,
    limits: Limits,
    waiting: Vec<u8>,
    closed: bool,
    seen: Vec<String>,
}

impl Reader {
    pub fn new(limits: &Limits) -> Reader {
        Reader {
            parser: request::Parser::new(*limits),
            limits: *limits,
            waiting: Vec::new(),
            closed: false,
            seen: Vec::new(),
        }
    }

    /// The parser that remembers what it has looked at must say what one without memory says.
    pub fn feed(&mut self, input: &[u8]) {
        self.waiting.extend_from_slice(input);
        if self.closed && !self.waiting.is_empty() {
            // Also for those who don't close.
            let consumed = self.waiting.len();
            let parsed = self.parser.parse(&self.waiting);
            let ended = false;
            assert_eq!(parsed, Parsed::Swallowed { consumed, ended });
            self.waiting.clear();
        }
        while !self.closed {
            let swallows = self.swallows();
            let parsed = self.parser.parse(&self.waiting);
            if !swallows {
                let afresh = request::Parser::new(self.limits).parse(&self.waiting);
                assert_eq!(parsed, afresh);
            }
            let (seen, consumed) = match parsed {
                Parsed::Incomplete => return,
                Parsed::Swallowed { consumed, ended } => {
                    assert!(swallows && consumed > 0 && consumed <= self.waiting.len());
                    self.waiting.drain(..consumed);
                    assert_eq!(ended, !self.swallows());
                    continue;
                }
                Parsed::Request { request, consumed } => (show(&request), consumed),
                Parsed::Bad {
                    answer,
                    noreply,
                    consumed,
                    next,
                } => {
                    self.closed = next == Next::Close;
                    (show_bad(&answer, noreply), consumed)
                }
            };
            assert!(consumed > 0 && consumed <= self.waiting.len());
            self.waiting.drain(..consumed);
            self.seen.push(seen);
        }
    }

    pub fn finish(mut self) -> Vec<String> {
        if self.closed {
            self.seen.push("closed".into());
        } else if !self.waiting.is_empty() || self.swallows() {
            self.seen.push("…".into());
        }
        self.seen
    }

    /// Whether it is within a value that was refused.
    fn swallows(&self) -> bool {
        let noop = self.parser.clone().parse(b"mn\r\n");
        matches!(noop, Parsed::Swallowed { .. } | Parsed::Bad { .. })
    }
}

fn show_bad(answer: &BadRequest<'_>, noreply: bool) -> String {
    let mut out = Vec::new();
    encode::reply(&mut out, &answer.reply());
    let text = out.trim_ascii_end().escape_ascii();
    if noreply {
        format!("<{text}>")
    } else {
        text.to_string()
    }
}

fn show(request: &Received<'_>) -> String {
    let quiet = |noreply: bool| if noreply { " quietly" } else { "" };
    let key_text = |key: ReceivedKey<'_>| key.as_bytes().escape_ascii().to_string();
    let keys_text = |keys: ReceivedKeys<'_>| keys.map(key_text).collect::<Vec<_>>().join(",");
    match *request {
        Request::Get { keys, with_cas } => {
            format!(
                "{}({})",
                if with_cas { "gets" } else { "get" },
                keys_text(keys)
            )
        }
        Request::Store {
            verb,
            key,
            flags,
            exptime,
            value,
            noreply,
        } => {
            let verb = match verb {
                StoreVerb::Cas { unique } => format!("cas {unique}"),
                verb => verb.name().escape_ascii().to_string(),
            };
            let (key, value) = (key_text(key), value.escape_ascii());
            format!("{verb}({key},{flags},{exptime},{value}){}", quiet(noreply))
        }
        Request::Touch {
            key,
            exptime,
            noreply,
        } => format!("touch({},{exptime}){}", key_text(key), quiet(noreply)),
        Request::Delete { key, noreply } => format!("delete({}){}", key_text(key), quiet(noreply)),
        Request::Version => "version".into(),
        Request::Stats { arguments } => format!("stats({})", keys_text(arguments)),
        Request::FlushAll { delay, noreply } => {
            format!("flush_all({}){}", delay.unwrap_or(0), quiet(noreply))
        }
        Request::Quit => "quit".into(),
        // As it is written anew, if it may be.
        request => {
            let Ok(sendable) = Request::try_from(request) else {
                return format!("{request:?}");
            };
            let mut out = Vec::new();
            encode::request(&mut out, &sendable);
            out.strip_suffix(b"\r\n")
                .unwrap_or(&out)
                .escape_ascii()
                .to_string()
        }
    }
}

pub const FORMAT: &str = "CLIENT_ERROR bad command line format";
pub const FORMAT_QUIET: &str = "<CLIENT_ERROR bad command line format>";
pub const CHUNK: &str = "CLIENT_ERROR bad data chunk";
pub const CHUNK_QUIET: &str = "<CLIENT_ERROR bad data chunk>";
pub const EXPTIME: &str = "CLIENT_ERROR invalid exptime argument";
pub const EXPTIME_QUIET: &str = "<CLIENT_ERROR invalid exptime argument>";
pub const USAGE: &str = "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]";
pub const USAGE_QUIET: &str =
    "<CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]>";
pub const LARGE: &str = "SERVER_ERROR object too large for cache";
pub const LARGE_QUIET: &str = "<SERVER_ERROR object too large for cache>";

pub type Case = (&'static str, &'static [&'static str]);

pub const LINES: &[Case] = &[
    ("\r\n", &["ERROR"]),
    ("\n", &["ERROR"]),
    ("   \r\n", &["ERROR"]),
    ("foo\r\n", &["ERROR"]),
    ("getx a\r\n", &["ERROR"]),
    ("GET a\r\n", &["ERROR"]),
    ("get\ta\r\n", &["ERROR"]),
    ("version\r\r\nversion\r\n", &["ERROR", "version"]),
    ("version\n", &["version"]),
    ("version x\r\n", &["version"]),
    ("version noreply\r\n", &["version"]),
    ("quit\r\n", &["quit"]),
    ("quit noreply\r\n", &["quit"]),
    ("stats\r\n", &["stats()"]),
    ("stats  \r\n", &["stats()"]),
    ("stats items\r\n", &["stats(items)"]),
    ("vers", &["…"]),
    ("version\r", &["…"]),
];

pub const GETS: &[Case] = &[
    ("get\r\n", &["ERROR"]),
    ("get \r\n", &["ERROR"]),
    ("gets\r\n", &["ERROR"]),
    ("get a\r\n", &["get(a)"]),
    ("get a\n", &["get(a)"]),
    ("  get a\r\n", &["get(a)"]),
    ("get  a   b \r\nversion\r\n", &["get(a,b)", "version"]),
    ("gets a a\r\n", &["gets(a,a)"]),
    ("get noreply\r\n", &["get(noreply)"]),
    ("get a\tb\r\n", &["get(a\\tb)"]),
    ("get a\rb\r\n", &["get(a\\rb)"]),
    ("get a\u{7f}b \u{1}\r\n", &["get(a\\x7fb,\\x01)"]),
    ("get a\r\r\n", &["get(a\\r)"]),
    // differs: the line ends at a NUL to memcached.
    ("get a\0b\r\n", &[FORMAT]),
    ("get a \0\r\n", &[FORMAT]),
    ("get zo\u{eb}\r\n", &["get(zo\\xc3\\xab)"]),
];

pub const SETS: &[Case] = &[
    ("set a 0 0 1\r\nx\r\nget a\r\n", &["set(a,0,0,x)", "get(a)"]),
    ("set a 0 0 1\nx\r\n", &["set(a,0,0,x)"]),
    ("set  a  0 0  1 \r\nx\r\n", &["set(a,0,0,x)"]),
    ("set a 0 0 0\r\n\r\n", &["set(a,0,0,)"]),
    ("set a 0 0 3\r\nx\r\n\r\n", &["set(a,0,0,x\\r\\n)"]),
    ("set a 0 0 1 noreply\r\nx\r\n", &["set(a,0,0,x) quietly"]),
    ("set noreply 0 0 1\r\nx\r\n", &["set(noreply,0,0,x)"]),
    (
        "set a\u{1}\t\r\u{7f} 0 0 1\r\nx\r\n",
        &["set(a\\x01\\t\\r\\x7f,0,0,x)"],
    ),
    ("set a +1 +5 +1\r\nx\r\n", &["set(a,1,5,x)"]),
    ("set a 010 0 01\r\nx\r\n", &["set(a,10,0,x)"]),
    ("set a -0 -0 -0\r\n\r\n", &["set(a,0,0,)"]),
    (
        "set a 4294967295 -1 1\r\nx\r\n",
        &["set(a,4294967295,-1,x)"],
    ),
    ("set a 0 2147483648 1\r\nx\r\n", &["set(a,0,2147483648,x)"]),
    ("set a 0 0 5\r\nxyz\r\n", &["…"]),
    ("set a 0 0 1\r\nx", &["…"]),
];

/// Storage commands whose value is swallowed: memcached answers the same, and then runs `version`.
pub const REFUSED: &[Case] = &[
    ("set a x 0 7\r\nversion\r\n", &[FORMAT]),
    ("set a -1 0 7\r\nversion\r\n", &[FORMAT]),
    ("set a 1x 0 7\r\nversion\r\n", &[FORMAT]),
    ("set a 0 x 7\r\nversion\r\n", &[FORMAT]),
    ("set a 0 1.5 7\r\nversion\r\nmn\r\n", &[FORMAT, "mn"]),
    ("set a 0 x 7 noreply\r\nversion\r\n", &[FORMAT_QUIET]),
    ("set a x 0 0\r\n\r\nmn\r\n", &[FORMAT, "mn"]),
    ("set a x 0 07\nversion\r\nmn\r\n", &[FORMAT, "mn"]),
    ("replace a x 0 7\r\nversion\r\n", &[FORMAT]),
    ("cas a 0 0 7 x\r\nversion\r\n", &[FORMAT]),
    ("cas a 0 0 7 -1\r\nversion\r\n", &[FORMAT]),
    (
        "cas a 0 0 7 x noreply\r\nversion\r\nmn\r\n",
        &[FORMAT_QUIET, "mn"],
    ),
    ("cas a 0 0 7 18446744073709551616\r\nversion\r\n", &[FORMAT]),
    (
        "ms a 7 k c O1 F1 I T0 MS v s t f u h l N0 q P\r\nversion\r\nmn\r\n",
        &[FLAGS, "mn"],
    ),
    // differs: memcached cuts this to flags 0, and stores.
    ("set a 4294967296 0 7\r\nversion\r\n", &[FORMAT]),
    // differs: the line ends at a NUL to memcached.
    ("set a\0b 0 0 7\r\nversion\r\n", &[FORMAT]),
    ("set a x 0 7\r\nvers", &[FORMAT, "…"]),
    ("set a x 0 7\r\nversion", &[FORMAT, "…"]),
    ("set a x 0 7\r\nversion\r", &[FORMAT, "…"]),
    ("set a x 0 0\r\n", &[FORMAT, "…"]),
];

/// Where the next request would begin is not known: memcached answers the same, and runs `version`.
pub const CLOSED: &[Case] = &[
    ("set\r\nversion\r\n", &["ERROR", "closed"]),
    ("set a\r\nversion\r\n", &["ERROR", "closed"]),
    ("set a 0 0\r\nversion\r\n", &["ERROR", "closed"]),
    ("set a b c 0 0 7\r\nversion\r\n", &["ERROR", "closed"]),
    ("set a 0 0 7 2 noreply\r\nversion\r\n", &["ERROR", "closed"]),
    (
        "set a 0 0 7 2 3 4 5 6 7\r\nversion\r\n",
        &["ERROR", "closed"],
    ),
    ("add\r\nversion\r\n", &["ERROR", "closed"]),
    ("prepend a 0 0\r\nversion\r\n", &["ERROR", "closed"]),
    ("cas a 0 0 7\r\nversion\r\n", &["ERROR", "closed"]),
    (
        "cas a 0 0 7 5 noreply 7\r\nversion\r\n",
        &["ERROR", "closed"],
    ),
    ("set a 0 0 x\r\nversion\r\n", &[FORMAT, "closed"]),
    (
        "set a 0 0 x noreply\r\nversion\r\n",
        &[FORMAT_QUIET, "closed"],
    ),
    ("set a 0 0 0x7\r\nversion\r\n", &[FORMAT, "closed"]),
    ("set a 0 0 -7\r\nversion\r\n", &[FORMAT, "closed"]),
    ("set a 0 0 2147483646\r\nversion\r\n", &[FORMAT, "closed"]),
    (
        "set a 0 0 9223372036854775808\r\nversion\r\n",
        &[FORMAT, "closed"],
    ),
    ("set a x x x\r\nversion\r\n", &[FORMAT, "closed"]),
    ("ms\r\nversion\r\n", &["ERROR", "closed"]),
    ("ms a\r\nversion\r\n", &[FORMAT, "closed"]),
    ("ms a S7\r\nversion\r\n", &[FORMAT, "closed"]),
    ("ms a x\r\nversion\r\n", &[FORMAT, "closed"]),
    ("ms a -7\r\nversion\r\n", &[FORMAT, "closed"]),
    ("ms a b 7\r\nversion\r\n", &[FORMAT, "closed"]),
    ("ms a 2147483646\r\nversion\r\n", &[FORMAT, "closed"]),
    // A value that is longer or shorter than its line says.
    ("set a 0 0 1\r\nx\nversion\r\n", &[CHUNK, "closed"]),
    ("set a 0 0 1\r\nxyzversion\r\n", &[CHUNK, "closed"]),
    ("set a 0 0 3\r\nx\r\nversion\r\n", &[CHUNK, "closed"]),
    (
        "set a 0 0 1 noreply\r\nxyzversion\r\n",
        &[CHUNK_QUIET, "closed"],
    ),
    ("append a 0 0 1\r\nxy\rversion\r\n", &[CHUNK, "closed"]),
    ("cas a 0 0 1 5\r\nxyzversion\r\n", &[CHUNK, "closed"]),
    ("ms a 2\r\nhixyversion\r\n", &[CHUNK, "closed"]),
    ("ms a 2 q\r\nhixyversion\r\n", &[CHUNK, "closed"]),
    // The same of one that is swallowed; its answer has been given.
    (
        "set a x 0 1\r\nxyzversion\r\n",
        &[FORMAT, CHUNK_QUIET, "closed"],
    ),
    (
        "set a x 0 1\r\nx\rversion\r\n",
        &[FORMAT, CHUNK_QUIET, "closed"],
    ),
    (
        "ms a 2 Tx\r\nhixyversion\r\n",
        &[TOKEN, CHUNK_QUIET, "closed"],
    ),
];

/// The length is not where it should be, as a key has a space in it or is missing.
/// differs: memcached takes what stands there for the length, and any last word.
pub const MOVED: &[Case] = &[
    ("set a 0 0 7 norep\r\nversion\r\n", &["ERROR", "closed"]),
    ("append a 0 0 7 x\r\nversion\r\n", &["ERROR", "closed"]),
    ("set a 0 0 0 7\r\n\r\nversion\r\n", &["ERROR", "closed"]),
    ("set a b 0 0 7\r\nversion\r\n", &["ERROR", "closed"]),
    ("cas a 0 0 0 7 5\r\n\r\nversion\r\n", &["ERROR", "closed"]),
    ("cas a 0 0 7 5 x\r\nversion\r\n", &["ERROR", "closed"]),
    // What stands for the unique number here is its `noreply`.
    ("cas  0 0 7 5 noreply\r\nversion\r\n", &["ERROR", "closed"]),
    ("set  0 0 7 noreply\r\nversion\r\n", &["ERROR", "closed"]),
    ("ms a 0 7\r\n\r\nversion\r\n", &[INVALID, "closed"]),
    ("ms a 0 7 T0 k\r\n\r\nversion\r\n", &[INVALID, "closed"]),
    ("ms a 0 T0 T0 7\r\n\r\nversion\r\n", &[DUPLICATE, "closed"]),
];

pub const OTHERS: &[Case] = &[
    ("touch\r\n", &["ERROR"]),
    ("touch a\r\n", &["ERROR"]),
    ("touch a 0\r\n", &["touch(a,0)"]),
    ("touch a 0 noreply\r\n", &["touch(a,0) quietly"]),
    ("touch a 0 x\r\n", &["touch(a,0)"]),
    ("touch a 0 x y\r\n", &["ERROR"]),
    ("touch a 0 noreply noreply\r\n", &["ERROR"]),
    ("touch a x\r\n", &[EXPTIME]),
    ("touch a x noreply\r\n", &[EXPTIME_QUIET]),
    ("touch a noreply\r\n", &[EXPTIME_QUIET]),
    ("touch a\0b 0\r\n", &[FORMAT]),
    ("delete a\0b\r\n", &[FORMAT]),
    (
        "touch a 9223372036854775807\r\n",
        &["touch(a,9223372036854775807)"],
    ),
    ("touch a 9223372036854775808\r\n", &[EXPTIME]),
    ("delete\r\n", &["ERROR"]),
    ("delete a\r\n", &["delete(a)"]),
    ("delete a 0\r\n", &["delete(a)"]),
    ("delete a noreply\r\n", &["delete(a) quietly"]),
    ("delete a 0 noreply\r\n", &["delete(a) quietly"]),
    ("delete noreply\r\n", &["delete(noreply)"]),
    ("delete a 1\r\n", &[USAGE]),
    ("delete a 0 0\r\n", &[USAGE]),
    ("delete a b c\r\n", &[USAGE]),
    ("delete a 1 noreply\r\n", &[USAGE_QUIET]),
    ("delete a noreply noreply\r\n", &[USAGE_QUIET]),
    ("delete a b c d\r\n", &["ERROR"]),
    ("delete a 0 1 noreply\r\n", &["ERROR"]),
    ("flush_all\r\n", &["flush_all(0)"]),
    ("flush_all 0\r\n", &["flush_all(0)"]),
    ("flush_all 7\r\n", &["flush_all(7)"]),
    ("flush_all -1\r\n", &["flush_all(0)"]),
    ("flush_all noreply\r\n", &["flush_all(0) quietly"]),
    ("flush_all 0 noreply\r\n", &["flush_all(0) quietly"]),
    ("flush_all 0 x\r\n", &["flush_all(0)"]),
    ("flush_all x\r\n", &[EXPTIME]),
    ("flush_all x noreply\r\n", &[EXPTIME_QUIET]),
    ("flush_all noreply noreply\r\n", &[EXPTIME_QUIET]),
    ("flush_all 1 2 3\r\n", &["ERROR"]),
    ("flush_all 1 noreply x\r\n", &["ERROR"]),
];

pub const STORES: &[Case] = &[
    ("add a 0 0 1\r\nx\r\n", &["add(a,0,0,x)"]),
    (
        "replace a 0 0 1 noreply\r\nx\r\n",
        &["replace(a,0,0,x) quietly"],
    ),
    ("append a 0 0 1\r\nx\r\n", &["append(a,0,0,x)"]),
    ("prepend a 7 60 0\r\n\r\n", &["prepend(a,7,60,)"]),
    ("cas a 0 0 1 5\r\nx\r\n", &["cas 5(a,0,0,x)"]),
    (
        "cas a 0 0 1 18446744073709551615 noreply\r\nx\r\n",
        &["cas 18446744073709551615(a,0,0,x) quietly"],
    ),
    ("cas a 0 0 1 +5\r\nx\r\n", &["cas 5(a,0,0,x)"]),
];

const DELTA: &str = "CLIENT_ERROR invalid numeric delta argument";
const DELTA_QUIET: &str = "<CLIENT_ERROR invalid numeric delta argument>";

pub const NUMBERS: &[Case] = &[
    ("incr a 1\r\n", &["incr a 1"]),
    (
        "decr a 18446744073709551615\r\n",
        &["decr a 18446744073709551615"],
    ),
    ("incr a +1 noreply\r\n", &["incr a 1 noreply"]),
    ("incr a -0\r\n", &["incr a 0"]),
    ("incr a 1 x\r\n", &["incr a 1"]),
    ("incr\r\n", &["ERROR"]),
    ("incr a\r\n", &["ERROR"]),
    ("decr\r\n", &["ERROR"]),
    ("incr a 1 2 3\r\n", &["ERROR"]),
    ("incr a x\r\n", &[DELTA]),
    ("decr a 1x\r\n", &[DELTA]),
    ("incr a -1\r\n", &[DELTA]),
    ("incr a 18446744073709551616\r\n", &[DELTA]),
    ("incr a x noreply\r\n", &[DELTA_QUIET]),
    ("decr a noreply\r\n", &[DELTA_QUIET]),
    ("verbosity 1\r\n", &["verbosity 1"]),
    ("verbosity 1 noreply\r\n", &["verbosity 1 noreply"]),
    ("verbosity 0 x\r\n", &["verbosity 0"]),
    ("verbosity\r\n", &["ERROR"]),
    ("verbosity 0 1 2\r\n", &["ERROR"]),
    ("verbosity x\r\n", &[FORMAT]),
    ("verbosity -1\r\n", &[FORMAT]),
    ("verbosity noreply\r\n", &[FORMAT_QUIET]),
    ("verbosity x noreply\r\n", &[FORMAT_QUIET]),
    ("gat 0 a\r\n", &["gat 0 a"]),
    ("gats -1 a  b\r\n", &["gats -1 a b"]),
    ("gat\r\n", &["ERROR"]),
    ("gats \r\n", &["ERROR"]),
    ("gat x\r\n", &[EXPTIME]),
    ("gat x a\r\n", &[EXPTIME]),
    ("gat noreply\r\n", &[EXPTIME]),
    ("stats x\t\r\n", &["stats(x\\t)"]),
    ("stats a\0\r\n", &["ERROR"]),
    ("stats cachedump  1 10\r\n", &["stats(cachedump,1,10)"]),
];

pub const UNKNOWN: &[Case] = &[
    ("GET / HTTP/1.1\r\nHost: a\r\n", &["<ERROR>", "closed"]),
    ("POST / HTTP/1.1\r\n\r\nversion\r\n", &["<ERROR>", "closed"]),
    (" vv  HTTP/1.1  \r\n", &["<ERROR>", "closed"]),
    ("HTTP/1\r\n", &["<ERROR>", "closed"]),
    ("mget / HTTP/1.1\r\n", &["<ERROR>", "closed"]),
    ("trace / HTTP/1.1\r\n", &["ERROR"]),
    ("delet / HTTP/1.1\r\n", &["ERROR"]),
    ("x HTTP/1.1\r\n", &["ERROR"]),
    ("mx HTTP/1.1\r\n", &["ERROR"]),
    ("xx HTTP/1.1 y\r\n", &["ERROR"]),
    (
        "PUT 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 HTTP/ 24\r\n",
        &["<ERROR>", "closed"],
    ),
    (
        "PUT 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 HTTP/\r\n",
        &["ERROR"],
    ),
];

const INVALID: &str = "CLIENT_ERROR invalid flag";
const DUPLICATE: &str = "CLIENT_ERROR duplicate flag";
const EITHER: &str = "CLIENT_ERROR invalid or duplicate flag";
const TOKEN: &str = "CLIENT_ERROR bad token in command line format";
const OPAQUE: &str = "CLIENT_ERROR opaque token too long";
const DECODING: &str = "CLIENT_ERROR error decoding key";
const MODE_LENGTH: &str = "CLIENT_ERROR incorrect length for M token";
const SET_MODE: &str = "CLIENT_ERROR invalid mode for ms M token";
const ARITHMETIC_MODE: &str = "CLIENT_ERROR invalid mode for ma M token";
const INITIAL: &str = "CLIENT_ERROR invalid numeric initial value";
const FLAG_DELTA: &str = "CLIENT_ERROR invalid numeric delta value";
const FLAGS: &str = "CLIENT_ERROR options flags too long";
const GET_FLAGS: &str = "CLIENT_ERROR options flags are too long";

pub const META: &[Case] = &[
    ("mn\r\n", &["mn"]),
    ("mn x\r\n", &["mn"]),
    ("mg a\r\n", &["mg a"]),
    ("mg a  v  t \n", &["mg a v t"]),
    ("mg a vv\r\n", &["mg a v"]),
    (
        "mg a c f h k s t u v q l O P L N1 R2 T+3 C4\r\n",
        &["mg a c f h k s t u v q l O P L N1 R2 T3 C4"],
    ),
    ("mg a M? k\r\n", &["mg a k"]),
    ("mg YWJj k b\r\n", &["mg YWJj k b"]),
    (
        "mg a F4294967295 J1 D2 I\r\n",
        &["mg a F4294967295 J1 D2 I"],
    ),
    (
        "mg a O1111111111111111111111111111111\r\n",
        &["mg a O1111111111111111111111111111111"],
    ),
    ("mg a O11111111111111111111111111111111\r\n", &[OPAQUE]),
    ("mg\r\n", &["ERROR"]),
    ("mg \r\n", &["ERROR"]),
    ("mg\ta\r\n", &["ERROR"]),
    ("mx a\r\n", &["ERROR"]),
    ("MG a\r\n", &["ERROR"]),
    ("mg a v v\r\n", &[DUPLICATE]),
    ("mg a x\r\n", &[INVALID]),
    ("mg a S1\r\n", &[INVALID]),
    ("mg a Tx x\r\n", &[INVALID]),
    ("mg a y Tx\r\n", &[INVALID]),
    ("mg a \u{1}\r\n", &[INVALID]),
    ("mg a \u{7f}\r\n", &[DUPLICATE]),
    ("mg a \u{eb}\r\n", &[DUPLICATE]),
    ("mg a T\r\n", &[TOKEN]),
    ("mg a Tx v\r\n", &[TOKEN]),
    ("mg a T5x\r\n", &[TOKEN]),
    ("mg a N\r\n", &[TOKEN]),
    ("mg a R1.5\r\n", &[TOKEN]),
    ("mg a C\r\n", &[TOKEN]),
    ("mg a C-1\r\n", &[TOKEN]),
    ("mg a F\r\n", &[FORMAT]),
    ("mg a F-1\r\n", &[FORMAT]),
    ("mg a Fx Tx\r\n", &[TOKEN]),
    ("mg a Tx Fx\r\n", &[TOKEN]),
    ("mg a Tx J\r\n", &[INITIAL]),
    ("mg a J\r\n", &[INITIAL]),
    ("mg a Dx\r\n", &[FLAG_DELTA]),
    ("mg a M\r\n", &[MODE_LENGTH]),
    ("mg a Mxx\r\n", &[MODE_LENGTH]),
    ("mg a b\r\n", &[DECODING]),
    ("mg !!!! b k\r\n", &[DECODING]),
    ("mg a b Tx\r\n", &[TOKEN]),
    ("mg a Tx b\r\n", &[DECODING]),
    (
        "mg a 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18\r\n",
        &[GET_FLAGS],
    ),
    (
        "mg a 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\r\n",
        &[INVALID],
    ),
    ("mg a\0b\r\n", &[FORMAT]),
    // differs: memcached takes control bytes in tokens, and cuts numbers to 32 bits.
    ("mg a O\u{1}\r\n", &[TOKEN]),
    ("mg a P\t\r\n", &[TOKEN]),
    ("mg a F4294967296\r\n", &[FORMAT]),
];

pub const META_SETS: &[Case] = &[
    ("ms a 2\r\nhi\r\n", &["ms a 2\\r\\nhi"]),
    ("ms a 2\nhi\r\n", &["ms a 2\\r\\nhi"]),
    ("ms a  +2   k  c\r\nhi\r\n", &["ms a 2 k c\\r\\nhi"]),
    (
        "ms a 2 ME T0 F7 C9 I q O1\r\nhi\r\n",
        &["ms a 2 ME T0 F7 C9 I q O1\\r\\nhi"],
    ),
    (
        "ms a 02 MA\r\nhi\r\nms a 0 MP\r\n\r\n",
        &["ms a 2 MA\\r\\nhi", "ms a 0 MP\\r\\n"],
    ),
    (
        "ms a 2 MR\r\nhi\r\nms a 2 MS\r\nhi\r\n",
        &["ms a 2 MR\\r\\nhi", "ms a 2 MS\\r\\nhi"],
    ),
    // What follows is known to be two bytes, and dropped, by memcached too.
    ("ms a 2 Tx\r\nhi\r\nmn\r\n", &[TOKEN, "mn"]),
    ("ms a 2 x q\r\nhi\r\nmn\r\n", &[INVALID, "mn"]),
    ("ms a 2 T0 T0\r\nhi\r\nmn\r\n", &[DUPLICATE, "mn"]),
    ("ms a 2 c k O1 b\r\nhi\r\nmn\r\n", &[DECODING, "mn"]),
    ("ms a 2 Fx\r\nhi\r\nmn\r\n", &[FORMAT, "mn"]),
    ("ms a 2 MX\r\nhi\r\nmn\r\n", &[SET_MODE, "mn"]),
    ("ms a 2 Me\r\nhi\r\nmn\r\n", &[SET_MODE, "mn"]),
    ("ms a 2 M+\r\nhi\r\nmn\r\n", &[SET_MODE, "mn"]),
    ("ms a 2 M\r\nhi\r\nmn\r\n", &[MODE_LENGTH, "mn"]),
    (
        "ms a 2 O11111111111111111111111111111111\r\nhi\r\nmn\r\n",
        &[OPAQUE, "mn"],
    ),
    (
        "ms a 2 O11111111111111111111111111111111 MX\r\nhi\r\nmn\r\n",
        &[SET_MODE, "mn"],
    ),
    (
        "ms a 2 MX O11111111111111111111111111111111\r\nhi\r\nmn\r\n",
        &[SET_MODE, "mn"],
    ),
    ("ms a 2 MX Tx\r\nhi\r\nmn\r\n", &[TOKEN, "mn"]),
    (
        "ms a 2 k c O1 F1 I T0 MS v s t f u h l N0 q\r\nhi\r\n",
        &["ms a 2 k c O1 F1 I T0 MS v s t f u h l N0 q\\r\\nhi"],
    ),
    ("ms a 2 x\r\n", &[INVALID, "…"]),
    ("ms a 2\r\nhi", &["…"]),
];

pub const META_OTHERS: &[Case] = &[
    ("md a\r\n", &["md a"]),
    ("md a q I T3 C1 O2 k\r\n", &["md a q I T3 C1 O2 k"]),
    ("md\r\n", &["ERROR"]),
    ("md a x\r\n", &[EITHER]),
    ("md a q q\r\n", &[EITHER]),
    ("md a Cx\r\n", &[EITHER]),
    ("md a k O1 b\r\n", &[EITHER]),
    ("md a O11111111111111111111111111111111\r\n", &[OPAQUE]),
    (
        "md a 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18\r\n",
        &[FLAGS],
    ),
    ("ma a\r\n", &["ma a"]),
    (
        "ma a MD v D2 t c k O3 N0 J13 q\r\n",
        &["ma a MD v D2 t c k O3 N0 J13 q"],
    ),
    ("ma a M+\r\nma a M-\r\n", &["ma a MI", "ma a MD"]),
    ("ma\r\n", &["ERROR"]),
    ("ma a MX\r\n", &[ARITHMETIC_MODE]),
    ("ma a Mi\r\n", &[ARITHMETIC_MODE]),
    ("ma a MS\r\n", &[ARITHMETIC_MODE]),
    ("ma a Mii\r\n", &[EITHER]),
    ("ma a J1 Dx\r\n", &[EITHER]),
    ("ma a N\r\n", &[EITHER]),
    ("me a\r\n", &["me a"]),
    ("me a q\r\n", &["me a"]),
    ("me YWJj b\r\n", &["me YWJj b"]),
    ("me\r\n", &[FORMAT]),
    ("me !! b\r\n", &[FORMAT]),
    ("me a b v\r\n", &[FORMAT]),
];

pub const TABLES: &[&[Case]] = &[
    LINES,
    GETS,
    SETS,
    REFUSED,
    CLOSED,
    MOVED,
    OTHERS,
    STORES,
    NUMBERS,
    UNKNOWN,
    META,
    META_SETS,
    META_OTHERS,
];
