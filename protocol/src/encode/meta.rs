//! Meta commands and their replies.

use bytes::BufMut;

use super::reply::text;
use super::{data, keyed, reply, spaced};
use crate::key::Key;
use crate::meta::{Flag, ReplyFlag};
use crate::number;
use crate::reply::MetaStatus;

/// `mg <key> <flags>*\r\n` (`protocol.txt`, *Meta Get*).
///
/// memcached takes each letter once, and at most 17 flags, 16 in an [`ms`](meta_set).
pub fn meta_get<'f>(
    out: &mut impl BufMut,
    key: Key<'_>,
    flags: impl IntoIterator<Item = Flag<'f>>,
) {
    keyed(out, b"mg", key);
    flags_line(out, flags);
}

/// `ms <key> <bytes> <flags>*\r\n<value>\r\n` (`protocol.txt`, *Meta Set*).
pub fn meta_set<'f>(
    out: &mut impl BufMut,
    key: Key<'_>,
    value: &[u8],
    flags: impl IntoIterator<Item = Flag<'f>>,
) {
    keyed(out, b"ms", key);
    spaced(out, value.len());
    flags_line(out, flags);
    data(out, value);
}

/// `md <key> <flags>*\r\n` (`protocol.txt`, *Meta Delete*).
pub fn meta_delete<'f>(
    out: &mut impl BufMut,
    key: Key<'_>,
    flags: impl IntoIterator<Item = Flag<'f>>,
) {
    keyed(out, b"md", key);
    flags_line(out, flags);
}

/// `ma <key> <flags>*\r\n` (`protocol.txt`, *Meta Arithmetic*).
pub fn meta_arithmetic<'f>(
    out: &mut impl BufMut,
    key: Key<'_>,
    flags: impl IntoIterator<Item = Flag<'f>>,
) {
    keyed(out, b"ma", key);
    flags_line(out, flags);
}

/// `HD`, `EN`, `NF`, `NS` or `EX`, and what is told (`protocol.txt`, *Meta Get* to *Meta
/// Arithmetic*).
///
/// A CR or LF in an answer becomes a space, as in [`reply`](super::reply()); a CR in a key stays.
pub fn meta_reply<'a>(
    out: &mut impl BufMut,
    status: MetaStatus,
    flags: impl IntoIterator<Item = ReplyFlag<'a>>,
) {
    out.put_slice(status.as_bytes());
    answers_line(out, flags);
}

/// `VA <bytes> <flags>*\r\n<value>\r\n` (`protocol.txt`, *Meta Get*, *Meta Arithmetic*).
pub fn meta_value<'a>(
    out: &mut impl BufMut,
    value: &[u8],
    flags: impl IntoIterator<Item = ReplyFlag<'a>>,
) {
    out.put_slice(b"VA");
    spaced(out, value.len());
    answers_line(out, flags);
    data(out, value);
}

fn flags_line<'f>(out: &mut impl BufMut, flags: impl IntoIterator<Item = Flag<'f>>) {
    for flag in flags {
        out.put_slice(&[b' ', flag.letter()]);
        match flag {
            Flag::Opaque(token) => out.put_slice(token.as_bytes()),
            Flag::ProxyPath(token) | Flag::ProxyHint(token) => out.put_slice(token.as_bytes()),
            Flag::Vivify(exptime) | Flag::Recache(exptime) | Flag::Exptime(exptime) => {
                number::write(out, exptime);
            }
            Flag::CompareCas(number) | Flag::Initial(number) | Flag::Delta(number) => {
                number::write(out, number);
            }
            Flag::ClientFlags(flags) => number::write(out, flags),
            Flag::StoreMode(mode) => out.put_u8(mode.letter()),
            Flag::Direction(direction) => out.put_u8(direction.letter()),
            _ => {}
        }
    }
    out.put_slice(b"\r\n");
}

fn answers_line<'a>(out: &mut impl BufMut, flags: impl IntoIterator<Item = ReplyFlag<'a>>) {
    for answer in flags {
        out.put_u8(b' ');
        match answer {
            ReplyFlag::Base64Key => out.put_u8(b'b'),
            ReplyFlag::Cas(number) => lettered(out, b'c', number),
            ReplyFlag::ClientFlags(flags) => lettered(out, b'f', flags),
            ReplyFlag::Hit(hit) => lettered(out, b'h', u8::from(hit)),
            ReplyFlag::LastAccess(seconds) => lettered(out, b'l', seconds),
            ReplyFlag::Size(bytes) => lettered(out, b's', bytes),
            ReplyFlag::Ttl(None) => out.put_slice(b"t-1"),
            ReplyFlag::Ttl(Some(seconds)) => lettered(out, b't', seconds),
            ReplyFlag::Won => out.put_u8(b'W'),
            ReplyFlag::Stale => out.put_u8(b'X'),
            ReplyFlag::AlreadyWon => out.put_u8(b'Z'),
            ReplyFlag::Key(key) => {
                out.put_u8(b'k');
                reply::key(out, key);
            }
            ReplyFlag::Opaque(token) => {
                out.put_u8(b'O');
                text(out, token);
            }
            ReplyFlag::Other { letter, token } => {
                text(out, &[letter]);
                text(out, token);
            }
        }
    }
    out.put_slice(b"\r\n");
}

/// `<letter><number>`
fn lettered(out: &mut impl BufMut, letter: u8, number: impl itoa::Integer) {
    out.put_u8(letter);
    number::write(out, number);
}
