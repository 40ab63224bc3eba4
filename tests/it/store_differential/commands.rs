//! Random commands.

use std::time::{SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use proptest::sample::select;

use super::storage;

/// Keys of a sequence.
pub(super) const KEYS: [&str; 6] = [
    "a",
    "key:with:colons",
    "\u{1}\t\u{b}\u{1b}\u{7f}",
    "cr\r",
    "Zm9v",
    "YmluYXJ5/w==",
];

/// From here on they may be read as base64.
const BASE64_KEYS_FROM: usize = 4;

/// What is given as Unix time is so far off.
pub(super) const FAR_SECONDS: u64 = 100_000;

/// Which CAS number a command names, seen from that of the item.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cas {
    Same,
    Below,
    Above,
    Zero,
}

/// A piece of a command.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    Text(String),
    Bytes(Vec<u8>),
    Key(usize),
    Cas(usize, Cas),
}

pub(super) use Piece::{Bytes, Key, Text};

/// A command, and whether the one before must have been answered.
///
/// memcached writes a smaller number into the item, padded, unless an answer that it has not sent
/// yet holds the item: what is stored then depends on how the bytes came in.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) pieces: Vec<Piece>,
    pub(super) alone: bool,
    /// What memcached is sent in its place, if it would run the value, or take what the store refuses. It
    /// answers the same to this.
    pub(super) instead: Option<Vec<Piece>>,
    /// The store closes the connection after the answer.
    pub(super) closes: bool,
}

/// A command for people.
pub(super) fn shown(command: &Command) -> String {
    let shown = |piece: &Piece| match piece {
        Text(text) => text.escape_default().to_string(),
        Bytes(bytes) if bytes.len() > 40 => format!("({} bytes)", bytes.len()),
        Bytes(bytes) => bytes.escape_ascii().to_string(),
        Key(key) => KEYS[*key].escape_default().to_string(),
        Piece::Cas(key, cas) => format!("({cas:?} {})", KEYS[*key].escape_default()),
    };
    command.pieces.iter().map(shown).collect()
}

pub(super) fn text(text: impl Into<String>) -> Piece {
    Text(text.into())
}

/// None near 2⁶³: from there on memcached looks for a minus sign behind the value's end too.
fn number_text() -> impl Strategy<Value = String> {
    select(vec![
        "0",
        "1",
        "5",
        "9",
        "10",
        "99",
        "100",
        "65535",
        "1000000000000",
    ])
    .prop_map(String::from)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => number_text().prop_map(String::into_bytes),
        2 => select(vec!["", "12 abc", " 7", "-1", "+3", "x", "MN\r\n", "a\r\nget b\r\n", "99999999999999999999"])
            .prop_map(|text| text.as_bytes().to_vec()),
        2 => (0_usize..300).prop_map(|bytes| vec![b'v'; bytes]),
        1 => (0_usize..20_000).prop_map(|bytes| vec![b'w'; bytes]),
    ]
}

/// Such that a command's effect does not depend on when in a second it is carried out.
fn exptime() -> impl Strategy<Value = String> {
    let unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    prop_oneof![
        4 => Just("0".to_owned()),
        4 => select(vec!["1", "2", "100", "1000", "2592000"]).prop_map(String::from),
        1 => select(vec!["-1", "2592001"]).prop_map(String::from),
        1 => select(vec![unix + FAR_SECONDS, unix - FAR_SECONDS]).prop_map(|time| time.to_string()),
    ]
}

pub(super) fn noreply() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(""), 1 => Just(" noreply")]
}

pub(super) fn key() -> impl Strategy<Value = usize> {
    0..KEYS.len()
}

pub(super) fn cas() -> impl Strategy<Value = Cas> {
    prop_oneof![4 => Just(Cas::Same), 1 => Just(Cas::Below), 1 => Just(Cas::Above), 1 => Just(Cas::Zero)]
}

pub(super) fn command(pieces: Vec<Piece>) -> Command {
    Command {
        pieces,
        alone: false,
        instead: None,
        closes: false,
    }
}

fn alone(pieces: Vec<Piece>) -> Command {
    Command {
        alone: true,
        ..command(pieces)
    }
}

fn many_keys(name: String, keys: Vec<usize>) -> Command {
    let keys = keys.into_iter().flat_map(|key| [text(" "), Key(key)]);
    let mut pieces: Vec<_> = [text(name)].into_iter().chain(keys).collect();
    pieces.push(text("\r\n"));
    command(pieces)
}

fn classic() -> impl Strategy<Value = Command> {
    let store = |verb: &'static str| {
        (key(), 0..3_u32, exptime(), value(), noreply(), cas()).prop_map(
            move |(key, flags, exptime, value, noreply, cas)| {
                let line = format!(" {flags} {exptime} {}", value.len());
                let mut pieces = vec![text(verb), text(" "), Key(key), text(line)];
                if verb == "cas" {
                    pieces.extend([text(" "), Piece::Cas(key, cas)]);
                }
                pieces.extend([text(format!("{noreply}\r\n")), Bytes(value), text("\r\n")]);
                command(pieces)
            },
        )
    };
    let keyed = |name: &'static str, rest: BoxedStrategy<String>| {
        (key(), rest, noreply()).prop_map(move |(key, rest, noreply)| {
            vec![
                text(format!("{name} ")),
                Key(key),
                text(format!("{rest}{noreply}\r\n")),
            ]
        })
    };
    let keys = || prop::collection::vec(key(), 1..5);
    prop_oneof![
        4 => store("set"),
        2 => store("add"),
        2 => store("replace"),
        2 => store("append"),
        2 => store("prepend"),
        3 => store("cas"),
        4 => keys().prop_map(|keys| many_keys("get".into(), keys)),
        2 => keys().prop_map(|keys| many_keys("gets".into(), keys)),
        2 => (exptime(), keys()).prop_map(|(exptime, keys)| many_keys(format!("gat {exptime}"), keys)),
        1 => (exptime(), keys()).prop_map(|(exptime, keys)| many_keys(format!("gats {exptime}"), keys)),
        2 => keyed("touch", exptime().prop_map(|exptime| format!(" {exptime}")).boxed()).prop_map(command),
        2 => keyed("delete", select(vec!["", " 0"]).prop_map(String::from).boxed()).prop_map(command),
        3 => keyed("incr", number_text().prop_map(|delta| format!(" {delta}")).boxed()).prop_map(alone),
        3 => keyed("decr", number_text().prop_map(|delta| format!(" {delta}")).boxed()).prop_map(alone),
        1 => select(vec!["flush_all\r\n", "flush_all 0\r\n", "flush_all 1\r\n", "flush_all noreply\r\n", "verbosity 0\r\n", "version\r\n", "mn\r\n", "\r\n"])
            .prop_map(|line| command(vec![text(line)])),
        1 => bad(),
        4 => storage::command(),
    ]
}

/// What is wrong, with what follows it.
fn bad() -> impl Strategy<Value = Command> {
    let line = select(vec![
        "foo bar\r\n",
        "get\r\n",
        "incr a x\r\n",
        "touch a x\r\n",
        "delete a 5\r\n",
        "mg\r\n",
        "mg a ?\r\n",
        "mg a v v\r\n",
        "ms a 2 MX\r\nhi\r\n",
        "ms a 2 Tx\r\nhi\r\n",
        "md a Cx\r\n",
        "ma a MX\r\n",
        "ma a Nx\r\n",
        "me\r\n",
        "mg * b\r\n",
        "set a 0 0 2000000\r\n",
    ]);
    line.prop_map(|line| {
        let mut pieces = vec![text(line)];
        if line.contains("2000000") {
            pieces.extend([Bytes(vec![b'x'; 2_000_000]), text("\r\n")]);
        }
        alone(pieces)
    })
}

/// Some of these flags, each at most once, in any order.
fn flags(of: Vec<BoxedStrategy<Piece>>, key: usize) -> impl Strategy<Value = Vec<Piece>> {
    let count = of.len();
    (
        Just(of),
        prop::sample::subsequence((0..count).collect::<Vec<_>>(), 0..=count.min(6)),
    )
        .prop_flat_map(|(of, places)| {
            let chosen: Vec<_> = places.iter().map(|&place| of[place].clone()).collect();
            (chosen, Just(places)).prop_map(|(pieces, _)| pieces)
        })
        .prop_shuffle()
        .prop_map(move |flags| {
            let base64 = flags
                .iter()
                .any(|flag| matches!(flag, Text(text) if text == "b"));
            let flags = flags.into_iter().flat_map(move |flag| match flag {
                // What is known is the number of the key that is not encoded.
                Piece::Cas(_, Cas::Same | Cas::Below) if base64 => vec![text(" C0")],
                Piece::Cas(_, cas) => vec![text(" C"), Piece::Cas(key, cas)],
                flag => vec![text(" "), flag],
            });
            flags.chain([text("\r\n")]).collect()
        })
}

fn letters(letters: &'static str) -> Vec<BoxedStrategy<Piece>> {
    let letter = |letter: char| Just(text(letter.to_string())).boxed();
    letters.chars().map(letter).collect()
}

fn token(
    letter: &'static str,
    token: impl Strategy<Value = String> + 'static,
) -> BoxedStrategy<Piece> {
    token
        .prop_map(move |token| text(format!("{letter}{token}")))
        .boxed()
}

fn opaque() -> BoxedStrategy<Piece> {
    token(
        "O",
        select(vec!["", "1", "opaque", "0123456789012345678901234567890"]).prop_map(String::from),
    )
}

fn compare_cas() -> BoxedStrategy<Piece> {
    cas().prop_map(|cas| Piece::Cas(0, cas)).boxed()
}

/// No negative time to live together with `t`: memcached then tells a number that depends on how
/// long it has been running.
fn live_exptime() -> impl Strategy<Value = String> {
    select(vec!["0", "50", "100", "1000"]).prop_map(String::from)
}

fn meta(
    name: &'static str,
    of: fn() -> Vec<BoxedStrategy<Piece>>,
) -> impl Strategy<Value = Command> {
    key().prop_flat_map(move |key| {
        let value = if name == "ms" {
            value().boxed()
        } else {
            Just(Vec::new()).boxed()
        };
        (flags(of(), key), value).prop_map(move |(flags, value)| {
            let mut pieces = vec![text(format!("{name} ")), Key(key)];
            if name == "ms" {
                pieces.push(text(format!(" {}", value.len())));
            }
            pieces.extend(flags);
            if name == "ms" {
                pieces.extend([Bytes(value), text("\r\n")]);
            }
            if name == "ma" {
                alone(pieces)
            } else {
                command(pieces)
            }
        })
    })
}

fn metas() -> impl Strategy<Value = Command> {
    prop_oneof![
        6 => meta("mg", || {
            let mut of = letters("bcfhklqstuv");
            of.extend([
                opaque(),
                token("N", live_exptime()),
                token("R", live_exptime()),
                token("T", live_exptime()),
            ]);
            of
        }),
        4 => meta("ms", || {
            let mut of = letters("bckqI");
            of.extend([
                opaque(),
                token("T", exptime()),
                token("F", (0..3_u32).prop_map(|flags| flags.to_string())),
                token("M", select(vec!["S", "E", "A", "P", "R"]).prop_map(String::from)),
                compare_cas(),
            ]);
            of
        }),
        3 => meta("md", || {
            let mut of = letters("bkqI");
            of.extend([opaque(), token("T", exptime()), compare_cas()]);
            of
        }),
        4 => meta("ma", || {
            let mut of = letters("bckqtv");
            of.extend([
                opaque(),
                token("T", live_exptime()),
                token("N", live_exptime()),
                token("J", number_text()),
                token("D", number_text()),
                token("M", select(vec!["I", "D", "+", "-"]).prop_map(String::from)),
                compare_cas(),
            ]);
            of
        }),
        2 => (key(), any::<bool>()).prop_map(|(key, base64)| {
            // A key that is no base64 is bad then.
            let end = if base64 && key >= BASE64_KEYS_FROM { " b\r\n" } else { "\r\n" };
            command(vec![text("me "), Key(key), text(end)])
        }),
    ]
}

pub(super) fn sequence(count: usize) -> impl Strategy<Value = (Vec<Command>, u64)> {
    let command = prop_oneof![classic(), metas()];
    (prop::collection::vec(command, 1..count), any::<u64>())
}
