//! Writing requests, as a client does, and replies, as a server does.
//!
//! Every function appends to the buffer (a `Vec<u8>`, a `BytesMut`) and can't fail. Keys are
//! [`Key`]s and tokens [`Token`](crate::key::Token)s, so what is written is always the command that
//! was meant and nothing more. A buffer that can't grow, such as a `&mut [u8]`, must have room, or
//! they panic, as [`BufMut`] does.
//!
//! [`request`] writes any [`Request`]; the others write those that need more than a value: many
//! keys, flags.

mod meta;
mod reply;

use bytes::BufMut;

pub use self::meta::{meta_arithmetic, meta_delete, meta_get, meta_reply, meta_set, meta_value};
pub use self::reply::{reply, reply_bytes, value};
use crate::key::Key;
use crate::meta::Direction;
use crate::number;
use crate::request::{Request, StoreVerb};

/// `set <key> <flags> <exptime> <bytes>\r\n<value>\r\n` (`protocol.txt`, *Storage commands*).
///
/// `exptime`: 0 is for ever, negative is expired at once, up to 30 days (2,592,000) is seconds from
/// now, beyond that Unix time in seconds (*Expiration times*).
#[inline]
pub fn set(out: &mut impl BufMut, key: Key<'_>, flags: u32, exptime: i64, value: &[u8]) {
    out.put_slice(b"set ");
    store_line(out, key, flags, exptime, value);
    out.put_slice(b"\r\n");
    data(out, value);
}

/// `get <key>*\r\n` (`protocol.txt`, *Retrieval command*). Returns how many keys it asks for.
///
/// Without keys nothing is written and no reply will come: a bare `get` is an error to memcached.
pub fn get<'k>(out: &mut impl BufMut, keys: impl IntoIterator<Item = Key<'k>>) -> usize {
    retrieval(out, b"get", None, keys)
}

/// `gets <key>*\r\n`: like [`get()`], and each reply has the item's CAS number.
pub fn gets<'k>(out: &mut impl BufMut, keys: impl IntoIterator<Item = Key<'k>>) -> usize {
    retrieval(out, b"gets", None, keys)
}

/// `gat <exptime> <key>*\r\n` (`protocol.txt`, *Get And Touch*): like [`get()`], and what is found
/// has this expiry time from now on, as in [`set`].
pub fn gat<'k>(
    out: &mut impl BufMut,
    exptime: i64,
    keys: impl IntoIterator<Item = Key<'k>>,
) -> usize {
    retrieval(out, b"gat", Some(exptime), keys)
}

/// `gats <exptime> <key>*\r\n`: like [`gat`], and each reply has the item's CAS number.
pub fn gats<'k>(
    out: &mut impl BufMut,
    exptime: i64,
    keys: impl IntoIterator<Item = Key<'k>>,
) -> usize {
    retrieval(out, b"gats", Some(exptime), keys)
}

/// Any request. One for keys without any writes nothing, as [`get()`].
pub fn request(out: &mut impl BufMut, request: &Request<'_>) {
    match *request {
        Request::Get { keys, with_cas } => {
            let command: &[u8] = if with_cas { b"gets" } else { b"get" };
            retrieval(out, command, None, keys);
        }
        Request::GetAndTouch {
            exptime,
            keys,
            with_cas,
        } => {
            let command: &[u8] = if with_cas { b"gats" } else { b"gat" };
            retrieval(out, command, Some(exptime), keys);
        }
        Request::Store {
            verb,
            key,
            flags,
            exptime,
            value,
            noreply,
        } => {
            out.put_slice(verb.name());
            out.put_u8(b' ');
            store_line(out, key, flags, exptime, value);
            if let StoreVerb::Cas { unique } = verb {
                spaced(out, unique);
            }
            line_end(out, noreply);
            data(out, value);
        }
        Request::MetaGet { key, flags } => meta_get(out, key, flags),
        Request::MetaSet { key, value, flags } => meta_set(out, key, value, flags),
        Request::MetaDelete { key, flags } => meta_delete(out, key, flags),
        Request::MetaArithmetic { key, flags } => meta_arithmetic(out, key, flags),
        ref line => self::line(out, line),
    }
}

/// A request that is one line with a fixed number of words.
fn line(out: &mut impl BufMut, request: &Request<'_>) {
    match *request {
        Request::Arithmetic {
            direction,
            key,
            delta,
            noreply,
        } => {
            let command: &[u8] = match direction {
                Direction::Up => b"incr",
                Direction::Down => b"decr",
            };
            keyed(out, command, key);
            spaced(out, delta);
            line_end(out, noreply);
        }
        Request::Touch {
            key,
            exptime,
            noreply,
        } => {
            keyed(out, b"touch", key);
            spaced(out, exptime);
            line_end(out, noreply);
        }
        Request::Delete { key, noreply } => {
            keyed(out, b"delete", key);
            line_end(out, noreply);
        }
        Request::MetaDebug { key, base64 } => {
            keyed(out, b"me", key);
            out.put_slice(if base64 { b" b\r\n" } else { b"\r\n" });
        }
        Request::Stats { arguments } => {
            out.put_slice(b"stats");
            arguments.for_each(|word| keyed(out, b"", word));
            out.put_slice(b"\r\n");
        }
        Request::FlushAll { delay, noreply } => {
            out.put_slice(b"flush_all");
            delay.into_iter().for_each(|seconds| spaced(out, seconds));
            line_end(out, noreply);
        }
        Request::Verbosity { level, noreply } => {
            out.put_slice(b"verbosity");
            spaced(out, level);
            line_end(out, noreply);
        }
        Request::MetaNoop => out.put_slice(b"mn\r\n"),
        Request::Version => out.put_slice(b"version\r\n"),
        Request::Quit => out.put_slice(b"quit\r\n"),
        // The caller has written all others.
        _ => {}
    }
}

/// `<command> <key>`
fn keyed(out: &mut impl BufMut, command: &[u8], key: Key<'_>) {
    out.put_slice(command);
    out.put_u8(b' ');
    out.put_slice(key.as_bytes());
}

/// ` <number>`
#[inline]
fn spaced(out: &mut impl BufMut, number: impl itoa::Integer) {
    out.put_u8(b' ');
    number::write(out, number);
}

/// `<key> <flags> <exptime> <bytes>`
#[inline]
fn store_line(out: &mut impl BufMut, key: Key<'_>, flags: u32, exptime: i64, value: &[u8]) {
    out.put_slice(key.as_bytes());
    spaced(out, flags);
    spaced(out, exptime);
    spaced(out, value.len());
}

/// `[ noreply]\r\n`
fn line_end(out: &mut impl BufMut, noreply: bool) {
    out.put_slice(if noreply { b" noreply\r\n" } else { b"\r\n" });
}

/// `<value>\r\n`
#[inline]
fn data(out: &mut impl BufMut, value: &[u8]) {
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

fn retrieval<'k>(
    out: &mut impl BufMut,
    command: &[u8],
    exptime: Option<i64>,
    keys: impl IntoIterator<Item = Key<'k>>,
) -> usize {
    let mut count = 0;
    for key in keys {
        if count == 0 {
            out.put_slice(command);
            exptime.into_iter().for_each(|exptime| spaced(out, exptime));
        }
        out.put_u8(b' ');
        out.put_slice(key.as_bytes());
        count += 1;
    }
    if count > 0 {
        out.put_slice(b"\r\n");
    }
    count
}
