//! The tokens' secret, and where it comes from.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use presenced_memcached::settings_file::{check_writers, read_start};

use super::{Flags, SettingsError};
use crate::limits::SECRET_BYTES_MAX;
use crate::tokens::Secret;

impl Flags {
    pub(super) fn secret(&self) -> Result<Option<Secret>, SettingsError> {
        match (&self.tokens.jwt_secret_file, &self.tokens.jwt_secret) {
            (None, None) => Ok(None),
            (Some(file), None) => {
                // One byte more than the longest and its newline have: then it is known to be too long.
                let bytes = read_start(file, SECRET_BYTES_MAX + 2).map_err(|error| {
                    SettingsError(format!("--jwt-secret-file {}: {error}", file.display()))
                })?;
                let secret = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
                match Secret::new(secret) {
                    Ok(secret) => {
                        check_access("--jwt-secret-file", file)?;
                        Ok(Some(secret))
                    }
                    Err(why) => refuse!("--jwt-secret-file {}: {why}", file.display()),
                }
            }
            (None, Some(secret)) => match Secret::new(secret.as_bytes()) {
                Ok(secret) => Ok(Some(secret)),
                Err(why) => refuse!("PRESENCED_JWT_SECRET {why}"),
            },
            (Some(_), Some(_)) => {
                refuse!("--jwt-secret-file and PRESENCED_JWT_SECRET: give one of them")
            }
        }
    }
}

/// A file with a secret should be its owner's only. That others can read it is only warned of, as
/// Kubernetes mounts secrets so. It is called for a file that has been read: what is wrong with the file
/// itself is told first.
pub(super) fn check_access(flag: &str, file: &Path) -> Result<(), SettingsError> {
    check_writers(file)
        .map_err(|why| SettingsError(format!("{flag} {}: {why}", file.display())))?;
    let mode = fs::metadata(file).map(|meta| meta.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o004 != 0) {
        tracing::warn!(flag, file = %file.display(), "every user of this machine can read the secret");
    }
    Ok(())
}
