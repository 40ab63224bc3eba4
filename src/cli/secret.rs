//! Files with secrets, and that of the operators' token.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use presenced_memcached::settings_file::{check_writers, read_start};

use super::{Flags, Notice, SettingsError};
use crate::limits::SECRET_BYTES_MAX;
use crate::tokens::Secret;

impl Flags {
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
pub(super) fn of_file(
    flag: &str,
    file: &Path,
    notices: &mut Vec<Notice>,
) -> Result<Secret, SettingsError> {
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
