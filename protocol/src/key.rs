//! [`Key`]: bytes that every memcached reads as one key; [`ReceivedKey`], what a server takes for one;
//! and [`Token`], what follows a meta flag.

use core::error::Error;
use core::fmt;

pub use crate::limits::{KEY_BYTES_MAX, OPAQUE_BYTES_MAX};
use crate::scan;

/// A key that can't be misread: 1 to 250 bytes, none of them a space, a control byte or DEL.
///
/// `protocol.txt`, *Keys*: "the key must not include control characters or whitespace". There is one
/// way to make a key, [`Key::new`], and everything that writes a command takes keys only; so no
/// key can end its command early and begin another. Bytes from 0x80 are fine: memcached does not
/// read keys as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key<'a>(&'a [u8]);

/// A key as a server takes it: what memcached 1.6.18 takes for one, 1 to 250 bytes, none of them a space,
/// a newline or a NUL.
///
/// Control bytes are against `protocol.txt`, but there are clients that let them through, and to
/// memcached they are bytes as any others. Nothing that writes a request takes such a key, to be passed
/// on it must be tried as a [`Key`]:
///
/// ```
/// # use presenced_protocol::{Key, ReceivedKey, encode};
/// let received = ReceivedKey::new(b"a\x01b")?;
/// assert!(Key::try_from(received).is_err());
/// let received = ReceivedKey::new(b"ab")?;
/// encode::get(&mut Vec::new(), [Key::try_from(received)?]);
/// # Ok::<(), presenced_protocol::WordError>(())
/// ```
///
/// ```compile_fail,E0271
/// # use presenced_protocol::{ReceivedKey, encode};
/// # let received = ReceivedKey::new(b"ab")?;
/// encode::get(&mut Vec::new(), [received]);
/// # Ok::<(), presenced_protocol::WordError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceivedKey<'a>(&'a [u8]);

/// What follows the letter of a meta flag: at most `BYTES_MAX` bytes, none of them a space, a
/// control byte or DEL (`protocol.txt`, *Meta Commands*).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token<'a, const BYTES_MAX: usize>(&'a [u8]);

/// The token of the flag `O`, which comes back with the reply (`protocol.txt`, *Meta Get*).
pub type Opaque<'a> = Token<'a, OPAQUE_BYTES_MAX>;

/// A key whose bytes are known to be one. It can't be named outside the crate, so the only other way to
/// a key is to check its bytes.
pub trait Checked<'a> {
    /// For bytes that have been looked at already.
    fn checked_before(bytes: &'a [u8]) -> Self;
}

/// Why bytes are not a [`Key`], a [`ReceivedKey`] or a [`Token`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordError {
    /// A key without bytes.
    Empty,
    /// More bytes than there may be.
    TooLong {
        /// How many there are.
        bytes: usize,
        /// How many there may be.
        bytes_max: usize,
    },
    /// A space, a control byte or DEL; for a [`ReceivedKey`] a space, a newline or a NUL.
    BadByte {
        /// The first of them.
        byte: u8,
        /// Where it stands, counted from 0.
        at: usize,
    },
}

impl<'a> Key<'a> {
    /// The key made of these bytes.
    ///
    /// # Errors
    ///
    /// The first rule that `bytes` breaks, as a [`WordError`].
    pub fn new(bytes: &'a [u8]) -> Result<Key<'a>, WordError> {
        if bytes.is_empty() {
            return Err(WordError::Empty);
        }
        check(bytes, KEY_BYTES_MAX)?;
        Ok(Key(bytes))
    }

    /// The key's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

impl<'a> ReceivedKey<'a> {
    /// The key made of these bytes.
    ///
    /// # Errors
    ///
    /// The first rule that `bytes` breaks, as a [`WordError`].
    pub fn new(bytes: &'a [u8]) -> Result<ReceivedKey<'a>, WordError> {
        if bytes.is_empty() {
            return Err(WordError::Empty);
        }
        check_length(bytes, KEY_BYTES_MAX)?;
        match memchr::memchr3(b' ', b'\n', 0, bytes) {
            Some(at) => Err(WordError::BadByte {
                byte: bytes[at],
                at,
            }),
            None => Ok(ReceivedKey(bytes)),
        }
    }

    /// The key's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

impl<'a> From<Key<'a>> for ReceivedKey<'a> {
    fn from(key: Key<'a>) -> ReceivedKey<'a> {
        ReceivedKey(key.0)
    }
}

impl<'a> TryFrom<ReceivedKey<'a>> for Key<'a> {
    type Error = WordError;

    fn try_from(key: ReceivedKey<'a>) -> Result<Key<'a>, WordError> {
        Key::new(key.0)
    }
}

impl<'a> Checked<'a> for Key<'a> {
    #[inline]
    fn checked_before(bytes: &'a [u8]) -> Key<'a> {
        debug_assert!(Key::new(bytes).is_ok());
        Key(bytes)
    }
}

impl<'a> Checked<'a> for ReceivedKey<'a> {
    #[inline]
    fn checked_before(bytes: &'a [u8]) -> ReceivedKey<'a> {
        debug_assert!(ReceivedKey::new(bytes).is_ok());
        ReceivedKey(bytes)
    }
}

impl<'a, const BYTES_MAX: usize> Token<'a, BYTES_MAX> {
    /// The token made of these bytes; it may be empty.
    ///
    /// # Errors
    ///
    /// The first rule that `bytes` breaks, as a [`WordError`].
    pub fn new(bytes: &'a [u8]) -> Result<Token<'a, BYTES_MAX>, WordError> {
        check(bytes, BYTES_MAX)?;
        Ok(Token(bytes))
    }

    /// The token's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

fn check(bytes: &[u8], bytes_max: usize) -> Result<(), WordError> {
    check_length(bytes, bytes_max)?;
    let at = scan::word_bytes(bytes);
    match bytes.get(at) {
        Some(&byte) => Err(WordError::BadByte { byte, at }),
        None => Ok(()),
    }
}

fn check_length(bytes: &[u8], bytes_max: usize) -> Result<(), WordError> {
    let bytes = bytes.len();
    if bytes > bytes_max {
        return Err(WordError::TooLong { bytes, bytes_max });
    }
    Ok(())
}

impl fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key(\"{}\")", self.0.escape_ascii())
    }
}

impl fmt::Debug for ReceivedKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReceivedKey(\"{}\")", self.0.escape_ascii())
    }
}

impl<const BYTES_MAX: usize> fmt::Debug for Token<'_, BYTES_MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(\"{}\")", self.0.escape_ascii())
    }
}

impl fmt::Display for WordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WordError::Empty => write!(f, "a memcached key can't be empty"),
            WordError::TooLong { bytes, bytes_max } => {
                write!(
                    f,
                    "a memcached key or token with {bytes} bytes, over {bytes_max}"
                )
            }
            WordError::BadByte { byte, at } => {
                write!(
                    f,
                    "a memcached key or token can't hold the byte {byte:#04x} (at {at})"
                )
            }
        }
    }
}

impl Error for WordError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_memcached_reads_as_one_key() {
        for bytes in [
            &b"a"[..],
            b"user:123:online",
            "user:zo\u{eb}".as_bytes(),
            &[b'k'; 250],
        ] {
            assert_eq!(Key::new(bytes).unwrap().as_bytes(), bytes);
        }
    }

    #[test]
    fn refuses_each_byte_that_ends_a_word_or_a_line() {
        for byte in 0..=255_u8 {
            let bytes = [b'a', byte, b'b'];
            let allowed = byte > b' ' && byte != 0x7f;
            let bad = WordError::BadByte { byte, at: 1 };
            assert_eq!(
                Key::new(&bytes),
                if allowed { Ok(Key(&bytes)) } else { Err(bad) }
            );
            assert_eq!(
                Opaque::new(&bytes),
                if allowed { Ok(Token(&bytes)) } else { Err(bad) }
            );
            let taken = !b" \n\0".contains(&byte);
            let received = ReceivedKey::new(&bytes);
            assert_eq!(
                received,
                if taken {
                    Ok(ReceivedKey(&bytes))
                } else {
                    Err(bad)
                }
            );
            // What was received is no key that may be sent because of that.
            if let Ok(received) = received {
                assert_eq!(Key::try_from(received), Key::new(&bytes));
            }
        }
    }

    #[test]
    fn refuses_no_bytes_and_too_many() {
        assert_eq!(Key::new(b""), Err(WordError::Empty));
        let (bytes, bytes_max) = (251, 250);
        assert_eq!(
            Key::new(&[b'k'; 251]),
            Err(WordError::TooLong { bytes, bytes_max })
        );
        assert_eq!(ReceivedKey::new(b""), Err(WordError::Empty));
        assert!(ReceivedKey::new(&[1; 250]).is_ok());
        assert_eq!(
            ReceivedKey::new(&[1; 251]),
            Err(WordError::TooLong { bytes, bytes_max })
        );
        assert_eq!(Opaque::new(b"").unwrap().as_bytes(), b"");
        assert!(Opaque::new(&[b'1'; 31]).is_ok());
        assert!(Opaque::new(&[b'1'; 32]).is_err());
    }
}
