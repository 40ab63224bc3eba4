//! Writing requests, as a client does, and replies, as a server does.
//!
//! Every function appends to the buffer and can't fail; the only allocation is the buffer's growth.
//! Keys are [`Key`]s, so what is written is always the command that was meant and nothing more.

use crate::{key::Key, number, reply::Reply};

/// Longest text of a `set` line besides its key: the command, spaces, three numbers, line ends.
const SET_OVERHEAD_BYTES: usize = 64;

/// `set <key> <flags> <exptime> <bytes>\r\n<value>\r\n` (`protocol.txt`, *Storage commands*).
///
/// `exptime`: 0 is for ever, negative is expired at once, up to 30 days (2,592,000) is seconds from
/// now, beyond that Unix time in seconds (*Expiration times*).
pub fn set(out: &mut Vec<u8>, key: Key<'_>, flags: u32, exptime: i64, value: &[u8]) {
    out.reserve(SET_OVERHEAD_BYTES + key.as_bytes().len() + value.len());
    out.extend_from_slice(b"set ");
    out.extend_from_slice(key.as_bytes());
    out.push(b' ');
    number::write(out, flags);
    out.push(b' ');
    number::write(out, exptime);
    out.push(b' ');
    number::write(out, value.len());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// `get <key>*\r\n` (`protocol.txt`, *Retrieval command*). Returns how many keys it asks for.
///
/// Without keys nothing is written and no reply will come: a bare `get` is an error to memcached.
pub fn get<'k>(out: &mut Vec<u8>, keys: impl IntoIterator<Item = Key<'k>>) -> usize {
    retrieval(out, b"get", keys)
}

/// `gets <key>*\r\n`: like [`get()`], and each reply has the item's CAS number.
pub fn gets<'k>(out: &mut Vec<u8>, keys: impl IntoIterator<Item = Key<'k>>) -> usize {
    retrieval(out, b"gets", keys)
}

/// `touch <key> <exptime>\r\n` (`protocol.txt`, *Touch*).
pub fn touch(out: &mut Vec<u8>, key: Key<'_>, exptime: i64) {
    out.extend_from_slice(b"touch ");
    out.extend_from_slice(key.as_bytes());
    out.push(b' ');
    number::write(out, exptime);
    out.extend_from_slice(b"\r\n");
}

/// `delete <key>\r\n` (`protocol.txt`, *Deletion*).
pub fn delete(out: &mut Vec<u8>, key: Key<'_>) {
    out.extend_from_slice(b"delete ");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// `version\r\n` (`protocol.txt`, *Other commands*). Answered in order, so it serves as a barrier.
pub fn version(out: &mut Vec<u8>) {
    out.extend_from_slice(b"version\r\n");
}

/// `flush_all [delay]\r\n` (`protocol.txt`, *Other commands*): everything stored until `delay`
/// seconds from now is gone then; at once without a delay.
pub fn flush_all(out: &mut Vec<u8>, delay: Option<u32>) {
    out.extend_from_slice(b"flush_all");
    if let Some(seconds) = delay {
        out.push(b' ');
        number::write(out, seconds);
    }
    out.extend_from_slice(b"\r\n");
}

/// `stats\r\n` (`protocol.txt`, *Statistics*, *General-purpose statistics*).
pub fn stats(out: &mut Vec<u8>) {
    out.extend_from_slice(b"stats\r\n");
}

/// `quit\r\n` (`protocol.txt`, *Other commands*): the server closes the connection.
pub fn quit(out: &mut Vec<u8>) {
    out.extend_from_slice(b"quit\r\n");
}

/// One reply, as a server writes it.
///
/// A CR or LF inside a text (an error's, a statistic's, the version's) becomes a space: no text can
/// end its line early. The key and the numbers of a `VALUE` are written as they are.
pub fn reply(out: &mut Vec<u8>, reply: &Reply<'_>) {
    match *reply {
        Reply::Stored => out.extend_from_slice(b"STORED\r\n"),
        Reply::NotStored => out.extend_from_slice(b"NOT_STORED\r\n"),
        Reply::Exists => out.extend_from_slice(b"EXISTS\r\n"),
        Reply::NotFound => out.extend_from_slice(b"NOT_FOUND\r\n"),
        Reply::Deleted => out.extend_from_slice(b"DELETED\r\n"),
        Reply::Touched => out.extend_from_slice(b"TOUCHED\r\n"),
        Reply::Ok => out.extend_from_slice(b"OK\r\n"),
        Reply::End => out.extend_from_slice(b"END\r\n"),
        Reply::Error => out.extend_from_slice(b"ERROR\r\n"),
        Reply::Value {
            key,
            flags,
            value,
            cas,
        } => self::value(out, key, flags, value, cas),
        Reply::Stat { name, value } => {
            out.extend_from_slice(b"STAT ");
            text(out, name);
            out.push(b' ');
            text_line(out, b"", value);
        }
        Reply::Version(version) => text_line(out, b"VERSION ", version),
        Reply::ClientError(message) => text_line(out, b"CLIENT_ERROR ", message),
        Reply::ServerError(message) => text_line(out, b"SERVER_ERROR ", message),
    }
}

fn retrieval<'k>(
    out: &mut Vec<u8>,
    command: &[u8],
    keys: impl IntoIterator<Item = Key<'k>>,
) -> usize {
    let mut count = 0;
    for key in keys {
        if count == 0 {
            out.extend_from_slice(command);
        }
        out.push(b' ');
        out.extend_from_slice(key.as_bytes());
        count += 1;
    }
    if count > 0 {
        out.extend_from_slice(b"\r\n");
    }
    count
}

/// `VALUE <key> <flags> <bytes> [<cas>]\r\n<value>\r\n` (`protocol.txt`, *Retrieval command*).
fn value(out: &mut Vec<u8>, key: &[u8], flags: u32, value: &[u8], cas: Option<u64>) {
    out.reserve(SET_OVERHEAD_BYTES + key.len() + value.len());
    out.extend_from_slice(b"VALUE ");
    out.extend_from_slice(key);
    out.push(b' ');
    number::write(out, flags);
    out.push(b' ');
    number::write(out, value.len());
    if let Some(cas) = cas {
        out.push(b' ');
        number::write(out, cas);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn text_line(out: &mut Vec<u8>, before: &[u8], message: &[u8]) {
    out.extend_from_slice(before);
    text(out, message);
    out.extend_from_slice(b"\r\n");
}

fn text(out: &mut Vec<u8>, message: &[u8]) {
    out.extend(message.iter().map(|&byte| {
        if matches!(byte, b'\r' | b'\n') {
            b' '
        } else {
            byte
        }
    }));
}
