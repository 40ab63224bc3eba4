//! The line of a request: which command, and its words.

use crate::{
    error::BadRequest,
    key::Key,
    limits::Limits,
    line::Words,
    number,
    request::{Keys, Request},
};

/// A request line that was understood.
pub(crate) enum Command<'a> {
    /// All there is to it.
    Whole(Request<'a>),
    /// A value follows.
    Set(SetLine<'a>),
}

/// The line of a `set`.
pub(crate) struct SetLine<'a> {
    pub(crate) key: Key<'a>,
    pub(crate) flags: u32,
    pub(crate) exptime: i64,
    pub(crate) bytes: usize,
    pub(crate) noreply: bool,
}

/// A request line that was not understood.
pub(crate) struct Refused<'a> {
    pub(crate) answer: BadRequest<'a>,
    pub(crate) noreply: bool,
}

/// The command on a line, which comes without its end.
pub(crate) fn parse<'a>(text: &'a [u8], limits: &Limits) -> Result<Command<'a>, Refused<'a>> {
    let mut words = Words::new(text);
    let request = match words.next() {
        Some(b"get") => get(words, false, limits)?,
        Some(b"gets") => get(words, true, limits)?,
        Some(b"set") => return Ok(Command::Set(set(words)?)),
        Some(b"touch") => touch(words)?,
        Some(b"delete") => delete(words)?,
        Some(b"version") => Request::Version,
        Some(b"stats") => Request::Stats {
            argument: words.next(),
        },
        Some(b"flush_all") => flush_all(words)?,
        Some(b"quit") => Request::Quit,
        _ => return Err(BadRequest::Unknown.aloud()),
    };
    Ok(Command::Whole(request))
}

fn get<'a>(words: Words<'a>, with_cas: bool, limits: &Limits) -> Result<Request<'a>, Refused<'a>> {
    let mut count = 0;
    for word in words.clone() {
        if Key::new(word).is_err() {
            return Err(BadRequest::LineFormat.aloud());
        }
        count += 1;
    }
    if count == 0 {
        return Err(BadRequest::Unknown.aloud());
    }
    if count > limits.keys_max {
        return Err(BadRequest::TooManyKeys.aloud());
    }
    let keys = Keys { words };
    Ok(Request::Get { keys, with_cas })
}

fn set<'a>(words: Words<'a>) -> Result<SetLine<'a>, Refused<'a>> {
    let words = Arguments::new(words);
    let [key, flags, exptime, bytes] = match *words.as_slice() {
        // memcached takes any fifth word; only `noreply` means something.
        [a, b, c, d] | [a, b, c, d, _] => [a, b, c, d],
        _ => return Err(BadRequest::Unknown.aloud()),
    };
    let noreply = words.noreply();
    let line = || {
        Some(SetLine {
            key: Key::new(key).ok()?,
            flags: u32::try_from(number::read(flags)?).ok()?,
            exptime: number::read(exptime)?,
            bytes: value_bytes(bytes)?,
            noreply,
        })
    };
    line().ok_or(BadRequest::LineFormat.unless(noreply))
}

/// The greatest length that memcached takes for a number of bytes at all: it adds two for the line
/// end in an `int`. Beyond this the line is bad; up to this the value is merely too large.
const SET_BYTES_MAX: usize = i32::MAX as usize - 2;

fn value_bytes(word: &[u8]) -> Option<usize> {
    let bytes = usize::try_from(number::read(word)?).ok()?;
    (bytes <= SET_BYTES_MAX).then_some(bytes)
}

fn touch<'a>(words: Words<'a>) -> Result<Request<'a>, Refused<'a>> {
    let words = Arguments::new(words);
    let (key, exptime) = match *words.as_slice() {
        [key, exptime] | [key, exptime, _] => (key, exptime),
        _ => return Err(BadRequest::Unknown.aloud()),
    };
    let noreply = words.noreply();
    let key = Key::new(key).map_err(|_| BadRequest::LineFormat.unless(noreply))?;
    let exptime = number::read(exptime).ok_or(BadRequest::Exptime.unless(noreply))?;
    Ok(Request::Touch {
        key,
        exptime,
        noreply,
    })
}

fn delete<'a>(words: Words<'a>) -> Result<Request<'a>, Refused<'a>> {
    let words = Arguments::new(words);
    // A `0` is what is left of a hold time that memcached had long ago.
    let (key, known) = match *words.as_slice() {
        [key] => (key, true),
        [key, word] => (key, matches!(word, b"0" | b"noreply")),
        [key, hold, word] => (key, hold == b"0" && word == b"noreply"),
        _ => return Err(BadRequest::Unknown.aloud()),
    };
    // In `delete noreply` that is the key.
    let noreply = words.as_slice().len() > 1 && words.noreply();
    if !known {
        return Err(BadRequest::DeleteUsage.unless(noreply));
    }
    let key = Key::new(key).map_err(|_| BadRequest::LineFormat.unless(noreply))?;
    Ok(Request::Delete { key, noreply })
}

fn flush_all<'a>(words: Words<'a>) -> Result<Request<'a>, Refused<'a>> {
    let words = Arguments::new(words);
    let noreply = words.noreply();
    let delay = match *words.as_slice() {
        [] => None,
        [_] if noreply => None,
        [delay] | [delay, _] => Some(delay),
        _ => return Err(BadRequest::Unknown.aloud()),
    };
    let Some(delay) = delay else {
        return Ok(Request::FlushAll {
            delay: None,
            noreply,
        });
    };
    let seconds = number::read(delay).ok_or(BadRequest::Exptime.unless(noreply))?;
    let delay = (seconds > 0).then(|| u32::try_from(seconds).unwrap_or(u32::MAX));
    Ok(Request::FlushAll { delay, noreply })
}

/// The words after a command that takes few.
struct Arguments<'a> {
    words: [&'a [u8]; Arguments::KEPT],
    count: usize,
}

impl<'a> Arguments<'a> {
    /// One more than any command takes, so that too many are seen as such; more are not looked at.
    const KEPT: usize = 6;

    fn new(words: Words<'a>) -> Arguments<'a> {
        let mut kept: [&[u8]; Arguments::KEPT] = [b""; Arguments::KEPT];
        let mut count = 0;
        for (slot, word) in kept.iter_mut().zip(words) {
            *slot = word;
            count += 1;
        }
        Arguments { words: kept, count }
    }

    fn as_slice(&self) -> &[&'a [u8]] {
        &self.words[..self.count]
    }

    /// Whether the last word is `noreply`.
    fn noreply(&self) -> bool {
        self.as_slice().last() == Some(&&b"noreply"[..])
    }
}

impl<'a> BadRequest<'a> {
    /// Answered whatever the line ends in: memcached counts words before it looks for `noreply`.
    fn aloud(self) -> Refused<'a> {
        self.unless(false)
    }

    /// Answered unless the line ends in `noreply`.
    fn unless(self, noreply: bool) -> Refused<'a> {
        Refused {
            answer: self,
            noreply,
        }
    }
}
