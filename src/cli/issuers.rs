//! Whose tokens are accepted: the issuer of the flags, and those of the settings file's tables.

use std::os::unix::ffi::OsStrExt;

use presenced_memcached::settings_file::{check_writers, read_start};

use super::flags::{IssuerFlags, USER_CLAIM};
use super::secret::of_file;
use super::sources::origin::Origins;
use super::{Flags, Notice, SettingsError};
use crate::limits::{KEY_FILE_BYTES_MAX, KEYS_MAX};
use crate::tokens::key::read_keys;
use crate::tokens::{Audience, IssuerConfig, Key, Secret};

/// A table `[[issuer]]` of the settings file.
#[derive(Clone, Debug)]
pub struct IssuerTable {
    /// What it says.
    pub flags: IssuerFlags,
    /// Where each of its keys is; one that it lacks is where it begins.
    pub(super) origins: Origins,
}

/// An issuer whose settings work.
pub(super) struct Issuer {
    pub(super) config: IssuerConfig,
    /// The first of its secrets.
    pub(super) secret: Option<Secret>,
}

impl Issuer {
    /// Whether it has keys, or will have.
    pub(super) fn has_key(&self) -> bool {
        self.config.has_key()
    }
}

impl Flags {
    /// All issuers, that of the flags first. Beside tables, it counts only if it has a key.
    pub(super) fn issuers(&self, notices: &mut Vec<Notice>) -> Result<Vec<Issuer>, SettingsError> {
        let flags = &self.tokens.issuer;
        let own = flags.check(notices)?;
        if self.issuers.is_empty() {
            return Ok(vec![own]);
        }
        let mut issuers = Vec::with_capacity(self.issuers.len() + 1);
        match (own.has_key(), &own.config.name) {
            (true, Some(_)) => issuers.push(own),
            (true, None) => refuse!(
                "--jwt-issuer is missing: beside tables [[issuer]], the keys of --jwt-secret-file (or \
                 PRESENCED_JWT_SECRET) and --jwt-key-file are those of one issuer among several, and iss says whose \
                 a token is"
            ),
            (false, _) => notices.extend(flags.without_effect()),
        }
        for table in &self.issuers {
            let issuer = table.check(notices)?;
            let name = &issuer.config.name;
            if issuers.iter().any(|other| other.config.name == *name) {
                let name = name.as_deref().unwrap_or_default();
                return Err(table.refusal(&format!(
                    "--jwt-issuer {name:?}: another issuer has that name; one issuer may have several keys"
                )));
            }
            issuers.push(issuer);
        }
        Ok(issuers)
    }
}

impl IssuerTable {
    fn check(&self, notices: &mut Vec<Notice>) -> Result<Issuer, SettingsError> {
        let mut found = Vec::new();
        let checked = self.flags.check(&mut found);
        let reword = |notice: Notice| notice.map(|text| self.origins.reword(text));
        notices.extend(found.into_iter().map(reword));
        let issuer = checked.map_err(|error| self.refusal(&error.0))?;
        match &issuer.config.name {
            None => Err(self.refusal(
                "a table [[issuer]] needs --jwt-issuer: iss says whose token it is",
            )),
            Some(name) if !issuer.has_key() => Err(self.refusal(&format!(
                "--jwt-issuer {name:?} has no key: give --jwt-secret-file, --jwt-key-file or --jwt-jwks-url"
            ))),
            Some(_) => Ok(issuer),
        }
    }

    /// With the place in the file, and with its keys for flags.
    pub(super) fn refusal(&self, why: &str) -> SettingsError {
        SettingsError(self.origins.reword(why))
    }
}

impl IssuerFlags {
    /// Whose tokens are accepted, by which keys.
    fn check(&self, notices: &mut Vec<Notice>) -> Result<Issuer, SettingsError> {
        if self.user_claim.is_empty() {
            refuse!("--user-claim can't be empty");
        }
        for (flag, value) in [
            ("--jwt-audience", &self.jwt_audience),
            ("--jwt-issuer", &self.jwt_issuer),
        ] {
            if value.as_deref() == Some("") {
                refuse!("{flag} can't be empty: no token would pass");
            }
        }
        let secrets = self.secrets(notices)?;
        let keys = self.keys(&secrets)?;
        let source = self.key_source()?;
        let config = IssuerConfig {
            name: self.jwt_issuer.clone(),
            audience: match &self.jwt_audience {
                Some(audience) => Audience::Named(audience.clone()),
                None if self.allow_any_audience => Audience::Any,
                None => Audience::None,
            },
            user_claim: self.user_claim.clone(),
            keys,
            source,
        };
        if config.has_key() && config.audience == Audience::None {
            notices.push(Notice::Hint(
                "no --jwt-audience: tokens that have an audience (aud) are refused".into(),
            ));
        }
        Ok(Issuer {
            config,
            secret: secrets.into_iter().next(),
        })
    }

    /// The secrets that sign tokens, the first one first.
    fn secrets(&self, notices: &mut Vec<Notice>) -> Result<Vec<Secret>, SettingsError> {
        let files = &self.jwt_secret_file;
        match &self.jwt_secret {
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
    fn keys(&self, secrets: &[Secret]) -> Result<Vec<Key>, SettingsError> {
        let mut keys: Vec<_> = secrets.iter().map(Key::of_secret).collect();
        for file in &self.jwt_key_file {
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

    /// A warning for each flag that says what tokens must have, where no key could have signed one.
    fn without_effect(&self) -> impl Iterator<Item = Notice> {
        let given = [
            ("--jwt-issuer", self.jwt_issuer.is_some()),
            ("--jwt-audience", self.jwt_audience.is_some()),
            ("--allow-any-audience", self.allow_any_audience),
            ("--user-claim", self.user_claim != USER_CLAIM),
        ];
        let given = given.into_iter().filter(|(_, is_given)| *is_given);
        given.map(|(flag, _)| {
            Notice::Warning(format!(
                "{flag} has no effect: the issuer that it is about has no key, and each table [[issuer]] has its own"
            ))
        })
    }
}
