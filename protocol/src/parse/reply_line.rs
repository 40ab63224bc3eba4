//! The line of a reply.

use crate::key::{KEY_BYTES_MAX, Key};
use crate::limits::Limits;
use crate::meta::ReplyFlags;
use crate::reply::{MetaStatus, Reply};
use crate::reply_error::{ReplyError, ReplyErrorKind};
use crate::{number, scan};

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
    match memchr::memchr(b' ', text) {
        None => one_word(text).map(Head::Whole),
        Some(space) => {
            let (word, rest) = (&text[..space], Some(&text[space + 1..]));
            with_fields(word, Fields { line, rest })
        }
    }
}

/// A line without a space.
fn one_word(word: &[u8]) -> Result<Reply<&[u8]>, ReplyError> {
    Ok(match word {
        b"STORED" => Reply::Stored,
        b"NOT_STORED" => Reply::NotStored,
        b"EXISTS" => Reply::Exists,
        b"NOT_FOUND" => Reply::NotFound,
        b"DELETED" => Reply::Deleted,
        b"TOUCHED" => Reply::Touched,
        b"OK" => Reply::Ok,
        b"RESET" => Reply::Reset,
        b"END" => Reply::End,
        b"MN" => Reply::MetaNoop,
        b"ERROR" => Reply::Error(b""),
        _ => match meta_status(word) {
            Some(status) => Reply::Meta {
                status,
                flags: ReplyFlags(b""),
            },
            None => {
                let number = number::written(word);
                Reply::Number(number.ok_or(ReplyErrorKind::Unknown.at(0))?)
            }
        },
    })
}

/// A line with something after its first word.
fn with_fields<'a>(word: &[u8], mut fields: Fields<'a>) -> Result<Head<'a>, ReplyError> {
    let rest = fields.rest();
    Ok(Head::Whole(match word {
        b"VALUE" => return value_head(fields),
        b"VA" => {
            let bytes = fields.number()?;
            let flags = ReplyFlags(fields.rest());
            return Ok(Head::Value(ValueHead::Meta(flags), bytes));
        }
        b"ME" => Reply::MetaDebug {
            key: fields.key()?,
            fields: fields.rest(),
        },
        b"STAT" => stat(fields)?,
        b"VERSION" => Reply::Version(rest),
        b"ERROR" => Reply::Error(rest),
        b"CLIENT_ERROR" => Reply::ClientError(rest),
        b"SERVER_ERROR" => Reply::ServerError(rest),
        _ => {
            let status = meta_status(word).ok_or(ReplyErrorKind::Unknown.at(0))?;
            let flags = ReplyFlags(rest);
            Reply::Meta { status, flags }
        }
    }))
}

fn meta_status(word: &[u8]) -> Option<MetaStatus> {
    Some(match word {
        b"HD" => MetaStatus::Done,
        b"EN" => MetaStatus::Miss,
        b"NF" => MetaStatus::NotFound,
        b"NS" => MetaStatus::NotStored,
        b"EX" => MetaStatus::Exists,
        _ => return None,
    })
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
    fn rest(&self) -> &'a [u8] {
        self.rest.unwrap_or_default()
    }

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
