//! The settings that there are, as clap knows them.

use std::any::TypeId;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, value_parser};

/// A setting: a flag, its environment variable, and the key of its name in a settings file.
#[derive(Clone, Debug)]
pub struct Key {
    /// The flag without its hyphens.
    pub name: String,
    /// What a value is written as.
    pub kind: Kind,
    /// Whether there may be several values.
    pub repeats: bool,
    /// The flags that it can't be used with.
    pub excludes: Vec<String>,
    /// What holds if it is not set and has no default value, for people.
    pub otherwise: Option<String>,
    /// The environment variable.
    pub variable: String,
    /// What clap calls it.
    pub(super) id: String,
}

/// What a value is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Switch,
    /// An integer.
    Number,
    /// A text with rules of its own.
    Text,
    /// The path of a file, which need not be UTF-8.
    Path,
}

impl Key {
    fn new(command: &Command, arg: &Arg) -> Option<Key> {
        let name = arg.get_long()?.to_owned();
        let variable = arg.get_env()?.to_str()?.to_owned();
        let excludes = command.get_arg_conflicts_with(arg);
        let excludes = excludes.iter().filter_map(|other| other.get_long());
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let otherwise = help
            .split_once("[default: ")
            .and_then(|(_, rest)| rest.split_once(']'));
        Some(Key {
            name,
            otherwise: otherwise.map(|(otherwise, _)| otherwise.to_owned()),
            kind: Kind::of(arg),
            repeats: matches!(arg.get_action(), ArgAction::Append),
            excludes: excludes.map(str::to_owned).collect(),
            variable,
            id: arg.get_id().to_string(),
        })
    }
}

impl Kind {
    fn of(arg: &Arg) -> Kind {
        let value = arg.get_value_parser().type_id();
        let is_one_of = |types: &[TypeId]| types.iter().any(|one| value == *one);
        let numbers = [
            TypeId::of::<u8>(),
            TypeId::of::<u16>(),
            TypeId::of::<u32>(),
            TypeId::of::<u64>(),
            TypeId::of::<i64>(),
        ];
        match () {
            () if is_one_of(&[TypeId::of::<bool>()]) => Kind::Switch,
            () if is_one_of(&numbers) => Kind::Number,
            () if is_one_of(&[TypeId::of::<PathBuf>()]) => Kind::Path,
            () => Kind::Text,
        }
    }
}

/// The settings of a command, in the order of its help. It must have been built.
pub fn keys(command: &Command) -> Vec<Key> {
    let args = command.get_arguments();
    args.filter_map(|arg| Key::new(command, arg)).collect()
}

/// The command, and those below it, where a flag without a value may have one: `--serve-health=false` takes
/// back what a file or the environment says.
pub(super) fn with_switches(command: Command) -> Command {
    let command = command.mut_args(|arg| match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .default_value("false")
            .hide_default_value(true)
            .value_parser(value_parser!(bool))
            .value_name("true|false")
            .hide_possible_values(true),
        _ => arg,
    });
    command.mut_subcommands(with_switches)
}

/// The command, and those below it, where no flag looks into the environment: it is read here.
pub(super) fn without_environment(command: Command) -> Command {
    let command = command.mut_args(|arg| arg.env(None));
    command.mut_subcommands(without_environment)
}
