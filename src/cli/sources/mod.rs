//! Where settings come from: flags, then the environment, then the file, then the defaults.
//!
//! clap alone knows the rules. What each source says becomes a command line, `--ttl=60s`, which clap parses as
//! if somebody had typed all of it: so values of every source are checked alike, and so are flags that can't be
//! used together, wherever each comes from. Then its words are turned into those of the source (`Origins::reword`).
//!
//! - [`key`]: the settings that there are.
//! - `environment`, `file`: what these say.
//! - [`origin`]: where a value comes from.
//! - [`table`]: tables of the file, each of which is a command line of its own.
//!
//! Nothing is logged here, and nothing is started: settings can be read as often as one likes.

mod environment;
mod file;
pub mod key;
pub mod origin;
pub mod table;

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, ValueEnum};

use self::environment::{Environment, SECRET};
use self::key::{Key, Kind, keys, with_switches, without_environment};
use self::origin::{Origin, Origins};
use self::table::{Table, issuer_keys};
use super::capacity::CapacityRequest;
use super::command_line::{CapacityCommand, Command, CommandLine, TokenCommand};
use super::nearest::nearest;
use super::store::StoreFlags;
use super::token::TokenRequest;
use super::{Flags, Notice, SettingsError, hyphens};
use crate::log::LogFormat;
use crate::server::Config;

/// What a process is asked to do.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What it is to do.
    pub what: What,
    /// The settings to do it with.
    pub settings: Settings,
}

/// See [`Command`].
#[derive(Clone, Debug)]
pub enum What {
    /// To run the server.
    Serve,
    /// To check what the server would run with.
    Check,
    /// To say how many sessions this host holds.
    Capacity(CapacityRequest),
    /// To print what the server would run with.
    PrintConfig,
    /// To print a token.
    Token(TokenRequest),
    /// To check a token.
    CheckToken,
    /// To run the store alone.
    Store(StoreFlags),
}

/// Settings, each right by itself, and where they come from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What they say. For the store alone, only those of the log count.
    pub flags: Flags,
    /// Each setting with its values, in the order of the help.
    pub entries: Vec<Entry>,
    /// The file's tables `[[issuer]]`, in their order.
    pub tables: Vec<Table>,
    /// What the operator should know of them.
    pub notices: Vec<Notice>,
    origins: Origins,
    /// Whose settings they are.
    command: clap::Command,
}

/// A setting, and what it is set to.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which.
    pub key: Key,
    /// As they would be on the command line; none if it is not set and has no default.
    pub values: Vec<OsString>,
    /// Where they come from.
    pub origin: Origin,
}

/// Settings that can't work.
#[derive(Debug)]
pub struct Refused {
    /// What to say, and the status to end with. It may also be a text that was asked for, such as help.
    pub error: clap::Error,
    /// The form in which to say it, as far as that is known.
    pub log_format: LogFormat,
}

/// What a check of settings has found.
#[derive(Debug)]
pub struct Checked {
    /// What the server runs with, or why it can't.
    pub config: Result<Config, clap::Error>,
    /// What the operator should know in either case.
    pub notices: Vec<Notice>,
}

impl Asked {
    /// What this process is asked to do, by its command line, its environment and its settings file.
    ///
    /// # Errors
    ///
    /// Settings that can't work, and what asks for a text only, such as `--help`.
    pub fn of_process() -> Result<Asked, Refused> {
        Asked::read(env::args_os(), env::vars_os(), file::text_of)
    }

    /// The same by any `args`, the name of the program first, any `environment`, and a settings file that
    /// `read_file` has the text of.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn read(
        args: impl IntoIterator<Item = OsString>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        read_file: impl Fn(&Path) -> Result<String, String>,
    ) -> Result<Asked, Refused> {
        let args: Vec<_> = args.into_iter().collect();
        let environment = Environment::new(environment);
        let mut reader = Reader {
            log_format: log_format(&args, &environment),
            environment,
            read_file,
        };
        reader.read(args).map_err(|error| Refused {
            error,
            log_format: reader.log_format,
        })
    }
}

impl Settings {
    /// Each setting with its values, those of tables last.
    pub fn all_entries(&self) -> impl Iterator<Item = &Entry> {
        let of_tables = self.tables.iter().flat_map(|table| &table.entries);
        self.entries.iter().chain(of_tables)
    }

    /// Checks the settings of the server against each other and the machine.
    pub fn check(self) -> Checked {
        let (mut notices, mut found) = (self.notices.clone(), Vec::new());
        let config = self.flags.clone().check_noting(&mut found);
        let reword = |notice: Notice| notice.map(|text| self.origins.reword(text));
        notices.extend(found.into_iter().map(reword));
        Checked {
            config: config.map_err(|why| self.refuse(&why)),
            notices,
        }
    }

    /// The error to end with, of what a check of these settings says.
    pub fn refuse(&self, why: &SettingsError) -> clap::Error {
        refusal(&mut self.command.clone(), &self.origins.reword(&why.0))
    }
}

/// The error of settings that can't work: what is wrong, and how to use them.
fn refusal(command: &mut clap::Command, message: &str) -> clap::Error {
    command.error(ErrorKind::ValueValidation, message)
}

/// A setting as a source has it.
struct Given {
    values: Vec<OsString>,
    origin: Origin,
}

struct Reader<F> {
    environment: Environment,
    read_file: F,
    log_format: LogFormat,
}

impl<F: Fn(&Path) -> Result<String, String>> Reader<F> {
    fn read(&mut self, args: Vec<OsString>) -> Result<Asked, clap::Error> {
        let plain = CommandLine::command();
        let args = hyphens::joined(args, &plain);
        // One for the help, which shows variables and what they are set to, and one that does not look at them.
        let mut shown = with_switches(plain);
        let mut command = without_environment(shown.clone());
        command.build();
        let typed = command.try_get_matches_from_mut(&args);
        let typed = typed.map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp => shown.try_get_matches_from_mut(&args).err().unwrap_or(error),
            _ => with_words(error, &mut command),
        })?;
        shown.build();
        let (name, typed) = typed.subcommand().unwrap_or(("", &typed));
        let mut asked = command.find_subcommand(name).unwrap_or(&command).clone();
        let keys = keys(shown.find_subcommand(name).unwrap_or(&shown));

        let (given, tables) = self.given(&keys, typed, &mut asked)?;
        let origins = given.iter();
        let origins = origins.map(|(name, given)| (name.clone(), given.origin.clone()));
        let origins = Origins(origins.collect());
        let mut line = command_line(&keys, &given, name);
        line.extend(no_settings(typed, &keys, &asked));
        let matches = command.try_get_matches_from_mut(line);
        let matches = matches.map_err(|error| reworded(error, &origins, &mut asked))?;
        let entries = match matches.subcommand() {
            Some((_, matches)) => entries(&keys, matches, &origins),
            None => entries(&keys, &matches, &origins),
        };
        let line = CommandLine::from_arg_matches(&matches)?;
        let (what, mut flags) = match line.command {
            None => (What::Serve, line.flags),
            Some(Command::Check(flags)) => (What::Check, *flags),
            Some(Command::PrintConfig(flags)) => (What::PrintConfig, *flags),
            Some(Command::CheckToken(flags)) => (What::CheckToken, *flags),
            Some(Command::Capacity(command)) => {
                let CapacityCommand { request, flags } = *command;
                (What::Capacity(request), flags)
            }
            Some(Command::Token(command)) => {
                let TokenCommand { request, flags } = *command;
                (What::Token(request), flags)
            }
            Some(Command::Store(store)) => (What::Store(store), line.flags),
        };
        flags.tokens.issuer.jwt_secret = self.environment.get(SECRET).map(Into::into);
        let tables = tables.into_iter();
        let tables = tables.map(|(file, table)| table::read(table, &file, &mut asked));
        let tables: Vec<_> = tables.collect::<Result<_, _>>()?;
        let (issuers, tables) = tables.into_iter().unzip();
        flags.issuers = issuers;
        let settings = Settings {
            flags,
            entries,
            tables,
            notices: self.environment.strangers(&variables(&shown)),
            origins,
            command: asked,
        };
        Ok(Asked { what, settings })
    }

    /// What the sources say of the settings that have `keys`: of each the first that says anything. And the tables of
    /// the file.
    fn given(
        &mut self,
        keys: &[Key],
        typed: &ArgMatches,
        command: &mut clap::Command,
    ) -> Result<(BTreeMap<String, Given>, Vec<FileTable>), clap::Error> {
        let mut given = BTreeMap::new();
        for key in keys {
            let is_typed = typed.value_source(&key.id) == Some(ValueSource::CommandLine);
            let found = match self.environment.get(&key.variable) {
                _ if is_typed => Given {
                    values: raw(typed, key),
                    origin: Origin::Flag,
                },
                Some(value) if key.kind != Kind::Path && value.to_str().is_none() => {
                    let why = format!("{} {value:?}: is not UTF-8", key.variable);
                    return Err(refusal(command, &why));
                }
                Some(value) => Given {
                    values: vec![value.to_owned()],
                    origin: Origin::Environment(key.variable.clone()),
                },
                None => continue,
            };
            given.insert(key.name.clone(), found);
        }
        let Some(config) = given.get("config").and_then(|given| given.values.first()) else {
            return Ok((given, Vec::new()));
        };
        let file = Arc::new(PathBuf::from(config));
        let text = (self.read_file)(&file).map_err(|why| {
            let names = given
                .iter()
                .map(|(name, given)| (name.clone(), given.origin.clone()));
            let why = format!("--config {}: {why}", file.display());
            refusal(command, &Origins(names.collect()).reword(&why))
        })?;
        let contents = file::parse(&text, keys, &issuer_keys()).map_err(|(line, why)| {
            refusal(command, &format!("{}:{line}: {why}", file.display()))
        })?;
        for (name, said) in of_file(contents.settings, &file) {
            given.entry(name).or_insert(said);
        }
        let format = given
            .get("log-format")
            .and_then(|given| given.values.last());
        self.log_format = format
            .and_then(|format| form(format))
            .unwrap_or(self.log_format);
        let tables = contents.issuers.into_iter();
        Ok((given, tables.map(|table| (file.clone(), table)).collect()))
    }
}

/// A table, and the file that it is in.
type FileTable = (Arc<PathBuf>, file::Table);

/// What is said in a file.
fn of_file(
    settings: BTreeMap<String, file::Said>,
    file: &Arc<PathBuf>,
) -> impl Iterator<Item = (String, Given)> {
    let given = move |said: file::Said| Given {
        values: said.values.into_iter().map(OsString::from).collect(),
        origin: Origin::File(file.clone(), said.line),
    };
    let settings = settings.into_iter();
    settings.map(move |(name, said)| (name, given(said)))
}

/// The command line that says what all sources say together.
fn command_line(keys: &[Key], given: &BTreeMap<String, Given>, subcommand: &str) -> Vec<OsString> {
    let mut line = vec![OsString::from("presenced")];
    line.extend((!subcommand.is_empty()).then(|| subcommand.into()));
    for key in keys {
        let values = given.get(&key.name).map(|given| &given.values);
        for value in values.into_iter().flatten() {
            let mut arg = OsString::from(format!("--{}=", key.name));
            arg.push(value);
            line.push(arg);
        }
    }
    line
}

/// What was typed that is no setting, as it is about this one run of a command.
fn no_settings(typed: &ArgMatches, keys: &[Key], command: &clap::Command) -> Vec<OsString> {
    let mut args = Vec::new();
    let others = command.get_arguments();
    for arg in others.filter(|arg| keys.iter().all(|key| key.id != arg.get_id().as_str())) {
        let id = arg.get_id().as_str();
        let is_typed = typed.ids().any(|typed| typed.as_str() == id)
            && typed.value_source(id) == Some(ValueSource::CommandLine);
        let values = is_typed.then(|| typed.get_raw(id)).flatten();
        for value in values.into_iter().flatten() {
            let mut word = OsString::from(format!("--{}=", arg.get_long().unwrap_or_default()));
            word.push(value);
            args.push(word);
        }
    }
    args
}

fn entries(keys: &[Key], matches: &ArgMatches, origins: &Origins) -> Vec<Entry> {
    let entry = |key: &Key| Entry {
        key: key.clone(),
        values: raw(matches, key),
        origin: origins.of(&key.name),
    };
    keys.iter().map(entry).collect()
}

fn raw(matches: &ArgMatches, key: &Key) -> Vec<OsString> {
    let raw = matches.get_raw(&key.id).into_iter().flatten();
    raw.map(ToOwned::to_owned).collect()
}

/// The variables of a command and of those below it.
fn variables(command: &clap::Command) -> Vec<String> {
    let commands = std::iter::once(command).chain(command.get_subcommands());
    commands.flat_map(keys).map(|key| key.variable).collect()
}

/// What an error says is wrong, without how to use the program.
fn message_of(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let (message, _) = text.split_once("\n\nUsage:").unwrap_or((&text, ""));
    let (message, _) = message.split_once("\n\nFor more").unwrap_or((message, ""));
    message
        .strip_prefix("error: ")
        .unwrap_or(message)
        .to_owned()
}

/// The same in one line, for the log.
pub fn line_of(error: &clap::Error) -> String {
    let message = message_of(error);
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// clap's error about settings, where they are called as they are in their source.
fn reworded(error: clap::Error, origins: &Origins, command: &mut clap::Command) -> clap::Error {
    let message = message_of(&error);
    match origins.reword(&message) {
        same if same == message => error,
        reworded => command.error(error.kind(), reworded.trim_end()),
    }
}

/// clap's error about a command line, in plainer words where there is a word too many: clap takes it for the name
/// of a command.
fn with_words(error: clap::Error, command: &mut clap::Command) -> clap::Error {
    let contexts = [ContextKind::InvalidSubcommand, ContextKind::InvalidArg];
    let context = contexts.into_iter().find_map(|context| error.get(context));
    let (kind, Some(ContextValue::String(word))) = (error.kind(), context) else {
        return error;
    };
    let is_of_words = matches!(
        kind,
        ErrorKind::InvalidSubcommand | ErrorKind::UnknownArgument | ErrorKind::ArgumentConflict
    );
    if !is_of_words || word.starts_with('-') {
        return error;
    }
    let commands = command.get_subcommands().map(clap::Command::get_name);
    let mut commands: Vec<_> = commands.map(str::to_owned).collect();
    commands.retain(|name| name != "help");
    let message = match kind {
        ErrorKind::ArgumentConflict if word == "store" => return error,
        ErrorKind::ArgumentConflict if commands.contains(word) => {
            format!("flags of '{word}' stand behind it: presenced {word} --flag …")
        }
        _ => {
            let flags = command.get_arguments().filter_map(clap::Arg::get_long);
            let known = commands.iter().map(String::as_str).chain(flags);
            let meant =
                nearest(word, known).map(|meant| match commands.iter().any(|c| c == meant) {
                    true => format!("; did you mean {meant}?"),
                    false => format!("; did you mean --{meant}?"),
                });
            format!(
                "unexpected word '{word}': it is neither a command ({}) nor a flag, and follows none \
                 that takes a value{}",
                commands.join(", "),
                meant.unwrap_or_default()
            )
        }
    };
    command.error(kind, message)
}

/// What `--log-format` says among `args`, or else its variable, where neither need be right.
fn log_format(args: &[OsString], environment: &Environment) -> LogFormat {
    const FLAG: &str = "--log-format";
    let (mut said, mut is_next) = (None, false);
    for arg in args.iter().skip(1).map(|arg| arg.to_string_lossy()) {
        match arg.strip_prefix(FLAG) {
            _ if is_next => (said, is_next) = (Some(arg.into_owned()), false),
            Some("") => is_next = true,
            Some(value) => said = value.strip_prefix('=').map(Into::into).or(said),
            None => {}
        }
    }
    let variable = environment.get("PRESENCED_LOG_FORMAT");
    let said = said.map(OsString::from).or(variable.map(Into::into));
    said.and_then(|said| form(&said)).unwrap_or(LogFormat::Text)
}

fn form(word: &std::ffi::OsStr) -> Option<LogFormat> {
    LogFormat::from_str(word.to_str()?, false).ok()
}

#[cfg(test)]
mod tests;
