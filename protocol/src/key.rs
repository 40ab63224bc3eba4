//! [`Key`]: bytes that memcached reads as one key.

use std::{error::Error, fmt};

/// Greatest length of a key in bytes (`protocol.txt`, *Keys*).
pub const KEY_BYTES_MAX: usize = 250;

/// A key that can't be misread: 1 to 250 bytes, none of them a space, a control byte or DEL.
///
/// `protocol.txt`, *Keys*: "the key must not include control characters or whitespace". There is one
/// way to make a key, [`Key::new`], and everything that writes a command takes keys only; so no
/// key can end its command early and begin another. Bytes from 0x80 are fine: memcached does not
/// read keys as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key<'a>(&'a [u8]);

/// Why bytes are not a [`Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// No bytes at all.
    Empty,
    /// More than [`KEY_BYTES_MAX`] bytes.
    TooLong {
        /// How many there are.
        bytes: usize,
    },
    /// A space, a control byte or DEL.
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
    /// The first rule that `bytes` breaks, as a [`KeyError`].
    pub fn new(bytes: &'a [u8]) -> Result<Key<'a>, KeyError> {
        if bytes.is_empty() {
            return Err(KeyError::Empty);
        }
        if bytes.len() > KEY_BYTES_MAX {
            return Err(KeyError::TooLong { bytes: bytes.len() });
        }
        // Without an early exit the loop is vectorised; a bad key is rare.
        if bytes.iter().fold(false, |bad, &byte| bad | is_bad(byte)) {
            let at = bytes.iter().position(|&byte| is_bad(byte)).unwrap_or(0);
            return Err(KeyError::BadByte {
                byte: bytes[at],
                at,
            });
        }
        Ok(Key(bytes))
    }

    /// The key's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// For a line whose keys have all been through [`Key::new`] already.
    pub(crate) fn checked_before(bytes: &'a [u8]) -> Key<'a> {
        debug_assert!(Key::new(bytes).is_ok());
        Key(bytes)
    }
}

fn is_bad(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7f
}

impl fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key(\"{}\")", self.0.escape_ascii())
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::Empty => write!(f, "a memcached key can't be empty"),
            KeyError::TooLong { bytes } => {
                write!(
                    f,
                    "a memcached key has at most {KEY_BYTES_MAX} bytes, not {bytes}"
                )
            }
            KeyError::BadByte { byte, at } => {
                write!(
                    f,
                    "a memcached key can't hold the byte {byte:#04x} (at {at})"
                )
            }
        }
    }
}

impl Error for KeyError {}

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
            let expected = if allowed {
                Ok(Key(&bytes))
            } else {
                Err(KeyError::BadByte { byte, at: 1 })
            };
            assert_eq!(Key::new(&bytes), expected);
        }
    }

    #[test]
    fn refuses_no_bytes_and_too_many() {
        assert_eq!(Key::new(b""), Err(KeyError::Empty));
        assert_eq!(
            Key::new(&[b'k'; 251]),
            Err(KeyError::TooLong { bytes: 251 })
        );
    }
}
