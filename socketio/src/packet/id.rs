//! The id of an event that is to be answered.

use std::fmt;

use crate::limits::{ID_DIGITS_MAX, ID_MAX};

/// The id of an event, in the client's own digits: up to [`ID_MAX`], zeros in front included.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id {
    digits: [u8; ID_DIGITS_MAX],
    len: u8,
}

impl Id {
    /// From its digits.
    pub fn new(text: &[u8]) -> Option<Id> {
        let mut digits = [0; ID_DIGITS_MAX];
        digits.get_mut(..text.len())?.copy_from_slice(text);
        let mut value = 0;
        for &digit in text {
            if !digit.is_ascii_digit() {
                return None;
            }
            // 16 digits are no more than 64 bits hold.
            value = 10 * value + u64::from(digit - b'0');
        }
        let id = Id {
            digits,
            len: text.len() as u8,
        };
        (!text.is_empty() && value <= ID_MAX).then_some(id)
    }

    /// The digits.
    pub fn as_bytes(&self) -> &[u8] {
        &self.digits[..usize::from(self.len)]
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({})", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_integer_that_javascript_keeps_exactly() {
        for text in [
            &b"0"[..],
            b"1",
            b"007",
            b"9007199254740991",
            b"0000000000000000",
        ] {
            assert_eq!(Id::new(text).unwrap().as_bytes(), text);
        }
        for text in [
            &b""[..],
            b"9007199254740992",
            b"9999999999999999",
            b"00000000000000001",
            b"-1",
            b"1.0",
            b"1e3",
            b" 1",
        ] {
            assert_eq!(Id::new(text), None, "{text:?}");
        }
    }
}
