//! Where the value of a setting comes from, and what the setting is called there.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Where the value of a setting comes from; a later one wins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody has said anything.
    Default,
    /// The settings file, at a line.
    File(Arc<PathBuf>, usize),
    /// The environment: the variable.
    Environment(String),
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(file, line) => write!(f, "file {}:{line}", file.display()),
            Origin::Environment(variable) => write!(f, "environment {variable}"),
            Origin::Flag => f.write_str("flag"),
        }
    }
}

/// Where each setting comes from, by its flag without hyphens. One that is not here is as it is by default.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Origins(pub(super) BTreeMap<String, Origin>);

impl Origins {
    pub(super) fn of(&self, name: &str) -> Origin {
        self.0.get(name).cloned().unwrap_or(Origin::Default)
    }

    /// A message that names flags, with the names that the settings have where they come from: the variable, or
    /// the key in the file. The first of those in the file has its place in front of all.
    pub(in crate::cli) fn reword(&self, message: &str) -> String {
        let (mut reworded, mut place, mut rest) = (String::new(), None, message);
        while let Some((before, after)) = rest.split_once("--") {
            reworded += before;
            let is_of_name = |byte: char| byte.is_ascii_lowercase() || byte == '-';
            let end = after.find(|byte| !is_of_name(byte));
            let (name, behind) = after.split_at(end.unwrap_or(after.len()));
            rest = match self.0.get(name) {
                Some(Origin::Environment(variable)) => {
                    reworded += variable;
                    without_value_name(behind)
                }
                Some(Origin::File(file, line)) => {
                    reworded += name;
                    place.get_or_insert_with(|| format!("{}:{line}: ", file.display()));
                    without_value_name(behind)
                }
                Some(Origin::Default | Origin::Flag) | None => {
                    reworded += "--";
                    reworded += name;
                    behind
                }
            };
        }
        place.unwrap_or_default() + &reworded + rest
    }
}

/// What stands behind a flag, without ` <VALUE>` or `[=<VALUE>]`, which clap puts there.
fn without_value_name(text: &str) -> &str {
    for (open, close) in [(" <", ">"), ("[=<", ">]")] {
        if let Some((_, behind)) = text
            .strip_prefix(open)
            .and_then(|text| text.split_once(close))
        {
            return behind;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_called_as_they_are_where_they_come_from() {
        let file = Arc::new(PathBuf::from("/etc/p.toml"));
        let origins = Origins(BTreeMap::from([
            ("ttl".into(), Origin::File(file.clone(), 3)),
            ("drain".into(), Origin::File(file, 9)),
            (
                "listen".into(),
                Origin::Environment("PRESENCED_LISTEN".into()),
            ),
            ("workers".into(), Origin::Flag),
        ]));
        for (message, reworded) in [
            ("--ttl 5s: too short", "/etc/p.toml:3: ttl 5s: too short"),
            (
                "--listen :1 and --drain 5s and --ttl 3s",
                "/etc/p.toml:9: PRESENCED_LISTEN :1 and drain 5s and ttl 3s",
            ),
            (
                "invalid value 'x' for '--listen <ADDR:PORT>': no",
                "invalid value 'x' for 'PRESENCED_LISTEN': no",
            ),
            (
                "'--drain[=<true|false>]' and '--workers <N>'",
                "/etc/p.toml:9: 'drain' and '--workers <N>'",
            ),
            (
                "--workers 0, --admin, --ttl-x, --",
                "--workers 0, --admin, --ttl-x, --",
            ),
            ("", ""),
        ] {
            assert_eq!(origins.reword(message), reworded, "{message}");
        }
    }
}
