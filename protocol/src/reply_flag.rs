//! What a meta reply tells; part of [`meta`](crate::meta).

use core::fmt;

use crate::number;
use crate::scan::Words;

/// What a meta reply tells, beside its status and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplyFlag<'a> {
    /// `b`: the key is base64 (*Meta Get*).
    Base64Key,
    /// `c`: the item's CAS number.
    Cas(u64),
    /// `f`: the client flags.
    ClientFlags(u32),
    /// `h`: whether the item had been hit before.
    Hit(bool),
    /// `k`: the key.
    Key(&'a [u8]),
    /// `l`: seconds since the item was last used.
    LastAccess(u32),
    /// `O`: what the request had.
    Opaque(&'a [u8]),
    /// `s`: the value's size in bytes.
    Size(u64),
    /// `t`: seconds left; `None` is for ever, `-1` on the wire.
    Ttl(Option<u32>),
    /// `W`: this client is to recache the item (*Meta Get*).
    Won,
    /// `X`: the item is stale (*Meta Get*).
    Stale,
    /// `Z`: another client has been told to recache the item (*Meta Get*).
    AlreadyWon,
    /// Something else, or one of the above with a token that does not fit.
    Other {
        /// The flag's letter.
        letter: u8,
        /// What follows it.
        token: &'a [u8],
    },
}

/// What a meta reply tells, in order, as it stands on the line.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplyFlags<B>(pub(crate) B);

impl<'a> ReplyFlag<'a> {
    fn read(word: &'a [u8]) -> Option<ReplyFlag<'a>> {
        let (&letter, token) = word.split_first()?;
        let number = || number::written(token);
        let number32 = || number()?.try_into().ok();
        let known = match letter {
            b'b' if token.is_empty() => Some(ReplyFlag::Base64Key),
            b'W' if token.is_empty() => Some(ReplyFlag::Won),
            b'X' if token.is_empty() => Some(ReplyFlag::Stale),
            b'Z' if token.is_empty() => Some(ReplyFlag::AlreadyWon),
            b'c' => number().map(ReplyFlag::Cas),
            b'f' => number32().map(ReplyFlag::ClientFlags),
            b'h' if token == b"0" => Some(ReplyFlag::Hit(false)),
            b'h' if token == b"1" => Some(ReplyFlag::Hit(true)),
            b'k' => Some(ReplyFlag::Key(token)),
            b'l' => number32().map(ReplyFlag::LastAccess),
            b'O' => Some(ReplyFlag::Opaque(token)),
            b's' => number().map(ReplyFlag::Size),
            b't' if token == b"-1" => Some(ReplyFlag::Ttl(None)),
            b't' => number32().map(|seconds| ReplyFlag::Ttl(Some(seconds))),
            _ => None,
        };
        Some(known.unwrap_or(ReplyFlag::Other { letter, token }))
    }
}

impl<B> From<B> for ReplyFlags<B> {
    /// The words that stand on a line.
    fn from(line: B) -> ReplyFlags<B> {
        ReplyFlags(line)
    }
}

impl<B: AsRef<[u8]>> ReplyFlags<B> {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = ReplyFlag<'_>> {
        Words::new(self.0.as_ref()).filter_map(ReplyFlag::read)
    }

    /// The line's text: words parted by spaces.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl<B: AsRef<[u8]>> fmt::Debug for ReplyFlags<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.as_ref().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn reads_what_it_knows_and_keeps_the_rest() {
        let other = |letter, token| ReplyFlag::Other { letter, token };
        let answers =
            ReplyFlags(&b"b c18446744073709551615 f7 h0 h1 kkey l3 O s80 t-1 t60 W X Z"[..]);
        let expected = [
            ReplyFlag::Base64Key,
            ReplyFlag::Cas(u64::MAX),
            ReplyFlag::ClientFlags(7),
            ReplyFlag::Hit(false),
            ReplyFlag::Hit(true),
            ReplyFlag::Key(b"key"),
            ReplyFlag::LastAccess(3),
            ReplyFlag::Opaque(b""),
            ReplyFlag::Size(80),
            ReplyFlag::Ttl(None),
            ReplyFlag::Ttl(Some(60)),
            ReplyFlag::Won,
            ReplyFlag::Stale,
            ReplyFlag::AlreadyWon,
        ];
        assert_eq!(answers.iter().collect::<Vec<_>>(), expected);
        let strange = ReplyFlags(&b"t-2 c h2 Wx ?"[..]);
        let expected = [
            other(b't', b"-2"),
            other(b'c', b""),
            other(b'h', b"2"),
            other(b'W', b"x"),
            other(b'?', b""),
        ];
        assert_eq!(strange.iter().collect::<Vec<_>>(), expected);
        assert_eq!(ReplyFlags::<&[u8]>::default().iter().count(), 0);
    }
}
