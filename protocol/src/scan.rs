//! Cutting lines and words out of input.

use memchr::{memchr, memrchr};

/// What stands at the start of the input.
pub(crate) enum Line<'a> {
    /// No newline yet, and there may still come one within the limit.
    Incomplete,
    /// No newline within the limit, whatever comes.
    TooLong,
    /// A line with its end.
    Whole(&'a [u8]),
}

/// The first line of `input`, its `\n` included, if that is at most `bytes_max` long. The first
/// `seen` bytes are known to hold no newline.
///
/// Looks at no more than `bytes_max` bytes, so the answer does not depend on how much has come in.
pub(crate) fn first_line(input: &[u8], seen: usize, bytes_max: usize) -> Line<'_> {
    let window = &input[..input.len().min(bytes_max)];
    let seen = seen.min(window.len());
    match memchr(b'\n', &window[seen..]) {
        Some(at) => Line::Whole(&input[..=seen + at]),
        None if window.len() == bytes_max => Line::TooLong,
        None => Line::Incomplete,
    }
}

/// `line` without the `\n` it ends in, nor one `\r` before that.
pub(crate) fn trimmed(line: &[u8]) -> &[u8] {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    text.strip_suffix(b"\r").unwrap_or(text)
}

/// Whether a key or a token may not hold this byte: a space, a control byte or DEL.
pub(crate) fn ends_word(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7f
}

/// How many bytes at the start of `bytes` a key or a token may hold; what comes next ends the word.
///
/// This is where the parsing of a `VALUE` spends its time.
#[inline]
pub(crate) fn word_bytes(bytes: &[u8]) -> usize {
    let ends = |eight: u64| {
        let below_0x21 = eight.wrapping_sub(ONES * 0x21) & !eight;
        (below_0x21 | zeros(eight ^ (ONES * 0x7f))) & HIGHS
    };
    bytes_before(bytes, ends, ends_word)
}

/// How many bytes there are before the first space.
#[inline]
pub(crate) fn bytes_to_space(bytes: &[u8]) -> usize {
    let spaces = |eight: u64| zeros(eight ^ (ONES * u64::from(b' '))) & HIGHS;
    bytes_before(bytes, spaces, |byte| byte == b' ')
}

/// How many bytes there are before the first that is looked for.
///
/// `marks` marks those among eight by their highest bit. What stands above the lowest mark may be
/// marked wrongly: a subtraction borrows from the byte above it.
#[inline]
fn bytes_before(bytes: &[u8], marks: impl Fn(u64) -> u64, is_one: impl Fn(u8) -> bool) -> usize {
    let (eights, rest) = bytes.as_chunks::<8>();
    for (count, eight) in eights.iter().enumerate() {
        let marks = marks(u64::from_le_bytes(*eight));
        if marks != 0 {
            return count * 8 + marks.trailing_zeros() as usize / 8;
        }
    }
    let end = rest.iter().position(|&byte| is_one(byte));
    eights.len() * 8 + end.unwrap_or(rest.len())
}

/// Which of the first 64 bytes are spaces, the first byte being bit 0.
#[inline]
pub(crate) fn spaces(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(block) => spaces_of(block),
        None => {
            let mut block = [0; 64];
            block[..bytes.len()].copy_from_slice(bytes);
            spaces_of(&block)
        }
    }
}

/// Each space is one bit of its eight bytes, and the sum of the eight gathers them: compiled, that is
/// a handful of vector instructions, which shifting each bit to its place is not.
#[inline]
fn spaces_of(block: &[u8; 64]) -> u64 {
    let mut bits = [0_u8; 64];
    for (at, byte) in block.iter().enumerate() {
        bits[at] = if *byte == b' ' { 1 << (at % 8) } else { 0 };
    }
    let (eights, _) = bits.as_chunks::<8>();
    let mut gathered = [0_u8; 8];
    for (sum, eight) in gathered.iter_mut().zip(eights) {
        *sum = eight.iter().sum();
    }
    u64::from_le_bytes(gathered)
}

/// Marks the bytes that are zero.
#[inline]
fn zeros(eight: u64) -> u64 {
    eight.wrapping_sub(ONES) & !eight
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);

/// Whether no more than `bytes_max` bytes stand together without a space. Goes by leaps, from a
/// space to the last within reach of it.
pub(crate) fn has_spaces_within(text: &[u8], bytes_max: usize) -> bool {
    let mut rest = text;
    while rest.len() > bytes_max {
        match memrchr(b' ', &rest[..=bytes_max]) {
            Some(at) => rest = &rest[at + 1..],
            None => return false,
        }
    }
    true
}

/// Where `part`, a piece of `whole`, begins in it.
pub(crate) fn offset(part: &[u8], whole: &[u8]) -> usize {
    let at = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    at.min(whole.len())
}

/// The words of a request line: what stands between spaces. Nothing but a space parts words.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Words<'a> {
        Words { rest: text }
    }

    /// What is left of the line.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let mut text = self.rest;
        while let [b' ', rest @ ..] = text {
            text = rest;
        }
        let (word, rest) = text.split_at(bytes_to_space(text));
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_byte_ends_a_word_or_does_not_at_each_place() {
        for byte in 0..=255_u8 {
            for place in 0..20 {
                let mut bytes = [b'k'; 20];
                bytes[place] = byte;
                let end = if ends_word(byte) { place } else { bytes.len() };
                assert_eq!(word_bytes(&bytes), end, "{byte:#04x} at {place}");
            }
        }
    }

    #[test]
    fn a_line_is_found_from_wherever_was_looked_to() {
        let input = b"version\r\nquit\r\n";
        for seen in 0..=8 {
            for bytes_max in 9..20 {
                let line = first_line(input, seen, bytes_max);
                assert!(
                    matches!(line, Line::Whole(b"version\r\n")),
                    "{seen} {bytes_max}"
                );
            }
            assert!(matches!(first_line(input, seen, 8), Line::TooLong));
            assert!(matches!(first_line(&input[..8], seen, 9), Line::Incomplete));
        }
    }

    proptest! {
        #[test]
        fn words_end_where_a_plain_look_says(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let plain = bytes.iter().position(|&byte| ends_word(byte)).unwrap_or(bytes.len());
            prop_assert_eq!(word_bytes(&bytes), plain);
            let plain = bytes.iter().position(|&byte| byte == b' ').unwrap_or(bytes.len());
            prop_assert_eq!(bytes_to_space(&bytes), plain);
        }

        #[test]
        fn spaces_are_marked_where_they_are(bytes in prop::collection::vec(prop_oneof![Just(b' '), any::<u8>()], 0..90)) {
            let plain = bytes.iter().take(64).rev().fold(0, |marks, &byte| marks << 1 | u64::from(byte == b' '));
            prop_assert_eq!(spaces(&bytes), plain);
        }

        #[test]
        fn long_words_are_seen_by_leaps(
            words in prop::collection::vec(0_usize..9, 0..20),
            bytes_max in 1_usize..9,
        ) {
            let text: Vec<u8> = words.iter().flat_map(|&bytes| [&b"wwwwwwwww"[..bytes], b" "].concat()).collect();
            let plain = words.iter().all(|&bytes| bytes <= bytes_max);
            prop_assert_eq!(has_spaces_within(&text, bytes_max), plain);
        }

        #[test]
        fn words_stand_between_spaces(bytes in prop::collection::vec(prop::sample::select(b"ab \t\x7f".to_vec()), 0..40)) {
            let plain = bytes.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
            let words: Vec<_> = Words::new(&bytes).collect();
            prop_assert!(words.iter().copied().eq(plain));
            prop_assert!(words.iter().all(|word| bytes[offset(word, &bytes)..].starts_with(word)));
        }
    }
}
