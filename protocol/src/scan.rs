//! Cutting lines and words out of input.

use memchr::memchr;

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
/// Eight at a time: this is where the parsing of a `VALUE` and of a `get` spends its time.
#[inline]
pub(crate) fn word_bytes(bytes: &[u8]) -> usize {
    let (eights, rest) = bytes.as_chunks::<8>();
    for (count, eight) in eights.iter().enumerate() {
        let ends = word_ends(u64::from_le_bytes(*eight));
        if ends != 0 {
            return count * 8 + ends.trailing_zeros() as usize / 8;
        }
    }
    let whole = eights.len() * 8;
    let end = rest.iter().position(|&byte| ends_word(byte));
    whole + end.unwrap_or(rest.len())
}

/// Marks the bytes that end a word by their highest bit. What stands above the lowest mark may be
/// marked wrongly: a subtraction borrows from the byte above it.
#[inline]
fn word_ends(eight: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    let below_0x21 = eight.wrapping_sub(ONES * 0x21) & !eight;
    let others = eight ^ (ONES * 0x7f);
    let del = others.wrapping_sub(ONES) & !others;
    (below_0x21 | del) & HIGHS
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
        let mut end = word_bytes(text);
        // A control byte does not end a word, it only makes it a bad key.
        while end < text.len() && text[end] != b' ' {
            end += 1;
        }
        let (word, rest) = text.split_at(end);
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
