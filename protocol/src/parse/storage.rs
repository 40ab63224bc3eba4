//! The line of a storage command.

use super::line::{Arguments, DataLine, DataOf, Refused, Rest, value_bytes};
use crate::key::{Checked, KEY_BYTES_MAX, ReceivedKey};
use crate::limits::{Limits, STORE_BYTES_MAX};
use crate::number;
use crate::request::StoreVerb;
use crate::request_error::BadRequestKind;
use crate::scan::{self, Words};

/// `<key> <flags> <exptime> <bytes> [<cas unique>] [noreply]`
///
/// Which word is the length is known only where their number is right. A key with a space in it has
/// one word too many, so in the last place nothing but `noreply` will do.
pub(crate) fn line<'a>(verb: StoreVerb, words: Words<'a>) -> Result<DataLine<'a>, Refused<'a>> {
    let line = words.rest();
    let words = Arguments::new(words);
    let is_cas = matches!(verb, StoreVerb::Cas { .. });
    let ([key, flags, exptime, length], unique) = match *words.before_noreply() {
        [a, b, c, d] if !is_cas => ([a, b, c, d], None),
        [a, b, c, d, unique] if is_cas => ([a, b, c, d], Some(unique)),
        _ => return Err(BadRequestKind::Unknown.at(line).followed_by(Rest::Unknown)),
    };
    let noreply = words.noreply();
    let bytes = value_bytes(length);
    let rest = bytes.map_or(Rest::Unknown, Rest::Value);
    let bad = |word| {
        let refused = BadRequestKind::LineFormat.at(word).unless(noreply);
        refused.followed_by(rest)
    };
    let key = ReceivedKey::new(key).map_err(|_| bad(key))?;
    let flags = number::read(flags)
        .and_then(|number| u32::try_from(number).ok())
        .ok_or(bad(flags))?;
    let exptime = number::read(exptime).ok_or(bad(exptime))?;
    let bytes = bytes.ok_or(bad(length))?;
    let verb = match unique {
        Some(word) => {
            let unique = number::read_unsigned(word).ok_or(bad(word))?;
            StoreVerb::Cas { unique }
        }
        None => verb,
    };
    Ok(DataLine {
        key,
        bytes,
        noreply,
        of: DataOf::Store {
            verb,
            flags,
            exptime,
        },
    })
}

/// The line of a `set` as most clients write it, and its length, if it is whole and right, in one
/// pass from left to right. Everything else is for [`command::parse`](super::command::parse).
pub(crate) fn usual_set<'a>(input: &'a [u8], limits: &Limits) -> Option<(DataLine<'a>, usize)> {
    let text = input.strip_prefix(b"set ")?;
    let (key, rest) = text.split_at_checked(scan::word_bytes(text))?;
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return None;
    }
    let (flags, rest) = number::spaced(rest)?;
    let (exptime, rest) = number::spaced(rest)?;
    let (bytes, rest) = number::spaced(rest)?;
    let (rest, noreply) = match rest {
        [b'\r', b'\n', rest @ ..] => (rest, false),
        _ => (rest.strip_prefix(b" noreply\r\n")?, true),
    };
    let line_bytes = input.len() - rest.len();
    if line_bytes > limits.line_bytes_max || bytes > STORE_BYTES_MAX as u64 {
        return None;
    }
    let of = DataOf::Store {
        verb: StoreVerb::Set,
        flags: u32::try_from(flags).ok()?,
        exptime: i64::try_from(exptime).ok()?,
    };
    let data = DataLine {
        key: ReceivedKey::checked_before(key),
        bytes: usize::try_from(bytes).ok()?,
        noreply,
        of,
    };
    Some((data, line_bytes))
}
