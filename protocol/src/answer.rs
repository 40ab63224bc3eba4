//! What a meta reply tells; part of [`meta`](crate::meta).

use core::fmt;

use crate::{number, scan::Words};

/// What a meta reply tells, beside its status and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer<'a> {
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
pub struct Answers<B>(pub(crate) B);

impl<'a> Answer<'a> {
    fn read(word: &'a [u8]) -> Option<Answer<'a>> {
        let (&letter, token) = word.split_first()?;
        let number = || number::written(token);
        let number32 = || number()?.try_into().ok();
        let known = match letter {
            b'b' if token.is_empty() => Some(Answer::Base64Key),
            b'W' if token.is_empty() => Some(Answer::Won),
            b'X' if token.is_empty() => Some(Answer::Stale),
            b'Z' if token.is_empty() => Some(Answer::AlreadyWon),
            b'c' => number().map(Answer::Cas),
            b'f' => number32().map(Answer::ClientFlags),
            b'h' if token == b"0" => Some(Answer::Hit(false)),
            b'h' if token == b"1" => Some(Answer::Hit(true)),
            b'k' => Some(Answer::Key(token)),
            b'l' => number32().map(Answer::LastAccess),
            b'O' => Some(Answer::Opaque(token)),
            b's' => number().map(Answer::Size),
            b't' if token == b"-1" => Some(Answer::Ttl(None)),
            b't' => number32().map(|seconds| Answer::Ttl(Some(seconds))),
            _ => None,
        };
        Some(known.unwrap_or(Answer::Other { letter, token }))
    }
}

impl<B> From<B> for Answers<B> {
    /// The words that stand on a line.
    fn from(line: B) -> Answers<B> {
        Answers(line)
    }
}

impl<B: AsRef<[u8]>> Answers<B> {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Answer<'_>> {
        Words::new(self.0.as_ref()).filter_map(Answer::read)
    }

    /// The line's text: words parted by spaces.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl<B: AsRef<[u8]>> fmt::Debug for Answers<B> {
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
        let other = |letter, token| Answer::Other { letter, token };
        let answers = Answers(&b"b c18446744073709551615 f7 h0 h1 kkey l3 O s80 t-1 t60 W X Z"[..]);
        let expected = [
            Answer::Base64Key,
            Answer::Cas(u64::MAX),
            Answer::ClientFlags(7),
            Answer::Hit(false),
            Answer::Hit(true),
            Answer::Key(b"key"),
            Answer::LastAccess(3),
            Answer::Opaque(b""),
            Answer::Size(80),
            Answer::Ttl(None),
            Answer::Ttl(Some(60)),
            Answer::Won,
            Answer::Stale,
            Answer::AlreadyWon,
        ];
        assert_eq!(answers.iter().collect::<Vec<_>>(), expected);
        let strange = Answers(&b"t-2 c h2 Wx ?"[..]);
        let expected = [
            other(b't', b"-2"),
            other(b'c', b""),
            other(b'h', b"2"),
            other(b'W', b"x"),
            other(b'?', b""),
        ];
        assert_eq!(strange.iter().collect::<Vec<_>>(), expected);
        assert_eq!(Answers::<&[u8]>::default().iter().count(), 0);
    }
}
