//! Tables `[[issuer]]` of the settings file. What each says is a command line of its own, which clap judges by the
//! rules of those flags that are about one issuer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{CommandFactory, FromArgMatches, Parser};

use super::super::IssuerTable;
use super::super::flags::IssuerFlags;
use super::key::{Key, keys, with_switches, without_environment};
use super::origin::{Origin, Origins};
use super::{Entry, Given, command_line, entries, file, of_file, reworded};

/// A table, as the file has it.
#[derive(Clone, Debug)]
pub struct Table {
    /// Where it begins.
    pub origin: Origin,
    /// Each key that it may have with its values, in the order of the help.
    pub entries: Vec<Entry>,
}

#[derive(Debug, Parser)]
#[command(name = "presenced")]
struct Line {
    #[command(flatten)]
    flags: IssuerFlags,
}

/// The keys that a table may have.
pub fn issuer_keys() -> Vec<Key> {
    let mut command = with_switches(Line::command());
    command.build();
    keys(&command)
}

/// What a table of `file` says; an error is one of the command that is `asked`.
pub(super) fn read(
    table: file::Table,
    file: &Arc<PathBuf>,
    asked: &mut clap::Command,
) -> Result<(IssuerTable, Table), clap::Error> {
    let (keys, origin) = (issuer_keys(), Origin::File(file.clone(), table.line));
    let given: BTreeMap<String, Given> = of_file(table.settings, file).collect();
    let said = given.iter();
    let said = Origins(
        said.map(|(name, given)| (name.clone(), given.origin.clone()))
            .collect(),
    );
    let origins = keys.iter().map(|key| match said.of(&key.name) {
        Origin::Default => (key.name.clone(), origin.clone()),
        said => (key.name.clone(), said),
    });
    let origins = Origins(origins.collect());
    let line = command_line(&keys, &given, "");
    let command = without_environment(with_switches(Line::command()));
    let matches = command.try_get_matches_from(line);
    let matches = matches.map_err(|error| reworded(error, &origins, asked))?;
    let entries = entries(&keys, &matches, &said);
    let flags = Line::from_arg_matches(&matches)?.flags;
    Ok((IssuerTable { flags, origins }, Table { origin, entries }))
}
