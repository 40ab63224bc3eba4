//! `docs/settings.md` has every flag of the binary, as clap knows it. `make settings-page` renews it.

use std::fmt::Write;
use std::path::Path;

use clap::{Arg, Command, CommandFactory};
use presenced::cli::command_line::CommandLine;
use presenced::cli::sources::key::keys;
use presenced::cli::sources::table::issuer_keys;
use presenced::reload::changeable::{Change, change, changeable};

const HEAD: &str = "# Settings

<!-- Made of the flags by `make settings-page`; a test compares. -->

Each setting is a flag, an environment variable, and a key in the file that `--config` (or `PRESENCED_CONFIG`) names.
[Operations](operations.md#where-do-settings-come-from) says how they go together. The tokens' secret may also be given in
`PRESENCED_JWT_SECRET`; it is neither a flag nor a key.

The column *reload* says what it takes to change a setting [without a restart](operations.md#how-do-i-change-settings-without-a-restart): `yes`, that it is
read again, on SIGHUP or when a file changes; `content`, that its file changes, but not which file it is; `no`, a restart.
";

const STORE: &str = "
## `presenced store`

The store alone reads no file; of the server's settings it has those of the log.
";

/// What a table of the file may have.
fn issuer() -> String {
    let keys = issuer_keys();
    let keys: Vec<_> = keys.iter().map(|key| format!("`{}`", key.name)).collect();
    let (last, others) = keys.split_last().unwrap();
    format!(
        "\nThe file may also have tables `[[issuer]]`: each is one more [issuer of tokens]\
         (identity-providers.md#several-issuers), and has keys of its\nown, which are {} and {last}.\n",
        others.join(", ")
    )
}

/// The page, as it should be.
fn page() -> String {
    let mut command = CommandLine::command();
    command.build();
    let mut page = String::from(HEAD) + &issuer();
    table(&mut page, &command, "##", true);
    page += STORE;
    let store = command.find_subcommand("store").unwrap();
    table(&mut page, store, "###", false);
    page
}

/// A table for each group of flags; flags that other commands have, too, are theirs.
fn table(page: &mut String, command: &Command, level: &str, has_keys: bool) {
    let keys = keys(command);
    let mut group = None;
    for arg in command.get_arguments() {
        let name = arg.get_long().unwrap_or_default();
        let Some(key) = keys.iter().find(|key| key.name == name) else {
            continue;
        };
        if !has_keys && arg.is_global_set() {
            continue;
        }
        let heading = arg.get_help_heading().unwrap_or("Options");
        if group.replace(heading) != Some(heading) {
            let file = if has_keys { " key in the file |" } else { "" };
            let reload = if has_keys { " reload |" } else { "" };
            let line = if has_keys { " --- |" } else { "" };
            let _ = write!(
                page,
                "\n{level} {heading}\n\n| flag | variable |{file} default |{reload} what it is |\n| --- | --- |{line} --- |{line} --- |\n"
            );
        }
        let file = match (has_keys, name) {
            (false, _) => String::new(),
            (true, "config") => " – |".into(),
            (true, _) => format!(" `{name}` |"),
        };
        let reload = match (has_keys, change(name)) {
            (false, _) => "",
            (true, Change::Reload | Change::ReloadOfTokens | Change::ReloadOfTls) => " yes |",
            (true, Change::Content) => " content |",
            (true, Change::Restart) => " no |",
        };
        let (default, help) = (default(arg, key.otherwise.as_deref()), help(arg));
        let flag =
            cell(&value_name(arg).map_or(format!("--{name}"), |value| format!("--{name} {value}")));
        let variable = &key.variable;
        let _ = writeln!(
            page,
            "| `{flag}` | `{variable}` |{file} {default} |{reload} {help} |"
        );
    }
}

fn value_name(arg: &Arg) -> Option<String> {
    let names = arg
        .get_value_names()
        .filter(|_| arg.get_action().takes_values())?;
    names.first().map(ToString::to_string)
}

fn default(arg: &Arg, otherwise: Option<&str>) -> String {
    let values = arg.get_default_values().iter();
    let values: Vec<_> = values
        .map(|value| format!("`{}`", value.to_string_lossy()))
        .collect();
    match (values.is_empty(), otherwise) {
        (false, _) if arg.get_action().takes_values() => values.join(", "),
        (false, _) => "off".into(),
        (true, Some(otherwise)) => cell(otherwise),
        (true, None) => "–".into(),
    }
}

fn help(arg: &Arg) -> String {
    let help = arg.get_help().unwrap().to_string();
    let mut help = match help.split_once(" [default: ") {
        Some((before, rest)) => before.to_owned() + rest.split_once(']').unwrap().1,
        None => help,
    };
    let words = arg.get_possible_values();
    let words: Vec<_> = words
        .iter()
        .map(|word| format!("`{}`", word.get_name()))
        .collect();
    if arg.get_action().takes_values() && !words.is_empty() {
        help += &format!(": {}", words.join(", "));
    }
    cell(&help)
}

/// Text for a cell of a table, where a bar would begin the next, and `<` a tag.
fn cell(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}

#[test]
fn what_can_change_is_a_setting() {
    let mut command = CommandLine::command();
    command.build();
    let keys = keys(&command);
    for name in changeable() {
        assert!(keys.iter().any(|key| key.name == name), "{name}");
        assert_eq!(
            changeable().filter(|other| *other == name).count(),
            1,
            "{name}"
        );
    }
}

#[test]
fn the_page_of_settings_has_every_flag_as_it_is() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
    let page = page();
    if std::env::var_os("RENEW_DOCS").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == page,
        "docs/settings.md is stale: run `make settings-page`"
    );
    assert!(
        page.lines()
            .filter(|line| line.starts_with("| `--"))
            .count()
            > 60
    );
}
