//! The files that settings come from: what is in them, and when they have changed.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use presenced_memcached::limits::TLS_CA_BYTES_MAX;
use presenced_memcached::settings_file::read;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::changeable::{Change, change};
use crate::cli::sources::Entry;
use crate::cli::sources::key::Kind;
use crate::limits::SETTINGS_SETTLE;

/// A file, and the setting that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedFile {
    setting: String,
    path: PathBuf,
}

/// The files of settings that have these values.
pub(super) fn files(entries: &[Entry]) -> Vec<NamedFile> {
    let is_read = |entry: &&Entry| {
        let is_of_reload = match change(&entry.key.name) {
            Change::Reload | Change::ReloadOfTokens | Change::ReloadOfTls => true,
            Change::Content => entry.key.name == "config",
            Change::Restart => false,
        };
        entry.key.kind == Kind::Path && is_of_reload
    };
    let of_entry = |entry: &Entry| {
        let setting = entry.key.name.clone();
        let paths = entry.values.clone().into_iter().map(PathBuf::from);
        paths.map(move |path| NamedFile {
            setting: setting.clone(),
            path,
        })
    };
    entries.iter().filter(is_read).flat_map(of_entry).collect()
}

/// Whether all can be read again: a pipe has nothing for those who come again, and would let them wait.
///
/// # Errors
///
/// For people: which can't, and why.
pub(super) fn check_again(files: &[NamedFile]) -> Result<(), String> {
    for NamedFile { setting, path } in files {
        let why = match fs::metadata(path) {
            Ok(meta) if meta.is_file() => continue,
            Ok(_) => "is not a regular file, and can't be read again".to_owned(),
            Err(error) => error.to_string(),
        };
        return Err(format!("--{setting} {}: {why}", path.display()));
    }
    Ok(())
}

/// What files have in them: a hash, as some are secrets. A file that can't be read has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents(Vec<(String, Option<u64>)>);

impl Contents {
    /// Reads `files`.
    pub(super) fn of_files(files: &[NamedFile]) -> Contents {
        let files = files.iter();
        Contents(
            files
                .map(|file| (file.setting.clone(), hash(&file.path)))
                .collect(),
        )
    }

    /// Those of the files that a setting names.
    pub(super) fn of(&self, setting: &str) -> impl Iterator<Item = Option<u64>> {
        let of_setting = self.0.iter().filter(move |(name, _)| name == setting);
        of_setting.map(|(_, hash)| *hash)
    }

    /// The files of a setting have in them what they have in `next`.
    pub(super) fn take_up(&mut self, setting: &str, next: &Contents) {
        self.0.retain(|(name, _)| name != setting);
        let of_setting = next.0.iter().filter(|(name, _)| name == setting);
        self.0.extend(of_setting.cloned());
    }
}

/// The same for the same content, in this process.
fn hash(file: &Path) -> Option<u64> {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    if !fs::metadata(file).is_ok_and(|meta| meta.is_file()) {
        return None;
    }
    // None of these files may be longer. Some are secrets: what was read of them is wiped.
    let content = Zeroizing::new(read(file, TLS_CA_BYTES_MAX).ok()?);
    Some(KEY.hash_one(content.as_slice()))
}

/// How files look from outside. Kubernetes replaces a folder by way of a symbolic link: then they are others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Look(Vec<Option<[i64; 6]>>);

impl Look {
    /// Looks at `files`.
    pub(super) fn at(files: &[NamedFile]) -> Look {
        let look = |file: &NamedFile| {
            // A pipe looks different whenever somebody writes to it.
            let meta = fs::metadata(&file.path)
                .ok()
                .filter(fs::Metadata::is_file)?;
            let (device, inode) = (meta.dev().cast_signed(), meta.ino().cast_signed());
            Some([
                device,
                inode,
                meta.len().cast_signed(),
                meta.mtime_nsec(),
                // It changes with the content, too, and with who may write the file.
                meta.ctime(),
                meta.ctime_nsec(),
            ])
        };
        Look(files.iter().map(look).collect())
    }

    /// At the first `count` files alone.
    pub(super) fn first(mut self, count: usize) -> Look {
        self.0.truncate(count);
        self
    }
}

/// Says when files have changed, and are to be read.
#[derive(Debug)]
pub(super) struct Watch {
    /// As they were when they were read last.
    read: Look,
    /// As they are since when, where that is something new.
    next: Option<(Look, Instant)>,
}

impl Watch {
    /// Of files that are read now.
    pub(super) fn new(read: Look) -> Watch {
        Watch { read, next: None }
    }

    /// Whether they are to be read, by how they look: they are others, and have stayed so for a while.
    pub(super) fn is_due(&mut self, look: Look) -> bool {
        if look == self.read {
            self.next = None;
            return false;
        }
        match &self.next {
            Some((next, since)) if *next == look => since.elapsed() >= SETTINGS_SETTLE,
            _ => {
                self.next = Some((look, Instant::now()));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn files_are_due_once_they_have_stayed_as_they_are() {
        let look = |number| Look(vec![Some([number; 6]), None]);
        let mut watch = Watch::new(look(1));
        assert!(!watch.is_due(look(1)));
        for number in [2, 3, 4] {
            assert!(!watch.is_due(look(number)), "it is being written");
            advance(SETTINGS_SETTLE - Duration::from_millis(1)).await;
        }
        assert!(!watch.is_due(look(4)));
        advance(Duration::from_millis(1)).await;
        assert!(watch.is_due(look(4)));
        assert!(!watch.is_due(look(1)), "it is what it was");
        assert!(!watch.is_due(look(4)), "and changes anew");
    }
}
