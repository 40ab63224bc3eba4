//! memcached's protocol, read as a client and as a server.

use bytes::BytesMut;
use presenced_memcached::pipeline::{Outcome, Pipeline, WriteCommand};
use presenced_protocol::{
    BadRequest, Key, Limits, Next, Parsed, Received, ReceivedKey, Reply, ReplyError, Request,
    encode,
    reply::{self, Parser as ReplyParser},
    request::Parser as RequestParser,
};

use super::value_oracle::ValueOracle;
use super::{pieces, values};

/// The limits as they are, and so small that every one of them is met.
fn limits() -> [Limits; 2] {
    let small = Limits {
        line_bytes_max: 40,
        get_line_bytes_max: 80,
        keys_max: 5,
        value_bytes_max: 12,
    };
    [Limits::default(), small]
}

/// Bytes as a memcached's replies: read whole and in pieces they are the same, what is read is
/// written back as it came, and runs of `STORED` are counted right.
pub fn replies(data: &[u8]) {
    for limits in limits() {
        let whole = replies_in([data].into_iter(), &limits);
        assert_eq!(replies_in(pieces(data), &limits), whole);
        values::skimmed(data, &limits);
    }
    values::answers(data);
    let run = reply::stored_run(data);
    assert!(data.starts_with(&b"STORED\r\n".repeat(run)));
    assert!(!data[run * 8..].starts_with(b"STORED\r\n"));
    for command in [WriteCommand::Set, WriteCommand::Ms] {
        // As many as there can be answers: `MN` and its line's end are four bytes.
        let enough = data.len() / 4 + 1;
        let whole = matched([data].into_iter(), command, enough);
        assert_eq!(matched(pieces(data), command, enough), whole);
        matched(pieces(data), command, 3);
    }
}

/// What a pipeline with this number of groups of commands in flight makes of replies: of each command answered whether
/// it was refused, and why it ended. Every command is answered once, in order, or is left.
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
            Err(why) => {
                ended = Some(why);
                break;
            }
        }
    }
    let left = seen.len()..pushed.start;
    assert!(pipeline.into_unanswered().eq(left));
    (seen, ended)
}

/// Every reply as it is written, then why there was no next. The parser that takes replies out of
/// its buffer says the same.
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

/// A space before nothing, at the end of the line, says no more than none.
fn without_last_space(reply: &[u8]) -> Vec<u8> {
    let line = reply.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    let (line, value) = reply.split_at(line);
    let text = line.strip_suffix(b"\r\n").unwrap();
    [text.strip_suffix(b" ").unwrap_or(text), b"\r\n", value].concat()
}

/// Bytes as a client's requests: read whole and in pieces they are the same; what was understood
/// means the same when written anew; what was not is answered with one whole reply.
pub fn requests(data: &[u8]) {
    for limits in limits() {
        let whole = requests_in([data].into_iter(), &limits);
        assert_eq!(requests_in(pieces(data), &limits), whole);
    }
}

/// What a server does with the requests, as text; the last says how it ends. No byte of a value is read
/// as a request: see [`ValueOracle`].
pub(super) fn requests_in<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    limits: &Limits,
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
            let parsed = parser.parse(input);
            values.check(input, &parsed);
            let (shown, consumed) = match parsed {
                Parsed::Incomplete => break,
                Parsed::Request { request, consumed } => {
                    means_the_same(&request, limits);
                    (Some(format!("{request:?}")), consumed)
                }
                Parsed::Swallowed { consumed } => (None, consumed),
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

/// A request within the limits that, if its keys may be sent, is the same written anew.
fn means_the_same(received: &Received<'_>, limits: &Limits) {
    let keys = keys_of(received);
    match *received {
        Request::Get { .. } => assert!((1..=limits.keys_max).contains(&keys.len())),
        Request::GetAndTouch { .. } => assert!(keys.len() <= limits.keys_max),
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
        // One without keys can't be written: it would be an error to others.
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
        // A mode that means nothing is not written again, so the letters may be fewer.
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
