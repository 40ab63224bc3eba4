//! Storage commands of which something may be wrong, with values that are commands themselves.
//!
//! Here the store leaves memcached on purpose: it never runs a value. What it does instead is found by a
//! plain reading of the line ([`length`]); memcached is sent no more of the value than it takes itself,
//! so it answers to the line alone, and what follows finds both as they were.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::commands::{self, Bytes, Command, Key, Piece, Text, text};

/// Words of a line.
type Words = Vec<Piece>;

/// The greatest length that a line may say.
const LENGTH_MAX: i64 = i32::MAX as i64 - 2;

/// What stands for the length.
#[derive(Clone, Debug)]
enum Length {
    Right,
    /// Of some place before the value's end that no line end stands at.
    Short(Index),
    Wrong(&'static str),
}

pub(super) fn command() -> impl Strategy<Value = Command> {
    let line = prop_oneof![4 => classic(), 2 => meta()];
    let parts = (line, length_word(), value());
    parts.prop_filter_map("nobody can know", |((before, after), length, value)| {
        let whole = [&value[..], b"\r\n"].concat();
        let word = match length {
            Length::Right => value.len().to_string(),
            Length::Wrong(word) => word.into(),
            Length::Short(index) => {
                let is_seen = |&bytes: &usize| !whole[bytes..].starts_with(b"\r\n");
                let places: Vec<usize> = (0..value.len()).filter(is_seen).collect();
                // There is none in an empty value.
                let place = (!places.is_empty()).then(|| *index.get(&places));
                place.unwrap_or(value.len()).to_string()
            }
        };
        let words = [before, vec![text(word)], after].concat();
        of(&words, &whole)
    })
}

/// The command of these words and this value with its line end. `None` if the length is wrong and nobody
/// can know: there is less of the value, or a line end stands where it ends by that.
fn of(words: &Words, whole: &[u8]) -> Option<Command> {
    let read: Vec<&str> = words.iter().map(read).collect();
    let length = length(&read);
    let rest = length.map(|length| whole.get(length..).unwrap_or(b"\r"));
    let closes = match rest {
        Some(b"\r\n") => false,
        Some([] | [b'\r'] | [b'\r', b'\n', ..]) => return None,
        Some(_) | None => true,
    };
    let line = || {
        let spaced = words.iter().flat_map(|word| [text(" "), word.clone()]);
        let mut line: Vec<Piece> = spaced.skip(1).collect();
        line.push(text("\r\n"));
        line
    };
    let mut pieces = line();
    pieces.push(Bytes(whole.to_vec()));
    if closes {
        pieces.push(text("\r\nflush_all\r\nmn\r\n"));
    }
    let taken = taken_by_memcached(&read);
    let theirs = if has_other_words(&read) {
        // memcached takes any last word, and some of these.
        vec![text("set\r\n")]
    } else {
        let mut data = whole.to_vec();
        data.resize(taken.unwrap_or(0), b'x');
        [line(), vec![Bytes(data)]].concat()
    };
    let same = !closes && taken == Some(whole.len());
    Some(Command {
        instead: (!same).then_some(theirs),
        closes,
        ..commands::command(pieces)
    })
}

/// A word as it is read; keys and CAS numbers are well whichever they are.
fn read(word: &Piece) -> &str {
    match word {
        Text(word) => word,
        Key(_) | Bytes(_) => "key",
        Piece::Cas(..) => "1",
    }
}

/// How long the value is, if it is known to the store.
fn length(words: &[&str]) -> Option<usize> {
    let length = match *words {
        ["ms", _, length, ref flags @ ..] => {
            let is_digit = |flag: &&str| flag.starts_with(|first: char| first.is_ascii_digit());
            length.parse().ok().filter(|_| !flags.iter().any(is_digit))
        }
        ["ms", ..] => None,
        [_, _, _, _, length, ..] if !has_other_words(words) => length.parse().ok(),
        _ => None,
    };
    let length = length.filter(|length| (0..=LENGTH_MAX).contains(length))?;
    usize::try_from(length).ok()
}

/// Whether the number of words is none that the store takes in a classic command.
fn has_other_words(words: &[&str]) -> bool {
    let words = words.strip_suffix(&["noreply"]).unwrap_or(words);
    match words[0] {
        "ms" => false,
        "cas" => words.len() != 6,
        _ => words.len() != 5,
    }
}

/// How many bytes behind the line memcached takes for the value and its line end; `None` if it takes
/// none, and what follows the line for commands.
fn taken_by_memcached(words: &[&str]) -> Option<usize> {
    let length = match *words {
        ["ms", key, length, ref flags @ ..] => {
            let is_good = key.len() <= 250 && flags.len() <= 16;
            Some(length).filter(|_| is_good)
        }
        [_, key, flags, exptime, length, ref rest @ ..] if !has_other_words(words) => {
            let unique = rest.first().filter(|_| words[0] == "cas");
            let is_good = key.len() <= 250
                && flags.parse::<u32>().is_ok()
                && exptime.parse::<i64>().is_ok()
                && unique.is_none_or(|unique| unique.parse::<u64>().is_ok());
            Some(length).filter(|_| is_good)
        }
        _ => None,
    };
    let length = length?.parse().ok();
    let length: i64 = length.filter(|length| (0..=LENGTH_MAX).contains(length))?;
    usize::try_from(length + 2).ok()
}

/// How the words of a line are more or fewer than there should be. In one way at a time: of a key with a
/// space on a line that lacks a number nobody can know.
#[derive(Clone, Debug)]
enum Slip {
    None,
    /// The key has a space in it, and this behind that.
    Space(&'static str),
    /// The word at this place is missing; the name is at 0.
    Missing(usize),
    /// More behind all others.
    More(Vec<&'static str>),
}

impl Slip {
    /// With these words missing, or more of them.
    fn apply(self, before: &mut Words, after: &mut Words) {
        match self {
            Slip::None => {}
            Slip::Space(more) => before.insert(2, text(more)),
            Slip::Missing(place) => drop(before.remove(place)),
            Slip::More(words) => after.extend(words.into_iter().map(text)),
        }
    }
}

/// A classic command: what stands before the length and behind it.
fn classic() -> impl Strategy<Value = (Words, Words)> {
    let verb = select(vec!["set", "add", "replace", "append", "prepend", "cas"]);
    let flags = number(vec!["0", "7"], vec!["x", "-1", "1x"]);
    let exptime = number(
        vec!["0", "100"],
        vec!["x", "1.5", "undefined", "99999999999999999999"],
    );
    let bad_unique = select(vec!["x", "-1", "18446744073709551616", "noreply"]);
    let unique = (commands::cas(), prop::option::weighted(0.3, bad_unique));
    let slip = prop_oneof![
        8 => Just(Slip::None),
        1 => space(),
        1 => (1..=3_usize).prop_map(Slip::Missing),
        1 => select(vec![vec!["x"], vec!["9"], vec!["noreply", "x"], vec!["noreply", "noreply"]])
            .prop_map(Slip::More),
    ];
    (
        verb,
        key(),
        flags,
        exptime,
        unique,
        commands::noreply(),
        slip,
    )
        .prop_map(
            |(verb, (key, word), flags, exptime, (cas, bad_unique), noreply, slip)| {
                let mut before = vec![text(verb), word, text(flags), text(exptime)];
                let unique = bad_unique.map_or(Piece::Cas(key, cas), text);
                let mut after: Words = (verb == "cas").then_some(unique).into_iter().collect();
                after.extend((!noreply.is_empty()).then(|| text("noreply")));
                slip.apply(&mut before, &mut after);
                (before, after)
            },
        )
}

/// An `ms` likewise.
fn meta() -> impl Strategy<Value = (Words, Words)> {
    let good = vec![
        "T0", "T100", "k", "q", "MS", "ME", "MA", "F7", "O1", "I", "Px", "L",
    ];
    let bad = vec![
        "Tx",
        "F-1",
        "Fx",
        "MX",
        "M",
        "Cx",
        "?",
        "x",
        "b",
        "O11111111111111111111111111111111",
    ];
    let flag = prop_oneof![6 => select(good), 1 => select(bad)];
    let flags = prop_oneof![
        9 => prop::collection::vec(flag.clone(), 0..4),
        1 => prop::collection::vec(flag, 15..20),
    ];
    let slip = prop_oneof![
        8 => Just(Slip::None),
        1 => space(),
        1 => Just(Slip::Missing(1)),
        1 => select(vec!["9", "0"]).prop_map(|flag| Slip::More(vec![flag])),
    ];
    (key(), flags, slip).prop_map(|((_, word), flags, slip)| {
        let mut before = vec![text("ms"), word];
        let mut after = flags.into_iter().map(text).collect();
        slip.apply(&mut before, &mut after);
        (before, after)
    })
}

fn space() -> impl Strategy<Value = Slip> {
    select(vec!["b", "0", "9", "noreply"]).prop_map(Slip::Space)
}

/// A key, its number and the word for it; or one too long.
fn key() -> impl Strategy<Value = (usize, Piece)> {
    prop_oneof![
        8 => commands::key().prop_map(|key| (key, Key(key))),
        1 => Just((0, text("k".repeat(251)))),
    ]
}

/// One that is a number, mostly.
fn number(good: Vec<&'static str>, bad: Vec<&'static str>) -> impl Strategy<Value = &'static str> {
    prop_oneof![8 => select(good), 2 => select(bad)]
}

fn length_word() -> impl Strategy<Value = Length> {
    let wrong = vec![
        "x",
        "-1",
        "-9",
        "9x",
        "0x9",
        "2147483646",
        "9223372036854775808",
    ];
    prop_oneof![
        7 => Just(Length::Right),
        2 => any::<Index>().prop_map(Length::Short),
        2 => select(wrong).prop_map(Length::Wrong),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let commands = select(vec![
        "",
        "x",
        "flush_all",
        "flush_all\r\nget a",
        "get a\r\nget a",
        "quit",
        "mn\r\nmn",
        "delete a noreply\r\nversion",
        "xxset a 0 0 1\r\ny",
        "set a 0 0 1\r\ny\r\nquit",
        "\r\nflush_all\r\n",
        "xyzflush_all\r\nincr a 1",
    ]);
    prop_oneof![
        60 => commands.prop_map(|text| text.as_bytes().to_vec()),
        1 => Just(vec![b'v'; 2_000_000]),
    ]
}
