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

/// The first line of `input`, its `\n` included, if that is at most `bytes_max` long.
///
/// Looks at no more than `bytes_max` bytes, so the answer does not depend on how much has come in.
pub(crate) fn first(input: &[u8], bytes_max: usize) -> Line<'_> {
    let window = &input[..input.len().min(bytes_max)];
    match memchr(b'\n', window) {
        Some(at) => Line::Whole(&input[..=at]),
        None if window.len() == bytes_max => Line::TooLong,
        None => Line::Incomplete,
    }
}

/// `line` without the `\n` it ends in, nor one `\r` before that.
pub(crate) fn trimmed(line: &[u8]) -> &[u8] {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    text.strip_suffix(b"\r").unwrap_or(text)
}

/// The words of a request line: what stands between spaces. Nothing but a space parts words.
#[derive(Clone, Debug)]
pub(crate) struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Words<'a> {
        Words { rest: text }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.rest.iter().position(|&byte| byte != b' ')?;
        let text = &self.rest[start..];
        let end = text
            .iter()
            .position(|&byte| byte == b' ')
            .unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        self.rest = rest;
        Some(word)
    }
}
