//! The user and password that a memcached may ask for (its `-Y`).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tokio::task::spawn_blocking;

use crate::limits::CREDENTIALS_BYTES_MAX;
use crate::settings_file::{check_writers, read_again};

/// A user and a password, from a file that is read again each time they are asked for, so that they
/// can be changed without a restart. Never shown.
pub struct Credentials {
    file: PathBuf,
    known: Mutex<Known>,
}

struct Known {
    /// `user password`, as memcached's text protocol has it (`protocol.txt`, *Authentication*).
    text: String,
    /// What is wrong with the file now, as it was logged.
    complaint: Option<String>,
}

impl Credentials {
    /// From a file with one line, `user:password`, as memcached has it in its own.
    ///
    /// # Errors
    ///
    /// Why the file can't be used.
    pub fn read(file: &Path) -> Result<Credentials, String> {
        Ok(Credentials {
            known: Mutex::new(Known {
                text: read(file)?,
                complaint: None,
            }),
            file: file.to_owned(),
        })
    }

    /// What to tell memcached. If the file can't be used now, that is logged once, and what it said
    /// before holds.
    pub(super) async fn text(&self) -> String {
        let file = self.file.clone();
        // A file system that hangs must not hold up a worker.
        let text = spawn_blocking(move || read(&file)).await;
        let text = text.unwrap_or_else(|error| Err(error.to_string()));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match text {
            Ok(text) => {
                known.text = text;
                known.complaint = None;
            }
            Err(why) if known.complaint.as_ref() != Some(&why) => {
                tracing::warn!(
                    file = %self.file.display(),
                    why,
                    "memcached's user and password can't be read again"
                );
                known.complaint = Some(why);
            }
            Err(_) => {}
        }
        known.text.clone()
    }
}

fn read(file: &Path) -> Result<String, String> {
    let text = read_again(file, CREDENTIALS_BYTES_MAX)?;
    let text = parse(text.trim_end_matches(['\r', '\n']))
        .ok_or("expected one line, USER:PASSWORD, without spaces")?;
    check_writers(file)?;
    Ok(text)
}

fn parse(line: &str) -> Option<String> {
    let (user, password) = line.split_once(':')?;
    let legal = |part: &str| !part.is_empty() && !part.contains([' ', '\r', '\n']);
    (legal(user) && legal(password)).then(|| format!("{user} {password}"))
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_with_a_user_and_a_password() {
        assert_eq!(parse("edge:s3cret").as_deref(), Some("edge s3cret"));
        assert_eq!(parse("edge:a:b").as_deref(), Some("edge a:b"));
        for line in ["", "edge", ":x", "edge:", "a b:c", "a:b c", "a:b\nc:d"] {
            assert_eq!(parse(line), None, "{line:?}");
        }
    }
}
