//! What a request's line is found to be: a command, or why it is none.

use crate::key::ReceivedKey;
use crate::limits::STORE_BYTES_MAX;
use crate::meta::Flags;
use crate::number;
use crate::request::{Received, Request, StoreVerb};
use crate::request_error::BadRequestKind;
use crate::scan::Words;

/// A request line that was understood.
pub(crate) enum Command<'a> {
    /// All there is to it.
    Whole(Received<'a>),
    /// A value follows.
    Data(DataLine<'a>),
}

/// A request line that was not understood.
pub(crate) struct Refused<'a> {
    pub(crate) kind: BadRequestKind<'a>,
    /// What was wrong, a piece of the line.
    pub(crate) word: &'a [u8],
    pub(crate) noreply: bool,
    pub(crate) followed_by: Rest,
}

/// What follows a line that was refused.
#[derive(Clone, Copy)]
pub(crate) enum Rest {
    /// The next request.
    Request,
    /// A value of this number of bytes, and its line end.
    Value(usize),
    /// Something that is not to be taken for requests, nobody knows how long.
    Unknown,
}

/// The line before a value.
pub(crate) struct DataLine<'a> {
    pub(crate) key: ReceivedKey<'a>,
    pub(crate) bytes: usize,
    pub(crate) noreply: bool,
    pub(crate) of: DataOf<'a>,
}

/// Which command the value is for.
pub(crate) enum DataOf<'a> {
    Store {
        verb: StoreVerb,
        flags: u32,
        exptime: i64,
    },
    Meta(Flags<'a>),
}

impl<'a> DataLine<'a> {
    /// The key, whether that is base64, and whether memcached removes what was stored there where the
    /// value is refused for its length, or for want of memory: nothing is better than something stale.
    #[cold]
    pub(crate) fn target(&self) -> (ReceivedKey<'a>, bool, bool) {
        match self.of {
            DataOf::Store { verb, .. } => (self.key, false, verb == StoreVerb::Set),
            DataOf::Meta(flags) => (self.key, flags.has(b'b'), true),
        }
    }

    #[inline]
    pub(crate) fn with(self, value: &'a [u8]) -> Received<'a> {
        let (key, noreply) = (self.key, self.noreply);
        match self.of {
            DataOf::Store {
                verb,
                flags,
                exptime,
            } => Request::Store {
                verb,
                key,
                flags,
                exptime,
                value,
                noreply,
            },
            DataOf::Meta(flags) => Request::MetaSet { key, value, flags },
        }
    }
}

/// The length of a value, as a request says it; `None` if memcached takes the word for none.
pub(crate) fn value_bytes(word: &[u8]) -> Option<usize> {
    let bytes = usize::try_from(number::read(word)?).ok()?;
    (bytes <= STORE_BYTES_MAX).then_some(bytes)
}

/// The words after a command that takes few.
pub(crate) struct Arguments<'a> {
    words: [&'a [u8]; Arguments::KEPT],
    count: usize,
}

impl<'a> Arguments<'a> {
    /// One more than any command takes, so that too many are seen as such; more are not looked at.
    const KEPT: usize = 7;

    pub(crate) fn new(words: Words<'a>) -> Arguments<'a> {
        let mut kept: [&[u8]; Arguments::KEPT] = [b""; Arguments::KEPT];
        let mut count = 0;
        for (slot, word) in kept.iter_mut().zip(words) {
            *slot = word;
            count += 1;
        }
        Arguments { words: kept, count }
    }

    pub(crate) fn as_slice(&self) -> &[&'a [u8]] {
        &self.words[..self.count]
    }

    /// Whether the last word is `noreply`.
    pub(crate) fn noreply(&self) -> bool {
        self.as_slice().last() == Some(&&b"noreply"[..])
    }

    /// All but a `noreply` at the end.
    pub(crate) fn before_noreply(&self) -> &[&'a [u8]] {
        let words = self.as_slice();
        words.strip_suffix(&[&b"noreply"[..]]).unwrap_or(words)
    }
}

impl<'a> BadRequestKind<'a> {
    /// For this reason, and answered whatever the line ends in: memcached counts words before it
    /// looks for `noreply`, and never heeds it in a meta command.
    pub(crate) fn at(self, word: &'a [u8]) -> Refused<'a> {
        Refused {
            kind: self,
            word,
            noreply: false,
            followed_by: Rest::Request,
        }
    }
}

impl Refused<'_> {
    /// Not answered if the line ends in `noreply`.
    pub(crate) fn unless(self, noreply: bool) -> Self {
        Refused { noreply, ..self }
    }

    /// Of a command that a value belongs to, or of none.
    pub(crate) fn followed_by(self, rest: Rest) -> Self {
        Refused {
            followed_by: rest,
            ..self
        }
    }
}
