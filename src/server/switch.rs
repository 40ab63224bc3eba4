//! Takes up settings while the server runs.

use std::sync::Arc;

use futures_util::future::join_all;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::Config;
use super::key_sources::KeySources;
use crate::admin::reloads::Reloads;
use crate::admin::routes::Admin;
use crate::gateway::Gateway;
use crate::limits::{ISSUER_NAMES_MAX, NEW_KEYS_WAIT};
use crate::pull::Pulls;
use crate::tokens;

/// Takes up settings while the server runs.
#[derive(Clone, Debug)]
pub struct Switch {
    pub(super) gateway: Arc<Gateway>,
    pub(super) pulls: Arc<Pulls>,
    pub(super) admin: Arc<Admin>,
    pub(super) in_force: Arc<Mutex<InForce>>,
    /// How reloads have ended.
    pub reloads: Arc<Reloads>,
}

/// What settings of tokens are in force.
#[derive(Debug)]
pub(super) struct InForce {
    pub(super) sources: KeySources,
    pub(super) tokens: tokens::Config,
    pub(super) allow_query_token: bool,
}

/// What stays as it is when settings are taken up, because only a restart changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// All that concerns tokens: dev mode would begin or end.
    pub tokens: bool,
    /// The certificates that clients are shown: TLS would be turned on or off.
    pub tls: bool,
}

/// More issuers have been named than sessions can tell apart.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "more than {ISSUER_NAMES_MAX} issuers have been named since the start: another needs a restart"
)]
pub struct TooManyIssuers;

impl Switch {
    /// Whether the server runs without a key, as it does from its start to its end.
    pub fn is_dev(&self) -> bool {
        self.gateway.is_dev()
    }

    /// Takes up those settings of `config` that can be, and no others: all of them, or none if there is an error.
    /// Sessions that are open go on. Of a provider whose keys were not fetched before, they are awaited for ten seconds;
    /// then its tokens are refused until they are there.
    ///
    /// What [`Switch::kept`] says stays as it is.
    ///
    /// # Errors
    ///
    /// Sessions could not tell issuers apart.
    pub async fn take_up(&self, config: &Config) -> Result<(), TooManyIssuers> {
        let mut in_force = self.in_force.lock().await;
        let (kept, mut gateway) = (self.kept(config), config.gateway.clone());
        if kept.tokens {
            gateway.tokens = in_force.tokens.clone();
            gateway.allow_query_token = in_force.allow_query_token;
        }
        let live = self.gateway.next_live(&gateway).ok_or(TooManyIssuers)?;
        let wanted: Vec<_> = live.auth.sources().cloned().collect();
        let begun = in_force.sources.begin(&wanted);
        let ready = join_all(begun.iter().map(|source| source.ready()));
        // It has logged why there are none.
        let _ = timeout(NEW_KEYS_WAIT, ready).await;
        self.gateway.live.set(live);
        if let (Some(tls), Some(certificates)) = (&self.gateway.tls, &gateway.tls) {
            tls.show(certificates.clone());
        }
        in_force.sources.keep(wanted);
        self.gateway.rates.set(gateway.rates);
        self.gateway.tls_rates.set(gateway.rates);
        self.pulls
            .set_users_per_second(config.pull.users_per_second);
        self.admin.access.set_token(config.admin.token.as_ref());
        if !kept.tokens {
            self.admin.revoker.set_lasts(config.revocation.lasts);
        }
        in_force.tokens = gateway.tokens;
        in_force.allow_query_token = gateway.allow_query_token;
        Ok(())
    }

    /// What of `config` is not taken up, if it has something that the server was started without, or the other way around.
    pub fn kept(&self, config: &Config) -> Kept {
        Kept {
            tokens: config.gateway.tokens.has_key() == self.is_dev(),
            tls: config.gateway.tls.is_some() != self.gateway.tls.is_some(),
        }
    }
}
