//! memcached's protocol, read as a client and as a server.

use presenced_protocol::{
    Limits, Next, Parsed, Reply, ReplyError, Request, encode, reply, request,
};

use super::pieces;

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
    }
    let run = reply::stored_run(data);
    assert!(data.starts_with(&b"STORED\r\n".repeat(run)));
    assert!(!data[run * 8..].starts_with(b"STORED\r\n"));
}

/// Every reply as it is written, then why there was no next.
fn replies_in<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    limits: &Limits,
) -> (Vec<Vec<u8>>, Option<ReplyError>) {
    let mut waiting = Vec::new();
    let mut seen = Vec::new();
    for piece in pieces {
        waiting.extend_from_slice(piece);
        let mut start = 0;
        loop {
            match reply::parse(&waiting[start..], limits) {
                Ok(None) => break,
                Ok(Some((reply, consumed))) => {
                    seen.push(written_back(&reply, &waiting[start..], consumed, limits));
                    start += consumed;
                }
                Err(error) => return (seen, Some(error)),
            }
        }
        waiting.drain(..start);
    }
    (seen, None)
}

fn written_back(reply: &Reply<'_>, input: &[u8], consumed: usize, limits: &Limits) -> Vec<u8> {
    assert!(consumed > 0 && consumed <= input.len());
    if let Reply::Value { key, value, .. } = reply {
        assert!(presenced_protocol::Key::new(key).is_ok());
        assert!(value.len() <= limits.value_bytes_max);
    }
    let mut out = Vec::new();
    encode::reply(&mut out, reply);
    // The text after an `ERROR` is dropped.
    if *reply != Reply::Error {
        assert_eq!(out, &input[..consumed]);
    }
    assert_eq!(
        reply::parse(&out, &Limits::default()),
        Ok(Some((*reply, out.len())))
    );
    out
}

/// Bytes as a client's requests: read whole and in pieces they are the same; what was understood
/// means the same when written anew; what was not is answered with one whole reply.
pub fn requests(data: &[u8]) {
    for limits in limits() {
        let whole = requests_in([data].into_iter(), &limits);
        assert_eq!(requests_in(pieces(data), &limits), whole);
    }
}

/// What a server does with the requests, as text; the last says how it ends.
fn requests_in<'a>(pieces: impl Iterator<Item = &'a [u8]>, limits: &Limits) -> Vec<String> {
    let mut waiting: Vec<u8> = Vec::new();
    let mut swallow = 0;
    let mut seen = Vec::new();
    for piece in pieces {
        waiting.extend_from_slice(piece);
        let mut start = 0;
        loop {
            let swallowed = swallow.min(waiting.len() - start);
            start += swallowed;
            swallow -= swallowed;
            let input = &waiting[start..];
            let (shown, consumed) = match request::parse(input, limits) {
                Parsed::Incomplete => break,
                Parsed::Request { request, consumed } => {
                    means_the_same(&request, limits);
                    (format!("{request:?}"), consumed)
                }
                Parsed::Bad {
                    answer,
                    noreply,
                    consumed,
                    next,
                } => {
                    one_reply(&answer.reply());
                    match next {
                        Next::Continue => {}
                        Next::Swallow(bytes) => swallow = bytes,
                        Next::Close => {
                            seen.push(format!("{answer:?}"));
                            return seen;
                        }
                    }
                    (format!("{answer:?} {noreply}"), consumed)
                }
            };
            assert!(consumed > 0 && consumed <= input.len());
            start += consumed;
            seen.push(shown);
        }
        waiting.drain(..start);
    }
    seen.push(format!("{} waiting, {swallow} to swallow", waiting.len()));
    seen
}

fn means_the_same(request: &Request<'_>, limits: &Limits) {
    let mut out = Vec::new();
    let expected = match request.clone() {
        Request::Get { keys, with_cas } => {
            let count = if with_cas {
                encode::gets(&mut out, keys.clone())
            } else {
                encode::get(&mut out, keys.clone())
            };
            assert!(count > 0 && count <= limits.keys_max);
            request.clone()
        }
        Request::Set {
            key,
            flags,
            exptime,
            value,
            ..
        } => {
            assert!(value.len() <= limits.value_bytes_max);
            encode::set(&mut out, key, flags, exptime, value);
            Request::Set {
                key,
                flags,
                exptime,
                value,
                noreply: false,
            }
        }
        Request::Touch { key, exptime, .. } => {
            encode::touch(&mut out, key, exptime);
            Request::Touch {
                key,
                exptime,
                noreply: false,
            }
        }
        Request::Delete { key, .. } => {
            encode::delete(&mut out, key);
            Request::Delete {
                key,
                noreply: false,
            }
        }
        Request::FlushAll { delay, .. } => {
            encode::flush_all(&mut out, delay);
            Request::FlushAll {
                delay,
                noreply: false,
            }
        }
        Request::Version => {
            encode::version(&mut out);
            Request::Version
        }
        Request::Stats { .. } => {
            encode::stats(&mut out);
            Request::Stats { argument: None }
        }
        Request::Quit => {
            encode::quit(&mut out);
            Request::Quit
        }
    };
    let again = Parsed::Request {
        request: expected,
        consumed: out.len(),
    };
    assert_eq!(request::parse(&out, &Limits::default()), again);
}

fn one_reply(reply: &Reply<'_>) {
    let mut out = Vec::new();
    encode::reply(&mut out, reply);
    let parsed = reply::parse(&out, &Limits::default());
    assert_eq!(parsed, Ok(Some((*reply, out.len()))));
}
