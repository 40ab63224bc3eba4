//! Keys that are fetched from an identity provider, and from where.

use std::sync::Arc;

use presenced_memcached::limits::TLS_CA_BYTES_MAX;
use presenced_memcached::settings_file;
use presenced_net::tls::Tls;

use super::SettingsError;
use super::flags::IssuerFlags;
use crate::limits::KEYS_ASK_PAUSE;
use crate::tokens::KeySource;
use crate::tokens::jwks::{self, Issuer, Location, Network, Url};
use crate::tokens::key::read_key_set;

impl IssuerFlags {
    /// Whether its keys are where the issuer says, unless `--jwt-jwks-url` says so.
    pub(super) fn discovers_keys(&self) -> bool {
        let has_key = self.jwt_secret.is_some()
            || !self.jwt_secret_file.is_empty()
            || !self.jwt_key_file.is_empty();
        let issuer = self.jwt_issuer.as_deref();
        !has_key && issuer.is_some_and(|name| name.contains("://"))
    }

    /// Where keys are fetched: at `--jwt-jwks-url`, or, if there are no others, where the issuer says.
    pub(super) fn key_source(&self) -> Result<Option<Arc<KeySource>>, SettingsError> {
        let location = match (&self.jwt_jwks_url, &self.jwt_issuer) {
            (Some(url), None) => refuse!(
                "--jwt-jwks-url {url} needs --jwt-issuer: a provider may sign tokens of several issuers \
                 with the same keys"
            ),
            (Some(text), Some(_)) => match Url::new(text) {
                Ok(url) => Location::Keys(url),
                Err(why) => refuse!("--jwt-jwks-url {text:?} {why}"),
            },
            (None, Some(name)) if self.discovers_keys() => match Issuer::new(name) {
                Ok(issuer) => Location::Issuer(issuer),
                Err(why) => refuse!(
                    "--jwt-issuer {name:?} without a key has its keys fetched from there, for which it \
                     {why}; or give --jwt-jwks-url, --jwt-key-file or --jwt-secret-file"
                ),
            },
            (None, _) => match &self.jwt_jwks_ca {
                None => return Ok(None),
                Some(file) => refuse!(
                    "--jwt-jwks-ca {} has no effect: no keys are fetched without --jwt-jwks-url, or a \
                     --jwt-issuer that is a URL and no other key",
                    file.display()
                ),
            },
        };
        let network = Network {
            tls: self.key_tls(&location)?,
            ..Network::default()
        };
        let config = jwks::Config {
            issuer: self.jwt_issuer.clone().unwrap_or_default(),
            location,
            network,
            ask_pause: KEYS_ASK_PAUSE,
        };
        Ok(Some(Arc::new(KeySource::new(config, read_key_set))))
    }

    fn key_tls(&self, location: &Location) -> Result<Option<Tls>, SettingsError> {
        let url = match location {
            Location::Keys(url) => url,
            Location::Issuer(issuer) => issuer.document(),
        };
        match &self.jwt_jwks_ca {
            Some(file) if !url.is_secret() => refuse!(
                "--jwt-jwks-ca {} has no effect: {url} has no TLS",
                file.display()
            ),
            Some(file) => {
                let pem = settings_file::read(file, TLS_CA_BYTES_MAX);
                match pem.and_then(|pem| Tls::new(&pem).map_err(|error| error.to_string())) {
                    Ok(tls) => Ok(Some(tls)),
                    Err(why) => refuse!("--jwt-jwks-ca {}: {why}", file.display()),
                }
            }
            None => match Tls::with_system_roots() {
                Ok(tls) => Ok(Some(tls)),
                Err(_) if !url.is_secret() => Ok(None),
                Err(why) => refuse!("{url}: {why}; or give --jwt-jwks-ca"),
            },
        }
    }
}
