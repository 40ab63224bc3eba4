//! Bytes as memcached's answers to a client: to its pipelines of writes, and to its look-ups, which
//! skip long values.

use presenced_memcached::limits::VALUE_BYTES_MAX;
use presenced_memcached::pipeline::{Outcome, Pipeline, WriteCommand};
use presenced_memcached::values::{Progress, Values};
use presenced_protocol::limits::ITEM_BYTES_MAX;
use presenced_protocol::reply;
use presenced_protocol::{Key, Limits, Reply};

use super::pieces::pieces;

/// The index of a key, and its value unless that was skipped.
type Found = (usize, Option<Vec<u8>>);

/// Reads the bytes as answers. Each key of a look-up is found at most once, and each command of a
/// pipeline is answered once, or is left unanswered.
pub fn memcached_client(data: &[u8]) {
    answers(data);
    for command in [WriteCommand::Set, WriteCommand::Ms] {
        // At least as many as there can be answers: `MN` and its line end have four bytes.
        let enough = data.len() / 4 + 1;
        let whole = matched([data].into_iter(), command, enough);
        assert_eq!(matched(pieces(data), command, enough), whole);
        matched(pieces(data), command, 3);
    }
}

/// Feeds replies to a pipeline with this number of groups of commands in flight. Returns whether
/// each answered command was refused, and the error. Every command is answered once, in order, or
/// is left unanswered.
fn matched<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    command: WriteCommand,
    groups: usize,
) -> (Vec<bool>, Option<&'static str>) {
    let mut pipeline = Pipeline::new(command);
    let mut pushed = 0..;
    for group in 0..groups {
        let commands = pushed.by_ref().take(group % 3 + 1);
        commands.for_each(|number: usize| pipeline.push(number));
        assert_eq!(pipeline.close_group(), command == WriteCommand::Ms);
    }
    let (mut seen, mut waiting, mut ended) = (Vec::new(), Vec::new(), None);
    for piece in pieces {
        waiting.extend_from_slice(piece);
        let read = pipeline.read(&waiting, |number, outcome| {
            assert_eq!(number, seen.len());
            seen.push(outcome == Outcome::Refused);
        });
        match read {
            Ok(taken) => drop(waiting.drain(..taken)),
            Err(misfit) => {
                ended = Some(misfit.why());
                break;
            }
        }
    }
    let left = seen.len()..pushed.start;
    assert!(pipeline.into_unanswered().eq(left));
    (seen, ended)
}

/// Reads the bytes as the answer to a `get` for the keys of all values, with other keys between
/// them. The result does not depend on how they are cut. Each key is found at most once, in order,
/// and no long value is returned.
fn answers(data: &[u8]) {
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
