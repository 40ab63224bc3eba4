//! Requests as memcached 1.6.18 reads them. Each line of the table was sent to a real memcached and
//! its answer noted; `differs` marks the few that differ on purpose.

use presenced_protocol::{BadRequest, Key, Limits, Next, Parsed, Request, encode, request};
use proptest::prelude::*;

/// What a server would do with `input`, request after request, as text.
///
/// A request that was understood is shown; of one that was not, the answer, between `<` and `>` if
/// `noreply` keeps it from being sent. `…` is input that isn't whole.
fn read(input: &[u8], limits: &Limits) -> Vec<String> {
    let mut reader = Reader::default();
    reader.feed(input, limits);
    reader.finish()
}

#[derive(Default)]
struct Reader {
    waiting: Vec<u8>,
    swallow: usize,
    closed: bool,
    seen: Vec<String>,
}

impl Reader {
    fn feed(&mut self, input: &[u8], limits: &Limits) {
        self.waiting.extend_from_slice(input);
        loop {
            let swallowed = self.swallow.min(self.waiting.len());
            self.waiting.drain(..swallowed);
            self.swallow -= swallowed;
            if self.closed || self.swallow > 0 {
                return;
            }
            let (seen, consumed) = match request::parse(&self.waiting, limits) {
                Parsed::Incomplete => return,
                Parsed::Request { request, consumed } => (show(&request), consumed),
                Parsed::Bad {
                    answer,
                    noreply,
                    consumed,
                    next,
                } => {
                    match next {
                        Next::Continue => {}
                        Next::Swallow(bytes) => self.swallow = bytes,
                        Next::Close => self.closed = true,
                    }
                    (show_bad(&answer, noreply), consumed)
                }
            };
            assert!(consumed > 0 && consumed <= self.waiting.len());
            self.waiting.drain(..consumed);
            self.seen.push(seen);
        }
    }

    fn finish(mut self) -> Vec<String> {
        if self.closed {
            self.seen.push("closed".into());
        } else if !self.waiting.is_empty() || self.swallow > 0 {
            self.seen.push("…".into());
        }
        self.seen
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

fn show(request: &Request<'_>) -> String {
    let quiet = |noreply: &bool| if *noreply { " quietly" } else { "" };
    match request {
        Request::Get { keys, with_cas } => {
            let keys: Vec<_> = keys
                .clone()
                .map(|key| key.as_bytes().escape_ascii().to_string())
                .collect();
            format!(
                "{}({})",
                if *with_cas { "gets" } else { "get" },
                keys.join(",")
            )
        }
        Request::Set {
            key,
            flags,
            exptime,
            value,
            noreply,
        } => {
            let (key, value) = (key.as_bytes().escape_ascii(), value.escape_ascii());
            format!("set({key},{flags},{exptime},{value}){}", quiet(noreply))
        }
        Request::Touch {
            key,
            exptime,
            noreply,
        } => {
            format!(
                "touch({},{exptime}){}",
                key.as_bytes().escape_ascii(),
                quiet(noreply)
            )
        }
        Request::Delete { key, noreply } => {
            format!(
                "delete({}){}",
                key.as_bytes().escape_ascii(),
                quiet(noreply)
            )
        }
        Request::Version => "version".into(),
        Request::Stats { argument } => {
            format!("stats({})", argument.unwrap_or_default().escape_ascii())
        }
        Request::FlushAll { delay, noreply } => {
            format!("flush_all({}){}", delay.unwrap_or(0), quiet(noreply))
        }
        Request::Quit => "quit".into(),
    }
}

const FORMAT: &str = "CLIENT_ERROR bad command line format";
const FORMAT_QUIET: &str = "<CLIENT_ERROR bad command line format>";
const CHUNK: &str = "CLIENT_ERROR bad data chunk";
const EXPTIME: &str = "CLIENT_ERROR invalid exptime argument";
const EXPTIME_QUIET: &str = "<CLIENT_ERROR invalid exptime argument>";
const USAGE: &str = "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]";
const USAGE_QUIET: &str = "<CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]>";
const LARGE: &str = "SERVER_ERROR object too large for cache";
const LARGE_QUIET: &str = "<SERVER_ERROR object too large for cache>";

type Case = (&'static str, &'static [&'static str]);

const LINES: &[Case] = &[
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

const GETS: &[Case] = &[
    ("get\r\n", &["ERROR"]),
    ("get \r\n", &["ERROR"]),
    ("gets\r\n", &["ERROR"]),
    ("get a\r\n", &["get(a)"]),
    ("get a\n", &["get(a)"]),
    ("  get a\r\n", &["get(a)"]),
    ("get  a   b \r\nversion\r\n", &["get(a,b)", "version"]),
    ("gets a a\r\n", &["gets(a,a)"]),
    ("get noreply\r\n", &["get(noreply)"]),
    // differs: memcached takes control bytes, and cuts the line at a NUL.
    ("get a\tb\r\n", &[FORMAT]),
    ("get a\rb\r\n", &[FORMAT]),
    ("get a\0b\r\n", &[FORMAT]),
    ("get a\u{7f}b\r\n", &[FORMAT]),
    ("get a\r\r\n", &[FORMAT]),
    ("get zo\u{eb}\r\n", &["get(zo\\xc3\\xab)"]),
];

const SETS: &[Case] = &[
    ("set a 0 0 1\r\nx\r\nget a\r\n", &["set(a,0,0,x)", "get(a)"]),
    ("set a 0 0 1\nx\r\n", &["set(a,0,0,x)"]),
    ("set  a  0 0  1 \r\nx\r\n", &["set(a,0,0,x)"]),
    ("set a 0 0 0\r\n\r\n", &["set(a,0,0,)"]),
    ("set a 0 0 3\r\nx\r\n\r\n", &["set(a,0,0,x\\r\\n)"]),
    ("set a 0 0 1 noreply\r\nx\r\n", &["set(a,0,0,x) quietly"]),
    ("set a 0 0 1 norep\r\nx\r\n", &["set(a,0,0,x)"]),
    ("set noreply 0 0 1\r\nx\r\n", &["set(noreply,0,0,x)"]),
    ("set a +1 +5 +1\r\nx\r\n", &["set(a,1,5,x)"]),
    ("set a 010 0 01\r\nx\r\n", &["set(a,10,0,x)"]),
    ("set a -0 -0 -0\r\n\r\n", &["set(a,0,0,)"]),
    (
        "set a 4294967295 -1 1\r\nx\r\n",
        &["set(a,4294967295,-1,x)"],
    ),
    ("set a 0 2147483648 1\r\nx\r\n", &["set(a,0,2147483648,x)"]),
    ("set\r\n", &["ERROR"]),
    ("set a\r\n", &["ERROR"]),
    ("set a 0 0\r\n", &["ERROR"]),
    ("set a 0 0 1 2 noreply\r\nx\r\n", &["ERROR", "ERROR"]),
    ("set a 0 0 1 2 3 4 5 6 7\r\nx\r\n", &["ERROR", "ERROR"]),
    ("set a x 0 1\r\nx\r\n", &[FORMAT, "ERROR"]),
    ("set a -1 0 1\r\nx\r\n", &[FORMAT, "ERROR"]),
    ("set a 1x 0 1\r\nx\r\n", &[FORMAT, "ERROR"]),
    ("set a 0 x 1\r\nx\r\n", &[FORMAT, "ERROR"]),
    ("set a 0 x 1 noreply\r\nx\r\n", &[FORMAT_QUIET, "ERROR"]),
    ("set a 0 0 x\r\nversion\r\n", &[FORMAT, "version"]),
    ("set a 0 0 0x1\r\nx\r\n", &[FORMAT, "ERROR"]),
    ("set a 0 0 -1\r\nversion\r\n", &[FORMAT, "version"]),
    ("set a 0 0 2147483646\r\nversion\r\n", &[FORMAT, "version"]),
    (
        "set a 0 0 9223372036854775808\r\nversion\r\n",
        &[FORMAT, "version"],
    ),
    // differs: memcached would store this with flags 0.
    ("set a 4294967296 0 1\r\nx\r\n", &[FORMAT, "ERROR"]),
    ("set a 0 0 1\r\nx\nversion\r\n", &[CHUNK, "ERROR"]),
    (
        "set a 0 0 1\r\nxyz\r\nversion\r\n",
        &[CHUNK, "ERROR", "version"],
    ),
    ("set a 0 0 3\r\nx\r\nversion\r\n", &[CHUNK, "ERROR"]),
    (
        "set a 0 0 1 noreply\r\nxyz\r\nversion\r\n",
        &["<CLIENT_ERROR bad data chunk>", "ERROR", "version"],
    ),
    ("set a 0 0 5\r\nxyz\r\n", &["…"]),
    ("set a 0 0 1\r\nx", &["…"]),
];

const OTHERS: &[Case] = &[
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

/// The same in whatever two pieces it comes, and byte by byte.
fn check(input: &[u8], expected: &[&str], limits: &Limits) {
    let shown = input[..input.len().min(100)].escape_ascii();
    assert_eq!(read(input, limits), expected, "{shown}");
    for cut in 0..=input.len() {
        let mut reader = Reader::default();
        reader.feed(&input[..cut], limits);
        reader.feed(&input[cut..], limits);
        assert_eq!(reader.finish(), expected, "{shown} cut at {cut}");
    }
    let mut reader = Reader::default();
    input.iter().for_each(|byte| reader.feed(&[*byte], limits));
    assert_eq!(reader.finish(), expected, "{shown} byte by byte");
}

#[test]
fn reads_lines_as_memcached_does() {
    for (input, expected) in [LINES, GETS, SETS, OTHERS].into_iter().flatten() {
        check(input.as_bytes(), expected, &Limits::default());
    }
}

#[test]
fn keys_have_250_bytes_and_not_251() {
    let (longest, longer) = ("k".repeat(250), "k".repeat(251));
    let limits = Limits::default();
    check(
        format!("get {longest}\r\n").as_bytes(),
        &[&format!("get({longest})")],
        &limits,
    );
    let get = format!("get a {longer}\r\nversion\r\n");
    check(get.as_bytes(), &[FORMAT, "version"], &limits);
    let set = format!("set {longer} 0 0 1\r\nx\r\nversion\r\n");
    check(set.as_bytes(), &[FORMAT, "ERROR", "version"], &limits);
    let quiet = format!("set {longer} 0 0 1 noreply\r\nx\r\n");
    check(quiet.as_bytes(), &[FORMAT_QUIET, "ERROR"], &limits);
    check(
        format!("delete {longer}\r\n").as_bytes(),
        &[FORMAT],
        &limits,
    );
    check(
        format!("delete {longer} noreply\r\n").as_bytes(),
        &[FORMAT_QUIET],
        &limits,
    );
    check(
        format!("touch {longer} 0\r\n").as_bytes(),
        &[FORMAT],
        &limits,
    );
    check(
        format!("touch {longer} x noreply\r\n").as_bytes(),
        &[FORMAT_QUIET],
        &limits,
    );
}

#[test]
fn swallows_a_value_that_is_too_large() {
    let limits = Limits {
        value_bytes_max: 4,
        ..Limits::default()
    };
    check(b"set a 0 0 4\r\nwxyz\r\n", &["set(a,0,0,wxyz)"], &limits);
    // Not even its end is looked at.
    check(
        b"set a 0 0 5\r\nvwxyz??version\r\n",
        &[LARGE, "version"],
        &limits,
    );
    check(
        b"set a 0 0 5 noreply\r\nvwxyz\r\nversion\r\n",
        &[LARGE_QUIET, "version"],
        &limits,
    );
    check(
        b"set a 0 0 2147483645\r\nversion\r\n",
        &[LARGE, "…"],
        &limits,
    );
    let parsed = request::parse(b"set a 0 0 5\r\n", &limits);
    let Parsed::Bad {
        answer: BadRequest::TooLarge { key },
        ..
    } = parsed
    else {
        panic!("not too large: {parsed:?}");
    };
    assert_eq!(key, Key::new(b"a").unwrap());
}

#[test]
fn closes_on_a_line_without_end_unless_it_is_a_get() {
    let limits = Limits {
        line_bytes_max: 16,
        get_line_bytes_max: 32,
        keys_max: 9,
        ..Limits::default()
    };
    check(b"version        \n", &["version"], &limits);
    check(b"version        ", &["…"], &limits);
    check(
        b"version         \n",
        &["CLIENT_ERROR line too long", "closed"],
        &limits,
    );
    check(
        b"                \nversion\n",
        &["CLIENT_ERROR line too long", "closed"],
        &limits,
    );
    check(b"get a b c d e f g h\n", &["get(a,b,c,d,e,f,g,h)"], &limits);
    check(
        b" gets aaaaaaaaaaaaaaaaaaaaaaaaa\n",
        &["gets(aaaaaaaaaaaaaaaaaaaaaaaaa)"],
        &limits,
    );
    check(
        b" gets aaaaaaaaaaaaaaaaaaaaaaaaaa\n",
        &["CLIENT_ERROR line too long", "closed"],
        &limits,
    );
    // `get` must show in the first `line_bytes_max` bytes.
    check(
        b"             get a b c\n",
        &["CLIENT_ERROR line too long", "closed"],
        &limits,
    );
    check(
        b"get a b c d e f g h i\n",
        &["get(a,b,c,d,e,f,g,h,i)"],
        &limits,
    );
    check(
        b"get a b c d e f g h i j\nversion\n",
        &["CLIENT_ERROR too many keys", "version"],
        &limits,
    );
}

#[test]
fn a_thousand_longest_keys_fit() {
    let key = [b'k'; 250];
    let mut line = Vec::new();
    assert_eq!(
        encode::gets(&mut line, (0..1000).map(|_| Key::new(&key).unwrap())),
        1000
    );
    let Parsed::Request {
        request: Request::Get {
            keys,
            with_cas: true,
        },
        consumed,
    } = request::parse(&line, &Limits::default())
    else {
        panic!("not a gets");
    };
    assert_eq!((keys.count(), consumed), (1000, line.len()));
}

/// Bytes as an attacker would choose them: pieces of commands, numbers, line ends, anything.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "get ",
        "gets ",
        "set ",
        "touch ",
        "delete ",
        "version",
        "stats",
        "flush_all ",
        "quit",
        "noreply",
        "\r\n",
        "\r\n",
        "\n",
        " ",
        "a ",
        "b ",
        "0 ",
        "1 ",
        "3\r\n",
        "-1 ",
        "9999999 ",
        "x",
        "\0",
        "\r",
    ]);
    let piece = prop_oneof![
        9 => words.prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_cuts_give_the_same(input in bytes(), mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5)) {
        let limits = Limits { line_bytes_max: 24, get_line_bytes_max: 40, keys_max: 6, value_bytes_max: 8 };
        let mut reader = Reader::default();
        let mut at = 0;
        cuts.sort_by_key(|cut| cut.index(input.len() + 1));
        for cut in cuts {
            let cut = cut.index(input.len() + 1);
            reader.feed(&input[at..cut], &limits);
            at = cut;
        }
        reader.feed(&input[at..], &limits);
        prop_assert_eq!(reader.finish(), read(&input, &limits));
    }

    #[test]
    fn anything_is_read_without_panic(input in prop::collection::vec(any::<u8>(), 0..300)) {
        // `feed` asserts what is consumed.
        read(&input, &Limits::default());
    }
}
