//! Values that begin with a hyphen: `--ttl -5s` is a wrong duration, and no flag `-5`.

use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};

/// The same arguments, where a flag and its value are one if the value begins with a hyphen: `--ttl=-5s`. Then the
/// flag's own rule refuses it, and names both. With two hyphens it is the next flag, and the value is missing.
pub(super) fn joined(args: impl IntoIterator<Item = OsString>, command: &Command) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::new();
    for arg in args {
        match joined.last_mut() {
            Some(flag) if is_value(&arg) && has_value(command, flag) => {
                flag.push("=");
                flag.push(arg);
            }
            _ => joined.push(arg),
        }
    }
    joined
}

/// Whether it begins with one hyphen, and is not only that.
fn is_value(arg: &OsStr) -> bool {
    let after = arg.as_encoded_bytes().strip_prefix(b"-");
    after.is_some_and(|after| after.first().is_some_and(|byte| *byte != b'-'))
}

/// Whether it is a flag, of the command or of those below it, that has a value.
fn has_value(command: &Command, flag: &OsStr) -> bool {
    let Some(name) = flag.to_str().and_then(|flag| flag.strip_prefix("--")) else {
        return false;
    };
    let is_it = |arg: &Arg| arg.get_long() == Some(name) && arg.get_action().takes_values();
    let mut commands = std::iter::once(command).chain(command.get_subcommands());
    commands.any(|command| command.get_arguments().any(is_it))
}
