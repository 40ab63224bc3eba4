//! What is new in settings that were read again.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::HashSet;
use std::ffi::OsString;

use super::changeable::{Change, change};
use super::files::Contents;
use crate::cli::sources::Entry;
use crate::server::switch::Kept;

/// Settings with what their files have in them.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) entries: Vec<Entry>,
    pub(super) contents: Contents,
}

/// What is new, by the names of the flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Settings that are taken up.
    pub(super) taken: Vec<String>,
    /// Settings that need a restart.
    pub(super) left: Vec<String>,
}

impl State {
    /// What is new in `next`, of which some is `kept` as it is.
    pub(super) fn difference(&self, next: &State, kept: Kept) -> Difference {
        let mut difference = Difference::default();
        let mut names: Vec<_> = next.entries.iter().map(|entry| &entry.key.name).collect();
        // A setting is there once more in each table of the file.
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(*name));
        for name in names {
            let is_same = values(&self.entries, name).eq(values(&next.entries, name))
                && self.contents.of(name).eq(next.contents.of(name));
            if is_same {
                continue;
            }
            match change(name) {
                Change::Reload => difference.taken.push(name.clone()),
                Change::ReloadOfTokens if !kept.tokens => difference.taken.push(name.clone()),
                Change::ReloadOfTls if !kept.tls => difference.taken.push(name.clone()),
                // Its settings are named instead.
                Change::Content if name == "config" => {}
                Change::ReloadOfTokens
                | Change::ReloadOfTls
                | Change::Content
                | Change::Restart => difference.left.push(name.clone()),
            }
        }
        difference
    }

    /// What is in force once `next` has been taken up, but for what needs a restart.
    pub(super) fn take_up(&mut self, next: &State, difference: &Difference) {
        let is_taken = |entry: &&Entry| difference.taken.contains(&entry.key.name);
        self.entries.retain(|own| !is_taken(&own));
        let taken = next.entries.iter().filter(is_taken);
        self.entries.extend(taken.cloned());
        for name in &difference.taken {
            self.contents.take_up(name, &next.contents);
        }
    }
}

/// What a setting is set to, in the order of the places where it is.
fn values<'e>(entries: &'e [Entry], name: &'e str) -> impl Iterator<Item = &'e Vec<OsString>> {
    let of_name = entries.iter().filter(move |entry| entry.key.name == name);
    of_name.map(|entry| &entry.values)
}

/// The flags of settings, for the log.
pub(super) fn flags(names: &[String]) -> String {
    let flags = names.iter().map(|name| format!("--{name}"));
    flags.collect::<Vec<_>>().join(", ")
}
