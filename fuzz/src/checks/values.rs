//! Bytes as memcached's answers to a look-up, which skips long values.

use presenced_memcached::limits::VALUE_BYTES_MAX;
use presenced_memcached::values::{Progress, Values};
use presenced_protocol::limits::ITEM_BYTES_MAX;
use presenced_protocol::reply::{self, Parser, Skimmed, Skimmer};
use presenced_protocol::{Key, Limits, Reply, ReplyError, encode};

use super::pieces;

/// An encoded reply, and the length of its value if that was skipped.
type Seen = (Vec<u8>, Option<usize>);

/// The index of a key, and its value unless that was skipped.
type Found = (usize, Option<Vec<u8>>);

/// The skimmed replies do not depend on how the bytes are cut, and are those of a parser that
/// accepts values of any length.
pub(super) fn skimmed(data: &[u8], limits: &Limits) {
    let (mut seen, failed) = skimmed_in([data].into_iter(), limits);
    assert_eq!(skimmed_in(pieces(data), limits), (seen.clone(), failed));
    let (parsed, error) = parsed(data, limits);
    assert_eq!(failed, error);
    // The last may be an incomplete value.
    if seen.len() > parsed.len() {
        assert!(seen.pop().unwrap().1.is_some());
    }
    assert_eq!(seen, parsed);
}

/// The skimmed replies, and the error. Never more than a line and a value within the limits must be
/// buffered.
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

/// The same with a parser that accepts values of any length.
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

/// Reads the bytes as the answer to a `get` for the keys of all values, with other keys between
/// them. The result does not depend on how they are cut. Each key is found at most once, in order,
/// and no long value is returned.
pub(super) fn answers(data: &[u8]) {
    let keys = keys_of(data);
    let whole = found_in([data].into_iter(), &keys);
    assert_eq!(found_in(pieces(data), &keys), whole);
    assert!(whole.1 != Ok(true) || data.ends_with(b"END\r\n"));
    // A `get` for none of them.
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

/// The keys that were found with their values, and whether the answer is whole.
fn found_in<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    keys: &[Key<'_>],
) -> (Vec<Found>, Result<bool, &'static str>) {
    let mut values = Values::new(keys);
    let (mut found, mut waiting) = (Vec::<Found>::new(), Vec::new());
    let mut pieces = pieces.peekable();
    while let Some(piece) = pieces.next() {
        waiting.extend_from_slice(piece);
        let read = values.read(&waiting, |index, value| {
            assert!(index < keys.len());
            assert!(found.last().is_none_or(|(before, _)| *before < index));
            assert!(value.is_none_or(|value| value.len() <= VALUE_BYTES_MAX));
            found.push((index, value.map(Into::into)));
        });
        match read {
            Ok(Progress::Part(taken)) => drop(waiting.drain(..taken)),
            // Bytes after the end are noticed before the next request.
            Ok(Progress::Whole(_)) if pieces.peek().is_some() => {
                return (found, Err("more than the answer to a get"));
            }
            Ok(Progress::Whole(taken)) => {
                assert_eq!(taken, waiting.len());
                return (found, Ok(true));
            }
            Err(misfit) => return (found, Err(misfit.why())),
        }
    }
    (found, Ok(false))
}
