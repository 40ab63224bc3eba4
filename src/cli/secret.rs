//! The tokens' secret, and where it comes from.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Flags, SettingsError};
use crate::gateway::Secret;

impl Flags {
    pub(super) fn secret(&self) -> Result<Option<Secret>, SettingsError> {
        match (&self.tokens.jwt_secret_file, &self.tokens.jwt_secret) {
            (None, None) => Ok(None),
            (Some(file), None) => {
                let bytes = fs::read(file).map_err(|error| {
                    SettingsError(format!("--jwt-secret-file {}: {error}", file.display()))
                })?;
                warn_if_open(file);
                let secret = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
                match Secret::new(secret) {
                    Ok(secret) => Ok(Some(secret)),
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

/// A file with a secret should be its owner's only.
pub(super) fn warn_if_open(file: &Path) {
    let mode = fs::metadata(file).map(|meta| meta.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o007 != 0) {
        tracing::warn!(file = %file.display(), "every user of this machine can read the secret");
    }
}
