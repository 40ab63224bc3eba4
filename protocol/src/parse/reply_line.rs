//! The line of a reply.

use crate::{
    key::{KEY_BYTES_MAX, Key},
    limits::Limits,
    meta::ReplyFlags,
    number,
    reply::{MetaStatus, Reply},
    reply_error::{ReplyError, ReplyErrorKind},
    scan,
};

/// A reply's line.
pub(crate) enum Head<'a> {
    /// All there is to it.
    Whole(Reply<&'a [u8]>),
    /// A value of this number of bytes follows.
    Value(ValueHead<'a>, u64),
}

/// What comes before a value.
pub(crate) enum ValueHead<'a> {
    Get {
        key: &'a [u8],
        flags: u32,
        cas: Option<u64>,
    },
    Meta(ReplyFlags<&'a [u8]>),
}

impl<'a> ValueHead<'a> {
    #[inline]
    pub(crate) fn with(self, value: &'a [u8]) -> Reply<&'a [u8]> {
        match self {
            ValueHead::Get { key, flags, cas } => Reply::Value {
                key,
                flags,
                value,
                cas,
            },
            ValueHead::Meta(flags) => Reply::MetaValue { value, flags },
        }
    }
}

/// What comes often, if it is whole and right, in one pass from left to right. Everything else is for
/// [`parse`], which is slower, and alone decides what is not whole and what is wrong.
#[inline]
pub(crate) fn usual<'a>(input: &'a [u8], limits: &Limits) -> Option<(Reply<&'a [u8]>, usize)> {
    match input.first()? {
        b'V' => value(input, limits),
        b'E' => input.starts_with(b"END\r\n").then_some((Reply::End, 5)),
        _ => None,
    }
}

#[inline]
fn value<'a>(input: &'a [u8], limits: &Limits) -> Option<(Reply<&'a [u8]>, usize)> {
    let text = input.strip_prefix(b"VALUE ")?;
    let (key, rest) = text.split_at_checked(scan::word_bytes(text))?;
    let (flags, rest) = number::spaced(rest)?;
    let (bytes, rest) = number::spaced(rest)?;
    if key.is_empty() || key.len() > KEY_BYTES_MAX || bytes > limits.value_bytes_max as u64 {
        return None;
    }
    let (cas, rest) = match rest {
        [b' ', ..] => {
            let (cas, rest) = number::spaced(rest)?;
            (Some(cas), rest)
        }
        _ => (None, rest),
    };
    let [b'\r', b'\n', data @ ..] = rest else {
        return None;
    };
    let line_bytes = input.len() - data.len();
    let bytes = usize::try_from(bytes).ok()?;
    let (value, rest) = data.split_at_checked(bytes)?;
    if !rest.starts_with(b"\r\n") || line_bytes > limits.line_bytes_max {
        return None;
    }
    let flags = u32::try_from(flags).ok()?;
    let reply = Reply::Value {
        key,
        flags,
        value,
        cas,
    };
    Some((reply, line_bytes + bytes + 2))
}

/// What `line`, which ends in `\n`, says.
pub(crate) fn parse(line: &[u8]) -> Result<Head<'_>, ReplyError> {
    let Some(text) = line.strip_suffix(b"\r\n") else {
        return Err(ReplyErrorKind::LineEnd.at(line.len() - 1));
    };
    if let Some(at) = memchr::memchr(b'\r', text) {
        return Err(ReplyErrorKind::LineEnd.at(at));
    }
    let space = memchr::memchr(b' ', text);
    let (word, rest) = match space {
        Some(space) => (&text[..space], Some(&text[space + 1..])),
        None => (text, None),
    };
    let flags = ReplyFlags(rest.unwrap_or_default());
    let meta = |status| Reply::Meta { status, flags };
    Ok(Head::Whole(match (word, rest) {
        (b"STORED", None) => Reply::Stored,
        (b"NOT_STORED", None) => Reply::NotStored,
        (b"EXISTS", None) => Reply::Exists,
        (b"NOT_FOUND", None) => Reply::NotFound,
        (b"DELETED", None) => Reply::Deleted,
        (b"TOUCHED", None) => Reply::Touched,
        (b"OK", None) => Reply::Ok,
        (b"RESET", None) => Reply::Reset,
        (b"END", None) => Reply::End,
        (b"VALUE", Some(fields)) => {
            let fields = Fields {
                line,
                rest: Some(fields),
            };
            return value_head(fields);
        }
        (b"HD", _) => meta(MetaStatus::Done),
        (b"EN", _) => meta(MetaStatus::Miss),
        (b"NF", _) => meta(MetaStatus::NotFound),
        (b"NS", _) => meta(MetaStatus::NotStored),
        (b"EX", _) => meta(MetaStatus::Exists),
        (b"VA", Some(fields)) => {
            let mut fields = Fields {
                line,
                rest: Some(fields),
            };
            let bytes = fields.number()?;
            let flags = ReplyFlags(fields.rest.unwrap_or_default());
            return Ok(Head::Value(ValueHead::Meta(flags), bytes));
        }
        (b"ME", Some(fields)) => {
            let mut fields = Fields {
                line,
                rest: Some(fields),
            };
            let key = fields.key()?;
            let fields = fields.rest.unwrap_or_default();
            Reply::MetaDebug { key, fields }
        }
        (b"MN", None) => Reply::MetaNoop,
        (b"STAT", Some(fields)) => stat(Fields {
            line,
            rest: Some(fields),
        })?,
        (b"VERSION", Some(version)) => Reply::Version(version),
        (b"ERROR", message) => Reply::Error(message.unwrap_or_default()),
        (b"CLIENT_ERROR", Some(message)) => Reply::ClientError(message),
        (b"SERVER_ERROR", Some(message)) => Reply::ServerError(message),
        (digits, None) => match number::written(digits) {
            Some(number) => Reply::Number(number),
            None => return Err(ReplyErrorKind::Unknown.at(0)),
        },
        _ => return Err(ReplyErrorKind::Unknown.at(0)),
    }))
}

/// Where the length of the value stands on the line of a `VALUE` or `VA`.
pub(crate) fn bytes_at(line: &[u8]) -> usize {
    let words_before = if line.starts_with(b"VALUE") { 3 } else { 1 };
    let mut spaces = memchr::memchr_iter(b' ', line);
    spaces.nth(words_before - 1).map_or(0, |space| space + 1)
}

/// `<key> <flags> <bytes> [<cas>]`
fn value_head(mut fields: Fields<'_>) -> Result<Head<'_>, ReplyError> {
    let key = fields.key()?;
    let at = fields.at();
    let flags = u32::try_from(fields.number()?).map_err(|_| ReplyErrorKind::Malformed.at(at))?;
    let bytes = fields.number()?;
    let cas = match fields.rest {
        Some(_) => Some(fields.number()?),
        None => None,
    };
    match fields.rest {
        Some(_) => Err(ReplyErrorKind::Malformed.at(fields.at())),
        None => Ok(Head::Value(ValueHead::Get { key, flags, cas }, bytes)),
    }
}

/// `<name> <value>`
fn stat(mut fields: Fields<'_>) -> Result<Reply<&[u8]>, ReplyError> {
    let at = fields.at();
    let name = fields.next();
    match (name, fields.rest) {
        (Some([_, ..]), None) => Err(ReplyErrorKind::Malformed.at(fields.at())),
        (Some(name @ [_, ..]), Some(value)) => Ok(Reply::Stat { name, value }),
        _ => Err(ReplyErrorKind::Malformed.at(at)),
    }
}

/// What stands between single spaces.
struct Fields<'a> {
    line: &'a [u8],
    /// What is left of the line, if there is a space before it.
    rest: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        let space = memchr::memchr(b' ', rest);
        self.rest = space.map(|space| &rest[space + 1..]);
        Some(&rest[..space.unwrap_or(rest.len())])
    }

    /// Where the next field begins.
    fn at(&self) -> usize {
        match self.rest {
            Some(rest) => scan::offset(rest, self.line),
            None => self.line.len() - 2,
        }
    }

    fn number(&mut self) -> Result<u64, ReplyError> {
        let at = self.at();
        let number = self.next().and_then(number::written);
        number.ok_or(ReplyErrorKind::Malformed.at(at))
    }

    fn key(&mut self) -> Result<&'a [u8], ReplyError> {
        let at = self.at();
        let key = self.next().and_then(|word| Key::new(word).ok());
        let key = key.ok_or(ReplyErrorKind::Malformed.at(at))?;
        Ok(key.as_bytes())
    }
}
