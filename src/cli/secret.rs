//! The tokens' keys and the operators' token, and where they come from.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use presenced_memcached::settings_file::{check_writers, read_start};

use super::{Flags, Notice, SettingsError};
use crate::limits::{KEY_FILE_BYTES_MAX, KEYS_MAX, SECRET_BYTES_MAX};
use crate::tokens::key::read_keys;
use crate::tokens::{Key, Secret};

impl Flags {
    /// The secrets that sign tokens, the first one first.
    pub(super) fn secrets(&self, notices: &mut Vec<Notice>) -> Result<Vec<Secret>, SettingsError> {
        let files = &self.tokens.jwt_secret_file;
        match &self.tokens.jwt_secret {
            None => files
                .iter()
                .map(|file| of_file("--jwt-secret-file", file, notices))
                .collect(),
            Some(_) if !files.is_empty() => {
                refuse!("--jwt-secret-file and PRESENCED_JWT_SECRET: give one of them")
            }
            Some(secret) => match Secret::new(secret.as_bytes()) {
                Ok(secret) => Ok(vec![secret]),
                Err(why) => refuse!("PRESENCED_JWT_SECRET {why}"),
            },
        }
    }

    /// All keys: those of secrets, and public ones.
    pub(super) fn keys(&self, secrets: &[Secret]) -> Result<Vec<Key>, SettingsError> {
        let mut keys: Vec<_> = secrets.iter().map(Key::of_secret).collect();
        for file in &self.tokens.jwt_key_file {
            let of_file =
                |why: String| SettingsError(format!("--jwt-key-file {}: {why}", file.display()));
            let bytes = read_start(file, KEY_FILE_BYTES_MAX + 1);
            let bytes = bytes.map_err(|error| of_file(error.to_string()))?;
            if bytes.len() > KEY_FILE_BYTES_MAX {
                return Err(of_file("is longer than 1 MiB".into()));
            }
            keys.extend(read_keys(&bytes).map_err(of_file)?);
            // Who can write it can let anyone in.
            check_writers(file).map_err(|why| of_file(why.to_string()))?;
        }
        if keys.len() > KEYS_MAX {
            refuse!("--jwt-secret-file and --jwt-key-file: more than {KEYS_MAX} keys");
        }
        Ok(keys)
    }

    /// What operators show who ask the admin listener for more than health and metrics.
    pub(super) fn admin_token(
        &self,
        notices: &mut Vec<Notice>,
    ) -> Result<Option<Secret>, SettingsError> {
        const FLAG: &str = "--admin-token-file";
        let Some(file) = &self.network.admin_token_file else {
            return Ok(None);
        };
        let token = of_file(FLAG, file, notices)?;
        // What else a header can have, clients spell in different ways.
        if !token.as_bytes().iter().all(u8::is_ascii_graphic) {
            refuse!(
                "{FLAG} {}: a token has visible ASCII characters only, and no spaces",
                file.display()
            );
        }
        Ok(Some(token))
    }
}

/// The secret in a file, but for a newline at its end.
fn of_file(flag: &str, file: &Path, notices: &mut Vec<Notice>) -> Result<Secret, SettingsError> {
    // One byte more than the longest and its newline have: then it is known to be too long.
    let bytes = read_start(file, SECRET_BYTES_MAX + 2)
        .map_err(|error| SettingsError(format!("{flag} {}: {error}", file.display())))?;
    let secret = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    match Secret::new(secret) {
        Ok(secret) => {
            check_access(flag, file, notices)?;
            Ok(secret)
        }
        Err(why) => refuse!("{flag} {}: {why}", file.display()),
    }
}

/// A file with a secret should be its owner's only. That others can read it is only warned of, as
/// Kubernetes mounts secrets so. It is called for a file that has been read: what is wrong with the file
/// itself is told first.
pub(super) fn check_access(
    flag: &str,
    file: &Path,
    notices: &mut Vec<Notice>,
) -> Result<(), SettingsError> {
    check_writers(file)
        .map_err(|why| SettingsError(format!("{flag} {}: {why}", file.display())))?;
    let mode = fs::metadata(file).map(|meta| meta.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o004 != 0) {
        notices.push(Notice::Warning(format!(
            "{flag} {}: every user of this machine can read the secret",
            file.display()
        )));
    }
    Ok(())
}
