//! Whether this CPU can do what the settings ask for. Secrets work on any; public keys and TLS do not.

use super::flags::IssuerFlags;
use super::{Flags, SettingsError};

impl Flags {
    /// Refuses what needs a CPU that has what this one is `lacking` ([`presenced_jwt::lacking`]).
    pub(super) fn check_cpu(&self, lacking: Option<&str>) -> Result<(), SettingsError> {
        let Some(lacking) = lacking else {
            return Ok(());
        };
        self.tokens.issuer.check_cpu(lacking)?;
        for table in &self.issuers {
            let checked = table.flags.check_cpu(lacking);
            checked.map_err(|error| table.refusal(&error.0))?;
        }
        match &self.storage.memcached.memcached_tls_ca {
            None => Ok(()),
            Some(file) => refuse!(
                "--memcached-tls-ca {}: this CPU can do no TLS: it lacks {lacking}",
                file.display()
            ),
        }
    }
}

impl IssuerFlags {
    fn check_cpu(&self, lacking: &str) -> Result<(), SettingsError> {
        let file = self.jwt_key_file.first();
        let setting = match (file, &self.jwt_jwks_url, &self.jwt_issuer) {
            (Some(file), _, _) => format!("--jwt-key-file {}", file.display()),
            (None, Some(url), _) => format!("--jwt-jwks-url {url}"),
            (None, None, Some(issuer)) if self.discovers_keys() => {
                format!("--jwt-issuer {issuer:?} without a key has its keys fetched from there")
            }
            _ => return Ok(()),
        };
        refuse!(
            "{setting}: this CPU can't check signatures of public keys: it lacks {lacking}; tokens of a secret \
             (--jwt-secret-file) need none of that"
        )
    }
}
