//! Settings in a TOML file: each is a key with the name of its flag.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use presenced_memcached::settings_file::read_again;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::super::nearest::nearest;
use super::key::{Key, Kind};
use crate::limits::{ISSUERS_MAX, SETTINGS_FILE_BYTES_MAX};

/// The key that names the file itself.
const CONFIG: &str = "config";

/// The tables `[[issuer]]`.
const ISSUER: &str = "issuer";

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// Settings by the names of their flags.
    pub(super) settings: Settings,
    /// The tables `[[issuer]]`, in their order.
    pub(super) issuers: Vec<Table>,
}

type Settings = BTreeMap<String, Said>;

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) settings: Settings,
    /// Where it begins.
    pub(super) line: usize,
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

/// What the text of a file says, where the settings are those that have `keys`, and those of an issuer's table those
/// that have `issuer_keys`.
///
/// # Errors
///
/// For people: the line, and what is wrong there.
pub(super) fn parse(
    text: &str,
    keys: &[Key],
    issuer_keys: &[Key],
) -> Result<Contents, (usize, String)> {
    // Windows' editors like to begin with a byte order mark.
    let text = Text(text.strip_prefix('\u{feff}').unwrap_or(text));
    let table = DeTable::parse(text.0).map_err(|error| {
        let at = error.span().unwrap_or_default();
        (text.line(&at), format!("no TOML: {}", error.message()))
    })?;
    let mut contents = Contents::default();
    for (name, value) in in_order(table.get_ref()) {
        match &**name.get_ref() {
            ISSUER => contents.issuers = text.tables(value, keys, issuer_keys)?,
            known => {
                let said = text.said(name, value, keys, unknown)?;
                contents.settings.insert(known.to_owned(), said);
            }
        }
    }
    Ok(contents)
}

/// The keys and values of a table, as they stand in the file.
fn in_order<'t, 'i>(
    table: &'t DeTable<'i>,
) -> Vec<(&'t Spanned<DeString<'i>>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
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

    /// The tables of issuers, whose keys are `issuer_keys`; all others have `keys`.
    fn tables(
        &self,
        value: &Spanned<DeValue<'_>>,
        keys: &[Key],
        issuer_keys: &[Key],
    ) -> Result<Vec<Table>, (usize, String)> {
        const FORM: &str = "'issuer' is for tables, which begin with [[issuer]]; the issuer of the settings \
                            outside of tables is jwt-issuer";
        let refused = |at: &Spanned<DeValue<'_>>, why: String| Err((self.line(&at.span()), why));
        let DeValue::Array(tables) = value.get_ref() else {
            return refused(value, FORM.into());
        };
        if tables.len() > ISSUERS_MAX {
            return refused(value, format!("more than {ISSUERS_MAX} tables [[issuer]]"));
        }
        let unknown = |name: &str, issuer_keys: &[Key]| unknown_of_issuer(name, keys, issuer_keys);
        let mut read = Vec::with_capacity(tables.len());
        for table in tables.iter() {
            let DeValue::Table(entries) = table.get_ref() else {
                return refused(table, FORM.into());
            };
            let mut settings = Settings::new();
            for (name, value) in in_order(entries) {
                let said = self.said(name, value, issuer_keys, unknown)?;
                settings.insert(name.get_ref().to_string(), said);
            }
            read.push(Table {
                settings,
                line: self.line(&table.span()),
            });
        }
        Ok(read)
    }

    /// What is said of a setting; `unknown` says what is wrong with a key that is none of `keys`.
    fn said(
        &self,
        name: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
        keys: &[Key],
        unknown: impl Fn(&str, &[Key]) -> String,
    ) -> Result<Said, (usize, String)> {
        let line = self.line(&name.span());
        let name: &str = name.get_ref();
        let mut known = keys.iter();
        let values = match known.find(|key| key.name == name && name != CONFIG) {
            Some(key) => self.values(key, value),
            None => Err(unknown(name, keys)),
        };
        let values = values.map_err(|why| (line, why))?;
        Ok(Said { values, line })
    }

    /// The values of a setting.
    fn values(&self, key: &Key, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, String> {
        let name = &key.name;
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
        SECRET => {
            return format!(
                "{NO_SECRETS} name its own file with jwt-secret-file, or set PRESENCED_JWT_SECRET"
            );
        }
        _ => {}
    }
    let known = keys.iter().map(|key| key.name.as_str());
    let known = known.filter(|known| *known != CONFIG).chain([ISSUER]);
    unknown_among(name, known)
}

/// The same in a table of an issuer: `others` are the keys that belong above all tables.
fn unknown_of_issuer(name: &str, others: &[Key], keys: &[Key]) -> String {
    if name.replace('_', "-") == SECRET {
        return format!("{NO_SECRETS} name its own file with jwt-secret-file");
    }
    if others.iter().any(|key| key.name == name && name != CONFIG) {
        return format!(
            "'{name}' is no setting of one issuer: it belongs above the first [[issuer]]"
        );
    }
    unknown_among(name, keys.iter().map(|key| key.name.as_str()))
}

/// What people would like to write, and must not.
const SECRET: &str = "jwt-secret";
const NO_SECRETS: &str = "a secret does not belong into a settings file:";

fn unknown_among<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> String {
    let meant = nearest(&name.to_lowercase(), known);
    let meant = meant.map(|meant| format!("; did you mean '{meant}'?"));
    // A key in quotes may have anything in it.
    let shown: String = name.escape_debug().take(NAME_CHARS_SHOWN).collect();
    format!("unknown key '{shown}'{}", meant.unwrap_or_default())
}

/// More of an unknown key helps nobody.
const NAME_CHARS_SHOWN: usize = 80;
