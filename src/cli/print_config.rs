//! `presenced print-config`: what the server would run with, as a settings file.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::ffi::OsStr;
use std::fmt::Write;

use super::sources::key::Kind;
use super::sources::origin::Origin;
use super::sources::{Entry, Settings};

/// The text of a settings file that says what these settings are, and where each comes from. What has no value,
/// or has one that can't be in a file, is a comment. A path that is not UTF-8 can't.
pub fn print(settings: &Settings) -> String {
    let mut text = String::from("# What presenced would run with, and where it comes from.\n");
    if settings.flags.tokens.issuer.jwt_secret.is_some() {
        text += "# jwt-secret: not shown # environment PRESENCED_JWT_SECRET\n";
    }
    add(&mut text, &settings.entries);
    for table in &settings.tables {
        let _ = writeln!(text, "\n[[issuer]] # {}", table.origin);
        add(&mut text, &table.entries);
    }
    text
}

/// A line for each setting.
fn add(text: &mut String, entries: &[Entry]) {
    for entry in entries.iter().filter(|entry| entry.key.name != "config") {
        let (name, origin) = (&entry.key.name, &entry.origin);
        let _ = match (value(entry), other(entry, entries)) {
            (None, _) if *origin != Origin::Default => {
                writeln!(text, "# {name} is no text that could be here # {origin}")
            }
            (None, _) => match &entry.key.otherwise {
                Some(otherwise) => writeln!(text, "# {name} is not set: {otherwise}"),
                None => writeln!(text, "# {name} is not set"),
            },
            (Some(value), Some(other)) => {
                writeln!(text, "# {name} = {value} # {origin}; not beside {other}")
            }
            (Some(value), None) => writeln!(text, "{name} = {value} # {origin}"),
        };
    }
}

/// What is set, and does not go with this one, which is not: if both were in a file, it would be refused.
fn other<'e>(entry: &Entry, entries: &'e [Entry]) -> Option<&'e str> {
    let excludes = |other: &&Entry| {
        other.origin != Origin::Default && entry.key.excludes.contains(&other.key.name)
    };
    let other = entries.iter().find(excludes)?;
    (entry.origin == Origin::Default).then_some(&other.key.name)
}

/// The value in TOML; `None` if there is none, or none that TOML could have.
fn value(entry: &Entry) -> Option<String> {
    let values = entry.values.iter();
    let values = values.map(|value| scalar(value, entry.key.kind));
    let values: Vec<_> = values.collect::<Option<_>>()?;
    match entry.key.repeats {
        _ if values.is_empty() => None,
        true => Some(format!("[{}]", values.join(", "))),
        false => values.into_iter().last(),
    }
}

fn scalar(value: &OsStr, kind: Kind) -> Option<String> {
    let value = value.to_str()?;
    match kind {
        Kind::Switch => Some(value.to_owned()),
        // TOML allows neither a zero in front nor, in some places, a sign.
        Kind::Number => value.parse::<i128>().ok().map(|number| number.to_string()),
        Kind::Text | Kind::Path => Some(string(value)),
    }
}

/// A basic string of TOML.
fn string(text: &str) -> String {
    let mut string = String::from('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => string.extend(['\\', char]),
            char if char.is_control() => {
                let _ = write!(string, "\\u{:04X}", u32::from(char));
            }
            char => string.push(char),
        }
    }
    string + "\""
}
