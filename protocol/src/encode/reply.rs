//! Replies to all commands but meta commands.

use bytes::{BufMut, Bytes};

use super::{data, spaced};
use crate::number;
use crate::reply::Reply;

/// One reply, as a server writes it.
///
/// A CR or LF inside a text (an error's, a statistic's, the version's) becomes a space: no text can
/// end its line early. In the key of an `ME` a LF does. The key of a `VALUE` is written as it is.
pub fn reply(out: &mut impl BufMut, reply: &Reply<&[u8]>) {
    any_reply(out, reply);
}

/// The same of a reply that owns its bytes.
pub fn reply_bytes(out: &mut impl BufMut, reply: &Reply<Bytes>) {
    any_reply(out, reply);
}

fn any_reply<B: AsRef<[u8]>>(out: &mut impl BufMut, reply: &Reply<B>) {
    match reply {
        Reply::Stored => out.put_slice(b"STORED\r\n"),
        Reply::NotStored => out.put_slice(b"NOT_STORED\r\n"),
        Reply::Exists => out.put_slice(b"EXISTS\r\n"),
        Reply::NotFound => out.put_slice(b"NOT_FOUND\r\n"),
        Reply::Deleted => out.put_slice(b"DELETED\r\n"),
        Reply::Touched => out.put_slice(b"TOUCHED\r\n"),
        Reply::Ok => out.put_slice(b"OK\r\n"),
        Reply::Reset => out.put_slice(b"RESET\r\n"),
        Reply::End => out.put_slice(b"END\r\n"),
        Reply::MetaNoop => out.put_slice(b"MN\r\n"),
        Reply::Value {
            key,
            flags,
            value,
            cas,
        } => self::value(out, key.as_ref(), *flags, value.as_ref(), *cas),
        Reply::Number(number) => {
            number::write(out, *number);
            out.put_slice(b"\r\n");
        }
        Reply::Stat { name, value } => {
            out.put_slice(b"STAT ");
            text(out, name.as_ref());
            out.put_u8(b' ');
            text_line(out, b"", value.as_ref());
        }
        Reply::Version(version) => text_line(out, b"VERSION ", version.as_ref()),
        Reply::Error(message) => {
            let message = message.as_ref();
            let command: &[u8] = if message.is_empty() {
                b"ERROR"
            } else {
                b"ERROR "
            };
            text_line(out, command, message);
        }
        Reply::ClientError(message) => text_line(out, b"CLIENT_ERROR ", message.as_ref()),
        Reply::ServerError(message) => text_line(out, b"SERVER_ERROR ", message.as_ref()),
        Reply::Meta { status, flags } => {
            out.put_slice(status.as_bytes());
            answers_line(out, flags.as_bytes());
        }
        Reply::MetaValue { value, flags } => {
            let value = value.as_ref();
            out.put_slice(b"VA");
            spaced(out, value.len());
            answers_line(out, flags.as_bytes());
            data(out, value);
        }
        Reply::MetaDebug { key, fields } => {
            out.put_slice(b"ME ");
            self::key(out, key.as_ref());
            out.put_u8(b' ');
            text_line(out, b"", fields.as_ref());
        }
    }
}

/// `VALUE <key> <flags> <bytes> [<cas>]\r\n<value>\r\n` (`protocol.txt`, *Retrieval command*); the
/// same as [`Reply::Value`] without making one. `key` is written as it is.
#[inline]
pub fn value(out: &mut impl BufMut, key: &[u8], flags: u32, value: &[u8], cas: Option<u64>) {
    out.put_slice(b"VALUE ");
    out.put_slice(key);
    spaced(out, flags);
    spaced(out, value.len());
    if let Some(cas) = cas {
        spaced(out, cas);
    }
    out.put_slice(b"\r\n");
    data(out, value);
}

fn answers_line(out: &mut impl BufMut, flags: &[u8]) {
    if !flags.is_empty() {
        out.put_u8(b' ');
    }
    text_line(out, b"", flags);
}

fn text_line(out: &mut impl BufMut, before: &[u8], message: &[u8]) {
    out.put_slice(before);
    text(out, message);
    out.put_slice(b"\r\n");
}

/// A key on one line. A CR in it ends no line, and belongs to the key; a LF, which only a key in base64
/// can stand for, becomes a space.
pub(super) fn key(out: &mut impl BufMut, key: &[u8]) {
    for (count, part) in key.split(|&byte| byte == b'\n').enumerate() {
        if count > 0 {
            out.put_u8(b' ');
        }
        out.put_slice(part);
    }
}

/// `message` on one line.
pub(super) fn text(out: &mut impl BufMut, message: &[u8]) {
    let mut rest = message;
    while let Some(at) = memchr::memchr2(b'\r', b'\n', rest) {
        out.put_slice(&rest[..at]);
        out.put_u8(b' ');
        rest = &rest[at + 1..];
    }
    out.put_slice(rest);
}
