//! Replies as they stand on the wire. Keys have bytes here that no client of ours asks for, so our
//! parser of replies would not read them.

use super::commands::FAR_SECONDS;

/// One answer: its line without the end, and the value behind it, if it has one.
#[derive(Clone, Copy)]
pub(super) struct ReplyFlag<'a> {
    line: &'a [u8],
    value: Option<&'a [u8]>,
}

impl<'a> ReplyFlag<'a> {
    /// The first answer in `input`, if it is whole, and how many bytes it takes.
    pub(super) fn first(input: &'a [u8]) -> Option<(ReplyFlag<'a>, usize)> {
        let line_bytes = input.iter().position(|&byte| byte == b'\n')? + 1;
        let (line, rest) = input.split_at(line_bytes);
        let line = line.strip_suffix(b"\r\n").expect("a line ends in CR LF");
        let mut words = line.split(|&byte| byte == b' ');
        let length = match words.next() {
            Some(b"VALUE") => words.nth(2),
            Some(b"VA") => words.next(),
            _ => return Some((ReplyFlag { line, value: None }, line_bytes)),
        };
        let length = str::from_utf8(length.expect("a length")).unwrap();
        let data = rest.get(..length.parse::<usize>().unwrap() + 2)?;
        let value = data.strip_suffix(b"\r\n");
        assert!(value.is_some(), "a value ends in CR LF");
        Some((ReplyFlag { line, value }, line_bytes + data.len()))
    }

    /// What an `mn` is answered.
    pub(super) fn is_noop(&self) -> bool {
        self.line == b"MN"
    }

    /// The CAS number that a meta command tells.
    pub(super) fn cas(&self) -> Option<u64> {
        let line = self.line.escape_ascii().to_string();
        let cas = line.split(' ').find_map(|word| word.strip_prefix('c'));
        cas?.parse().ok()
    }

    /// All of it, but for what may differ.
    pub(super) fn masked(&self) -> String {
        let line = self.line.escape_ascii().to_string();
        let words: Vec<&str> = line.split(' ').collect();
        let shown = match words[..] {
            ["VERSION", ..] => "VERSION".into(),
            ["VALUE", key, flags, bytes, _] => format!("VALUE {key} {flags} {bytes} #"),
            ["HD" | "EN" | "NF" | "NS" | "EX" | "VA", ..] => joined(&words, masked_flag),
            ["ME", ..] => joined(&words, masked_field),
            _ => line,
        };
        match self.value {
            Some(value) => format!("{shown} {}", value.escape_ascii()),
            None => shown,
        }
    }
}

fn joined<'a>(words: &[&'a str], masked: impl Fn(&'a str) -> &'a str) -> String {
    let words: Vec<&str> = words.iter().copied().map(masked).collect();
    words.join(" ")
}

/// A word of a meta command's answer.
fn masked_flag(word: &str) -> &str {
    match word.split_at_checked(1) {
        Some(("c", number)) if number != "0" => "c#",
        Some(("t", seconds)) if is_far(seconds) => "t#",
        _ => word,
    }
}

/// A word of an `me`'s answer.
fn masked_field(word: &str) -> &str {
    match word.split_once('=') {
        Some(("cas", _)) => "cas=#",
        Some(("exp", seconds)) if is_far(seconds.trim_start_matches('-')) => "exp=#",
        _ => word,
    }
}

/// Whether these are the seconds to [`FAR_SECONDS`]: how many depends on the clocks.
fn is_far(seconds: &str) -> bool {
    seconds
        .parse()
        .is_ok_and(|seconds: u64| (FAR_SECONDS / 2..=FAR_SECONDS + 1).contains(&seconds))
}
