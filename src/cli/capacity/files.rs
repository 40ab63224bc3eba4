//! Small files of the kernel's.

use std::fs;
use std::path::Path;

/// What a file has, if it is there.
pub(super) fn text(file: &Path) -> Option<String> {
    fs::read_to_string(file).ok()
}

/// The lines of a file; none if it is not there.
pub(super) fn lines(file: &Path) -> Vec<String> {
    let text = text(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The first word of a file, if that is a number.
pub(super) fn number(file: &Path) -> Option<u64> {
    text(file)?.split_whitespace().next()?.parse().ok()
}

/// The number behind `name` or `name:` in a file of such lines, in bytes if it is in kB.
pub(super) fn field(file: &Path, name: &str) -> Option<u64> {
    lines(file).into_iter().find_map(|line| {
        let mut words = line.split_whitespace();
        let found = words.next()?;
        if found.strip_suffix(':').unwrap_or(found) != name {
            return None;
        }
        let number: u64 = words.next()?.parse().ok()?;
        let unit = if words.next() == Some("kB") { 1024 } else { 1 };
        Some(number * unit)
    })
}
