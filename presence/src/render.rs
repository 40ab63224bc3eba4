//! Short pieces of text, put one behind another.
//!
//! A `set` is a dozen pieces of a few bytes, and a flush makes one for everyone who is here. A
//! `memcpy` for each, of a length known only then, costs more than all the rest. So pieces are
//! copied in blocks of a fixed size, which compile to a load and a store, and what was copied too
//! much is written over by the next piece: half the time of `extend_from_slice` and itoa
//! (`benches/README.md`).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

/// Bytes copied at once of a [`Fixed`].
const BLOCK: usize = 32;

/// A text that is the same in every command.
#[derive(Clone, Debug)]
pub(super) struct Fixed {
    /// Padded with zeros.
    blocks: Box<[[u8; BLOCK]]>,
    len: usize,
}

impl Fixed {
    pub(super) fn new(text: &[u8]) -> Fixed {
        let block = |piece: &[u8]| {
            let mut block = [0; BLOCK];
            block[..piece.len()].copy_from_slice(piece);
            block
        };
        Fixed {
            blocks: text.chunks(BLOCK).map(block).collect(),
            len: text.len(),
        }
    }

    /// Bytes that are written over when it is put.
    pub(super) fn room(&self) -> usize {
        self.blocks.len() * BLOCK
    }
}

/// A number below 10^16 in decimal, as each `u32` and each time is; of a larger one the last 16
/// digits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number {
    /// The first digit in the lowest byte; what is behind the last does not matter.
    text: u128,
    len: usize,
}

const EIGHT_DIGITS: u64 = 100_000_000;

impl Number {
    /// Bytes that are written over when it is put.
    pub(super) const ROOM: usize = 16;

    #[inline]
    pub(super) fn new(number: u64) -> Number {
        // Most are: TTL, length, worker, generation.
        if number < 100 {
            Number::one_or_two(number)
        } else {
            Number::longer(number)
        }
    }

    fn longer(number: u64) -> Number {
        if number < EIGHT_DIGITS {
            return Number::eight(number);
        }
        let high = Number::eight(number / EIGHT_DIGITS % EIGHT_DIGITS);
        let low = digit_a_byte(number % EIGHT_DIGITS) | ZEROS;
        Number {
            text: high.text | (u128::from(low) << (high.len * 8)),
            len: high.len + 8,
        }
    }

    #[inline]
    fn one_or_two(number: u64) -> Number {
        let (tens, ones) = (number / 10, number % 10);
        let (digits, len) = if tens == 0 {
            (ones, 1)
        } else {
            (tens | (ones << 8), 2)
        };
        Number {
            text: (digits | ZEROS).into(),
            len,
        }
    }

    /// Up to eight digits, and nothing but zero bits behind them.
    #[inline]
    fn eight(number: u64) -> Number {
        let digits = digit_a_byte(number);
        let zeros = (digits.trailing_zeros() / 8).min(7);
        Number {
            text: ((digits | ZEROS) >> (zeros * 8)).into(),
            len: 8 - zeros as usize,
        }
    }

    /// Digits.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

/// `0` in each byte.
const ZEROS: u64 = u64::from_ne_bytes([b'0'; 8]);

/// The eight digits of a number below 10^8, the first in the lowest byte. Halves, then quarters,
/// then digits are parted in all lanes of the word at once; the multiplications are divisions by
/// 100 and by 10 that are exact for what can be there.
#[inline]
fn digit_a_byte(number: u64) -> u64 {
    let halves = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = ((halves * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let quarters = hundreds | ((halves - hundreds * 100) << 16);
    let tens = ((quarters * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | ((quarters - tens * 10) << 8)
}

/// Where pieces are put. Each is bounds-checked: too little room is a panic, so whoever makes one
/// has summed up the pieces' room.
#[derive(Debug)]
pub(super) struct Out<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl<'a> Out<'a> {
    pub(super) fn new(bytes: &'a mut [u8]) -> Out<'a> {
        Out { bytes, len: 0 }
    }

    /// Bytes that were put.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn fixed(&mut self, text: &Fixed) {
        let mut at = self.len;
        for block in &text.blocks {
            self.bytes[at..at + BLOCK].copy_from_slice(block);
            at += BLOCK;
        }
        self.len += text.len;
    }

    #[inline]
    pub(super) fn number(&mut self, number: Number) {
        let text = number.text.to_le_bytes();
        self.bytes[self.len..self.len + Number::ROOM].copy_from_slice(&text);
        self.len += number.len;
    }

    /// A text of a length that the compiler knows.
    #[inline]
    pub(super) fn literal<const N: usize>(&mut self, text: &[u8; N]) {
        self.bytes[self.len..self.len + N].copy_from_slice(text);
        self.len += N;
    }

    /// A text of any length, fast up to 32 bytes: two copies of a fixed size that overlap.
    #[inline]
    pub(super) fn text(&mut self, text: &[u8]) {
        let to = &mut self.bytes[self.len..self.len + text.len()];
        let copied = match text.len() {
            16..=32 => copy_ends::<16>(to, text),
            8..16 => copy_ends::<8>(to, text),
            4..8 => copy_ends::<4>(to, text),
            2..4 => copy_ends::<2>(to, text),
            _ => None,
        };
        if copied.is_none() {
            to.copy_from_slice(text);
        }
        self.len += text.len();
    }
}

#[inline]
fn copy_ends<const N: usize>(to: &mut [u8], from: &[u8]) -> Option<()> {
    *to.first_chunk_mut::<N>()? = *from.first_chunk()?;
    *to.last_chunk_mut::<N>()? = *from.last_chunk()?;
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn put(room: usize, pieces: impl FnOnce(&mut Out<'_>)) -> Vec<u8> {
        let mut bytes = vec![b'x'; room];
        let mut out = Out::new(&mut bytes);
        pieces(&mut out);
        let len = out.len();
        bytes.truncate(len);
        bytes
    }

    fn decimal(number: u64) -> String {
        let rendered = Number::new(number);
        let text = put(Number::ROOM, |out| out.number(rendered));
        assert_eq!(text.len(), rendered.len());
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn numbers_where_digits_begin() {
        assert_eq!(decimal(0), "0");
        for exponent in 0..16 {
            let power = 10u64.pow(exponent);
            for number in [power - 1, power, power + 1, 9 * power] {
                assert_eq!(decimal(number), number.to_string());
            }
        }
        assert_eq!(decimal(10u64.pow(16) - 1), "9999999999999999");
        // Of no use, but no panic and no more room.
        assert_eq!(decimal(u64::MAX), "6744073709551615");
        assert_eq!(decimal(10u64.pow(16)), "000000000");
    }

    #[test]
    fn all_halves_of_eight_digits() {
        for half in 0..10_000 {
            for number in [half, half * 10_000, half * 10_001] {
                assert_eq!(decimal(number), number.to_string());
            }
        }
    }

    proptest! {
        #[test]
        fn any_number(number in 0..10u64.pow(16)) {
            prop_assert_eq!(decimal(number), number.to_string());
        }

        #[test]
        fn pieces_stand_one_behind_another(
            fixed in prop::collection::vec(any::<u8>(), 0..100),
            texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..70), 0..5),
        ) {
            let piece = Fixed::new(&fixed);
            let room = texts.iter().map(|text| text.len() + piece.room()).sum();
            let (mut expected, mut room) = (Vec::new(), room);
            room += 2 * texts.len();
            let rendered = put(room, |out| {
                for text in &texts {
                    out.fixed(&piece);
                    out.text(text);
                    out.literal(b"\r\n");
                }
            });
            for text in &texts {
                expected.extend_from_slice(&fixed);
                expected.extend_from_slice(text);
                expected.extend_from_slice(b"\r\n");
            }
            prop_assert_eq!(rendered, expected);
        }
    }
}
