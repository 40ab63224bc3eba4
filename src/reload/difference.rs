//! What is new in settings that were read again.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::changeable::{Change, change};
use super::files::Contents;
use crate::cli::sources::Entry;

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
    /// What is new in `next`, where settings of tokens stay as they are if `keeps_tokens`.
    pub(super) fn difference(&self, next: &State, keeps_tokens: bool) -> Difference {
        let mut difference = Difference::default();
        for entry in &next.entries {
            let name = &entry.key.name;
            let own = self.entries.iter().find(|own| own.key.name == *name);
            let is_same = own.is_some_and(|own| own.values == entry.values)
                && self.contents.of(name).eq(next.contents.of(name));
            if is_same {
                continue;
            }
            match change(name) {
                Change::Reload => difference.taken.push(name.clone()),
                Change::ReloadOfTokens if !keeps_tokens => difference.taken.push(name.clone()),
                // Its settings are named instead.
                Change::Content if name == "config" => {}
                Change::ReloadOfTokens | Change::Content | Change::Restart => {
                    difference.left.push(name.clone());
                }
            }
        }
        difference
    }

    /// What is in force once `next` has been taken up, but for what needs a restart.
    pub(super) fn take_up(&mut self, next: &State, difference: &Difference) {
        for own in &mut self.entries {
            let name = &own.key.name;
            let entry = next.entries.iter().find(|entry| entry.key.name == *name);
            if let Some(entry) = entry.filter(|_| difference.taken.contains(name)) {
                *own = entry.clone();
            }
        }
        for name in &difference.taken {
            self.contents.take_up(name, &next.contents);
        }
    }
}

/// The flags of settings, for the log.
pub(super) fn flags(names: &[String]) -> String {
    let flags = names.iter().map(|name| format!("--{name}"));
    flags.collect::<Vec<_>>().join(", ")
}
