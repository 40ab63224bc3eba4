//! Parsers of memcached's protocol, for clients and for servers.

use bytes::BytesMut;
use presenced_protocol::reply::{self, Parser as ReplyParser};
use presenced_protocol::request::Parser as RequestParser;
use presenced_protocol::{
    BadRequest, Key, Limits, Next, Parsed, Received, ReceivedKey, Reply, ReplyError, Request,
    encode,
};

use super::pieces::pieces;
use super::skimmed::skimmed;
use super::value_oracle::ValueOracle;

/// The default limits, and limits so small that inputs exceed each of them.
fn limits() -> [Limits; 2] {
    let small = Limits {
        line_bytes_max: 40,
        get_line_bytes_max: 80,
        value_bytes_max: 12,
    };
    [Limits::default(), small]
}

/// Parses the bytes as replies of memcached. The result does not depend on how they are cut,
/// replies are encoded as they came, and runs of `STORED` are counted correctly.
pub fn replies(data: &[u8]) {
    for limits in limits() {
        let whole = replies_in([data].into_iter(), &limits);
        assert_eq!(replies_in(pieces(data), &limits), whole);
        skimmed(data, &limits);
    }
    let run = reply::stored_run(data);
    assert!(data.starts_with(&b"STORED\r\n".repeat(run)));
    assert!(!data[run * 8..].starts_with(b"STORED\r\n"));
}

/// All replies as they are encoded, and the error after them. The parser that takes replies out of
/// a `BytesMut` must agree.
pub(super) fn replies_in<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    limits: &Limits,
) -> (Vec<Vec<u8>>, Option<ReplyError>) {
    let mut parser = ReplyParser::new(*limits);
    let mut taker = ReplyParser::new(*limits);
    let (mut waiting, mut buffer) = (Vec::new(), BytesMut::new());
    let mut seen = Vec::new();
    for piece in pieces {
        waiting.extend_from_slice(piece);
        buffer.extend_from_slice(piece);
        let mut start = 0;
        loop {
            let parsed = parser.parse(&waiting[start..]);
            let taken = taker.take(&mut buffer);
            match parsed {
                Ok(None) => {
                    assert_eq!(taken, Ok(None));
                    break;
                }
                Ok(Some((reply, consumed))) => {
                    let out = written_back(&reply, &waiting[start..], consumed, limits);
                    let mut taken_out = Vec::new();
                    encode::reply_bytes(&mut taken_out, &taken.unwrap().unwrap());
                    assert_eq!(taken_out, out);
                    seen.push(out);
                    start += consumed;
                    assert_eq!(buffer, waiting[start..]);
                }
                Err(error) => {
                    assert_eq!(taken, Err(error));
                    assert!(error.at <= waiting.len() - start);
                    return (seen, Some(error));
                }
            }
        }
        waiting.drain(..start);
    }
    (seen, None)
}

fn written_back(reply: &Reply<&[u8]>, input: &[u8], consumed: usize, limits: &Limits) -> Vec<u8> {
    assert!(consumed > 0 && consumed <= input.len());
    if let Reply::Value { key, value, .. } = reply {
        assert!(Key::new(key).is_ok());
        assert!(value.len() <= limits.value_bytes_max);
    }
    if let Reply::Meta { flags, .. } | Reply::MetaValue { flags, .. } = reply {
        flags.iter().for_each(drop);
    }
    let mut out = Vec::new();
    encode::reply(&mut out, reply);
    assert_eq!(
        without_last_space(&out),
        without_last_space(&input[..consumed])
    );
    let again = reply::parse(&out, &Limits::default());
    assert_eq!(again, Ok(Some((*reply, out.len()))));
    out
}

/// Removes a space at the end of the line, which has no meaning.
fn without_last_space(reply: &[u8]) -> Vec<u8> {
    let line = reply.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    let (line, value) = reply.split_at(line);
    let text = line.strip_suffix(b"\r\n").unwrap();
    [text.strip_suffix(b" ").unwrap_or(text), b"\r\n", value].concat()
}

/// Parses the bytes as requests of a client. The result does not depend on how they are cut, a
/// request that is encoded again means the same, and a bad request is answered with exactly one
/// reply.
pub fn requests(data: &[u8]) {
    for limits in limits() {
        let whole = requests_in([data].into_iter(), &limits);
        assert_eq!(requests_in(pieces(data), &limits), whole);
        read(pieces(data), &limits, Memory::None);
    }
}

/// Whether a server has memory for a value that has begun.
#[derive(Clone, Copy, PartialEq)]
enum Memory {
    Enough,
    None,
}

/// What a server does with the requests, as text; the last line says how it ends. No byte of a
/// value is parsed as a request: see [`ValueOracle`].
pub(super) fn requests_in<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    limits: &Limits,
) -> Vec<String> {
    read(pieces, limits, Memory::Enough)
}

/// The same for one that has such memory, or none: then what is refused depends on the cuts, but no
/// value is parsed as a request either.
fn read<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    limits: &Limits,
    memory: Memory,
) -> Vec<String> {
    let mut parser = RequestParser::new(*limits);
    let mut values = ValueOracle::default();
    let mut waiting: Vec<u8> = Vec::new();
    let mut seen = Vec::new();
    for piece in pieces {
        waiting.extend_from_slice(piece);
        let mut start = 0;
        loop {
            let input = &waiting[start..];
            let mut parsed = parser.parse(input);
            if parsed == Parsed::Incomplete && memory == Memory::None && parser.need() > 0 {
                parsed = parser.out_of_memory(input).unwrap();
            }
            values.check(input, &parsed);
            let (shown, consumed) = match parsed {
                Parsed::Incomplete => break,
                Parsed::Request { request, consumed } => {
                    means_the_same(&request, limits);
                    (Some(format!("{request:?}")), consumed)
                }
                Parsed::Swallowed { consumed, .. } => (None, consumed),
                Parsed::Bad {
                    answer,
                    noreply,
                    consumed,
                    next,
                } => {
                    one_reply(&answer);
                    if next == Next::Close {
                        seen.push(format!("{answer:?}"));
                        return seen;
                    }
                    (Some(format!("{answer:?} {noreply}")), consumed)
                }
            };
            assert!(consumed > 0 && consumed <= input.len());
            start += consumed;
            seen.extend(shown);
        }
        waiting.drain(..start);
    }
    let swallow = values.refused.unwrap_or(0);
    seen.push(format!("{} waiting, {swallow} to swallow", waiting.len()));
    seen
}

/// The request is within the limits, and if its keys are legal, it means the same when encoded
/// again.
fn means_the_same(received: &Received<'_>, limits: &Limits) {
    let keys = keys_of(received);
    match *received {
        Request::Get { .. } => assert!(!keys.is_empty()),
        Request::Store { value, .. } | Request::MetaSet { value, .. } => {
            assert!(value.len() <= limits.value_bytes_max);
        }
        _ => {}
    }
    let can_be_sent = keys.iter().all(|key| Key::new(key.as_bytes()).is_ok());
    let request: Result<Request<'_>, _> = (*received).try_into();
    assert_eq!(request.is_ok(), can_be_sent);
    let Ok(request) = request else {
        return;
    };
    if matches!(request, Request::GetAndTouch { .. }) && keys.is_empty() {
        // A request without keys can't be encoded: other servers would take it for an error.
        return;
    }
    let mut out = Vec::new();
    encode::request(&mut out, &request);
    let parsed = RequestParser::default().parse(&out);
    let Parsed::Request {
        request: again,
        consumed,
    } = parsed
    else {
        panic!("{request:?} is {parsed:?}");
    };
    assert_eq!(consumed, out.len());
    match (again, *received) {
        // A mode without meaning is not encoded again, so there may be fewer letters.
        (
            Request::MetaGet { key, flags },
            Request::MetaGet {
                key: key_before,
                flags: before,
            },
        )
        | (
            Request::MetaDelete { key, flags },
            Request::MetaDelete {
                key: key_before,
                flags: before,
            },
        ) => assert!(key == key_before && flags.eq(before)),
        (again, before) => assert_eq!(again, before),
    }
}

fn keys_of<'a>(request: &Received<'a>) -> Vec<ReceivedKey<'a>> {
    match *request {
        Request::Get { keys, .. }
        | Request::GetAndTouch { keys, .. }
        | Request::Stats { arguments: keys } => keys.collect(),
        Request::Store { key, .. }
        | Request::Arithmetic { key, .. }
        | Request::Touch { key, .. }
        | Request::Delete { key, .. }
        | Request::MetaGet { key, .. }
        | Request::MetaSet { key, .. }
        | Request::MetaDelete { key, .. }
        | Request::MetaArithmetic { key, .. }
        | Request::MetaDebug { key, .. } => vec![key],
        _ => Vec::new(),
    }
}

fn one_reply(answer: &BadRequest<'_>) {
    let reply = answer.reply();
    let mut out = Vec::new();
    encode::reply(&mut out, &reply);
    let parsed = reply::parse(&out, &Limits::default());
    assert_eq!(parsed, Ok(Some((reply, out.len()))));
    assert!(!answer.to_string().contains('\n'));
}
