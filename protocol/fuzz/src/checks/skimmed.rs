//! Bytes as replies of memcached to a client that skips long values.

use presenced_protocol::limits::ITEM_BYTES_MAX;
use presenced_protocol::reply::{Parser, Skimmed, Skimmer};
use presenced_protocol::{Limits, Reply, ReplyError, encode};

use super::pieces::pieces;

/// An encoded reply, and the length of its value if that was skipped.
type Seen = (Vec<u8>, Option<usize>);

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
