//! Keys of any bytes: what the meta flag `b` says of a key (`protocol.txt`, *Meta Get*).
//!
//! memcached's own reading of base64 is lenient, and a server must be as lenient to find the same
//! item: what is not in the alphabet is skipped, padding may stand early and ends the key.

use crate::key::{Checked, KEY_BYTES_MAX, Key, ReceivedKey};

/// Greatest length of a key in bytes before it is encoded, so that it fits [`KEY_BYTES_MAX`] after.
pub const BINARY_KEY_BYTES_MAX: usize = KEY_BYTES_MAX / 4 * 3;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A key that stands for `bytes`, to be sent with the flag `b`: base64 with padding, written to
/// `buffer`.
///
/// `None` if there are no bytes, or more than [`BINARY_KEY_BYTES_MAX`].
#[must_use]
pub fn encode<'b>(bytes: &[u8], buffer: &'b mut [u8; KEY_BYTES_MAX]) -> Option<Key<'b>> {
    if bytes.is_empty() || bytes.len() > BINARY_KEY_BYTES_MAX {
        return None;
    }
    let count = bytes.len().div_ceil(3) * 4;
    for (three, four) in bytes.chunks(3).zip(buffer.chunks_mut(4)) {
        let byte = |place: usize| u32::from(three.get(place).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (place, digit) in four.iter_mut().enumerate() {
            let sextet = (bits >> (18 - 6 * place) & 63) as usize;
            *digit = if place <= three.len() {
                ALPHABET[sextet]
            } else {
                b'='
            };
        }
    }
    Some(Key::checked_before(&buffer[..count]))
}

/// The bytes that `key`, which came with the flag `b`, stands for, written to `buffer`.
///
/// `None` if memcached would not read it: "error decoding key". [`request`](crate::request) has
/// looked already, so a key that it gives with the flag `b` is always read.
#[must_use]
pub fn decode<'b>(key: ReceivedKey<'_>, buffer: &'b mut [u8; KEY_BYTES_MAX]) -> Option<&'b [u8]> {
    let digits = || key.as_bytes().iter().filter_map(|&byte| sextet(byte));
    let count = digits().count();
    if count == 0 || !count.is_multiple_of(4) {
        return None;
    }
    let (mut bits, mut padding, mut written) = (0_u32, 0, 0);
    for (number, digit) in (1..).zip(digits()) {
        bits = bits << 6 | u32::from(digit.unwrap_or(0));
        padding += usize::from(digit.is_none());
        if number % 4 == 0 {
            let [_, three @ ..] = bits.to_be_bytes();
            let kept = 3_usize.checked_sub(padding).filter(|&kept| kept > 0)?;
            buffer[written..written + kept].copy_from_slice(&three[..kept]);
            written += kept;
            bits = 0;
            if padding > 0 {
                break;
            }
        }
    }
    Some(&buffer[..written])
}

/// The value of a digit, `Some(None)` for padding, `None` for what is skipped.
fn sextet(byte: u8) -> Option<Option<u8>> {
    Some(match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        b'=' => None,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(text: &str) -> Option<alloc::vec::Vec<u8>> {
        let mut buffer = [0; KEY_BYTES_MAX];
        decode(ReceivedKey::new(text.as_bytes()).unwrap(), &mut buffer).map(Into::into)
    }

    /// What memcached 1.6.18 makes of each, told by the key that it gives back.
    #[test]
    fn reads_what_memcached_reads() {
        for (text, bytes) in [
            ("YWJj", &b"abc"[..]),
            ("YWJjZA==", b"abcd"),
            ("YWI=", b"ab"),
            ("YW+/", b"ao\xbf"),
            ("YR==", b"a"),
            ("YQ==YQ==", b"a"),
            ("YW=j", b"a`"),
            ("YW!Jj", b"abc"),
            ("!!!!YWJj", b"abc"),
            ("Y!WJj!!", b"abc"),
            ("Y\u{1}W\tJj\r", b"abc"),
        ] {
            assert_eq!(decoded(text).as_deref(), Some(bytes), "{text}");
        }
        for text in ["a", "YWI", "Y===", "====", "YWJj=", "YW-_", "!!!!", "YWJ"] {
            assert_eq!(decoded(text), None, "{text}");
        }
    }

    #[test]
    fn a_binary_key_has_1_to_186_bytes() {
        let mut buffer = [0; KEY_BYTES_MAX];
        assert_eq!(encode(b"", &mut buffer), None);
        assert_eq!(encode(&[0; 187], &mut buffer), None);
        assert_eq!(
            encode(&[0; 186], &mut buffer).unwrap().as_bytes().len(),
            248
        );
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(bytes in prop::collection::vec(any::<u8>(), 1..=BINARY_KEY_BYTES_MAX)) {
            let (mut text, mut back) = ([0; KEY_BYTES_MAX], [0; KEY_BYTES_MAX]);
            let key = encode(&bytes, &mut text).unwrap();
            prop_assert_eq!(decode(key.into(), &mut back), Some(&bytes[..]));
        }

        #[test]
        fn any_key_is_read_or_not(key in prop::collection::vec(any::<u8>().prop_filter("a key's", |byte| !b" \n\0".contains(byte)), 1..=250)) {
            let mut buffer = [0; KEY_BYTES_MAX];
            let read = decode(ReceivedKey::new(&key).unwrap(), &mut buffer);
            prop_assert!(read.is_none_or(|bytes| !bytes.is_empty()));
        }
    }
}
