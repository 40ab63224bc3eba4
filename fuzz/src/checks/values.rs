//! Bytes as a memcached's answers to what a look-up asks, of which long values are passed over.

use presenced_memcached::limits::VALUE_BYTES_MAX;
use presenced_memcached::values::{Progress, Values};
use presenced_protocol::{
    Key, Limits, Reply, ReplyError, encode,
    limits::ITEM_BYTES_MAX,
    reply::{self, Parser, Skimmed, Skimmer},
};

use super::pieces;

/// A reply as it is written, and the length of its value if that was passed over.
type Seen = (Vec<u8>, Option<usize>);

/// The place of a key, and its value if that was shown.
type Found = (usize, Option<Vec<u8>>);

/// Skimmed whole and in pieces the replies are the same, and those that a parser finds which takes values
/// of any length.
pub(super) fn skimmed(data: &[u8], limits: &Limits) {
    let (mut seen, failed) = skimmed_in([data].into_iter(), limits);
    assert_eq!(skimmed_in(pieces(data), limits), (seen.clone(), failed));
    let (parsed, error) = parsed(data, limits);
    assert_eq!(failed, error);
    // The last may be a value that never ended.
    if seen.len() > parsed.len() {
        assert!(seen.pop().unwrap().1.is_some());
    }
    assert_eq!(seen, parsed);
}

/// What is skimmed, and why it ended. What must be kept is never more than a line and a value within the
/// limits.
fn skimmed_in<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    limits: &Limits,
) -> (Vec<Seen>, Option<ReplyError>) {
    let mut skimmer = Skimmer::new(*limits);
    let (mut waiting, mut seen) = (Vec::new(), Vec::new());
    for piece in pieces {
        waiting.extend_from_slice(piece);
        loop {
            let (skimmed, taken) = match skimmer.parse(&waiting) {
                Ok(read) => read,
                Err(error) => return (seen, Some(error)),
            };
            let is_last = skimmed.is_none();
            seen.extend(skimmed.map(|skimmed| match skimmed {
                Skimmed::Whole(reply) => (written(&reply), None),
                Skimmed::Large { head, bytes } => {
                    assert!((limits.value_bytes_max + 1..=ITEM_BYTES_MAX).contains(&bytes));
                    (written(&head), Some(bytes))
                }
            }));
            waiting.drain(..taken);
            if is_last {
                break;
            }
        }
        assert!(waiting.len() < limits.line_bytes_max + limits.value_bytes_max + 2);
    }
    (seen, None)
}

/// The same by a parser that takes values of any length.
fn parsed(data: &[u8], limits: &Limits) -> (Vec<Seen>, Option<ReplyError>) {
    let mut parser = Parser::new(Limits {
        value_bytes_max: ITEM_BYTES_MAX,
        ..*limits
    });
    let (mut rest, mut seen) = (data, Vec::new());
    loop {
        let (mut reply, taken) = match parser.parse(rest) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return (seen, None),
            Err(error) => return (seen, Some(error)),
        };
        let mut bytes = None;
        if let Reply::Value { value, .. } | Reply::MetaValue { value, .. } = &mut reply
            && value.len() > limits.value_bytes_max
        {
            bytes = Some(std::mem::take(value).len());
        }
        seen.push((written(&reply), bytes));
        rest = &rest[taken..];
    }
}

fn written(reply: &Reply<&[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    encode::reply(&mut out, reply);
    out
}

/// As an answer to a `get` for the keys of all values, and others between them, the bytes say the same
/// whole and in pieces. Of each key a value is found once at most, in order, and no long one is shown.
pub(super) fn answers(data: &[u8]) {
    let keys = keys_of(data);
    let whole = found_in([data].into_iter(), &keys);
    assert_eq!(found_in(pieces(data), &keys), whole);
    match whole.1 {
        Ok(Progress::Whole) => assert!(data.ends_with(b"END\r\n")),
        Ok(Progress::Part(_)) | Err(_) => {}
    }
    // Asked for none of them.
    let (found, _) = found_in(pieces(data), &[]);
    assert_eq!(found, []);
}

fn keys_of(data: &[u8]) -> Vec<Key<'_>> {
    let limits = Limits {
        value_bytes_max: ITEM_BYTES_MAX,
        ..Limits::default()
    };
    let (mut rest, mut keys) = (data, Vec::new());
    while let Ok(Some((reply, taken))) = reply::parse(rest, &limits) {
        if let Reply::Value { key, .. } = reply {
            keys.extend(Key::new(b"missing"));
            keys.extend(Key::new(key));
        }
        rest = &rest[taken..];
    }
    keys
}

/// Which of the keys were found with which value, and how it ended.
fn found_in<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    keys: &[Key<'_>],
) -> (Vec<Found>, Result<Progress, &'static str>) {
    let mut values = Values::new(keys);
    let (mut found, mut waiting) = (Vec::<Found>::new(), Vec::new());
    let mut pieces = pieces.peekable();
    while let Some(piece) = pieces.next() {
        waiting.extend_from_slice(piece);
        let read = values.read(&waiting, |place, value| {
            assert!(place < keys.len());
            assert!(found.last().is_none_or(|(before, _)| *before < place));
            assert!(value.is_none_or(|value| value.len() <= VALUE_BYTES_MAX));
            found.push((place, value.map(Into::into)));
        });
        match read {
            Ok(Progress::Part(taken)) => drop(waiting.drain(..taken)),
            // What comes behind the end is noticed before the next question.
            Ok(Progress::Whole) if pieces.peek().is_some() => {
                return (found, Err("more than the answer to a get"));
            }
            ended => return (found, ended),
        }
    }
    (found, Ok(Progress::Part(0)))
}
