//! Settings in a TOML file: each is a key with the name of its flag.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use presenced_memcached::settings_file::read_again;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::nearest::nearest;
use super::key::{Key, Kind};
use crate::limits::SETTINGS_FILE_BYTES_MAX;

/// The key that names the file itself.
const CONFIG: &str = "config";

/// The tables `[[issuer]]`, which are reserved.
const ISSUER: &str = "issuer";

/// What a file says. What is no flag has a field of its own, is read in [`parse`], and goes where the secret goes:
/// into the flags, once clap has made them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// Settings by the names of their flags.
    pub(super) settings: BTreeMap<String, Said>,
}

/// What the file says of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// As flags would have them, one after another.
    pub(super) values: Vec<String>,
    pub(super) line: usize,
}

/// The text of a settings file. It is read again when the settings are, so it has to be a regular file.
///
/// # Errors
///
/// For people: why it can't be read.
pub(super) fn text_of(file: &Path) -> Result<String, String> {
    read_again(file, SETTINGS_FILE_BYTES_MAX)
}

/// What the text of a file says, where the settings are those that have `keys`.
///
/// # Errors
///
/// For people: the line, and what is wrong there.
pub(super) fn parse(text: &str, keys: &[Key]) -> Result<Contents, (usize, String)> {
    // Windows' editors like to begin with a byte order mark.
    let text = Text(text.strip_prefix('\u{feff}').unwrap_or(text));
    let table = DeTable::parse(text.0).map_err(|error| {
        let at = error.span().unwrap_or_default();
        (text.line(&at), format!("no TOML: {}", error.message()))
    })?;
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    let mut contents = Contents::default();
    for (name, value) in entries {
        let line = text.line(&name.span());
        let values = text.entry(name.get_ref(), value, keys);
        let values = values.map_err(|why| (line, why))?;
        let said = Said { values, line };
        contents.settings.insert(name.get_ref().to_string(), said);
    }
    Ok(contents)
}

struct Text<'t>(&'t str);

impl Text<'_> {
    /// The line of a place, counted from 1.
    fn line(&self, place: &Range<usize>) -> usize {
        let before = self.0.as_bytes().get(..place.start).unwrap_or_default();
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// A value as it is written, its first line.
    fn written(&self, value: &Spanned<DeValue<'_>>) -> &str {
        let text = self.0.get(value.span()).unwrap_or_default();
        text.lines().next().unwrap_or_default()
    }

    /// The values of the setting that is called `name`.
    fn entry(
        &self,
        name: &str,
        value: &Spanned<DeValue<'_>>,
        keys: &[Key],
    ) -> Result<Vec<String>, String> {
        let is_named = |key: &&Key| key.name == name && name != CONFIG;
        let key = keys
            .iter()
            .find(is_named)
            .ok_or_else(|| unknown(name, keys))?;
        let refused = |value: &Spanned<DeValue<'_>>, rule: &str| {
            format!("invalid value {} for '{name}': {rule}", self.written(value))
        };
        let text_of = |value: &Spanned<DeValue<'_>>| {
            let text = scalar(value.get_ref(), key.kind);
            text.map_err(|rule| refused(value, rule))
        };
        match value.get_ref() {
            DeValue::Array(values) if key.repeats && values.is_empty() => {
                Err(refused(value, "leave the key out instead"))
            }
            DeValue::Array(values) if key.repeats => values.iter().map(text_of).collect(),
            _ => Ok(vec![text_of(value)?]),
        }
    }
}

/// A value as a flag would have it; an error says what it should be. What a text must be is the flag's to say,
/// so a number is handed on to it: it knows that a duration lacks its unit.
fn scalar(value: &DeValue<'_>, kind: Kind) -> Result<String, &'static str> {
    match (kind, value) {
        (Kind::Switch, DeValue::Boolean(on)) => Ok(on.to_string()),
        (Kind::Switch, _) => Err("must be true or false, without quotes"),
        (Kind::Number | Kind::Text, DeValue::Integer(number)) => {
            let parsed = i128::from_str_radix(number.as_str(), number.radix());
            parsed.map(|number| number.to_string()).map_err(|_| NUMBER)
        }
        (Kind::Number, _) => Err(NUMBER),
        (Kind::Text | Kind::Path, DeValue::String(text)) => match text.contains('\0') {
            true => Err("has a NUL character"),
            false => Ok(text.to_string()),
        },
        (Kind::Text | Kind::Path, DeValue::Array(_)) => {
            Err("must be one string, in quotes, and no array")
        }
        (Kind::Text | Kind::Path, _) => Err("must be a string, in quotes"),
    }
}

const NUMBER: &str = "must be an integer, without quotes";

/// What is wrong with a key that no setting has.
fn unknown(name: &str, keys: &[Key]) -> String {
    match name.replace('_', "-").as_str() {
        CONFIG => return "a settings file can't name another: 'config' is a flag only".into(),
        ISSUER => return "'issuer' is reserved; the issuer of tokens is jwt-issuer".into(),
        "jwt-secret" => {
            return "a secret does not belong into a settings file: name its own file with \
                    jwt-secret-file, or set PRESENCED_JWT_SECRET"
                .into();
        }
        _ => {}
    }
    let known = keys.iter().map(|key| key.name.as_str());
    let known = known.filter(|known| *known != CONFIG);
    let meant =
        nearest(&name.to_lowercase(), known).map(|meant| format!("; did you mean '{meant}'?"));
    // A key in quotes may have anything in it.
    let shown: String = name.escape_debug().take(NAME_CHARS_SHOWN).collect();
    format!("unknown key '{shown}'{}", meant.unwrap_or_default())
}

/// More of an unknown key helps nobody.
const NAME_CHARS_SHOWN: usize = 80;
