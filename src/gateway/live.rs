//! What requests go by that may change while the server runs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::dev::{DevMode, Shown};
use super::origin::Origins;
use super::refused_session::RefuseWith;
use super::{Config, Gateway};
use crate::tokens::{self, Auth, Key, Revocations};

/// What requests go by. Each takes it once, and goes by the same to its end.
#[derive(Debug)]
pub struct Live {
    /// Checks tokens.
    pub auth: Auth,
    /// Dev mode's page, if there is no key.
    pub dev: Option<DevMode>,
    /// Checks where pages come from.
    pub origins: Origins,
    /// Whether `?token=` is looked at.
    pub allow_query_token: bool,
    /// How handshakes are refused.
    pub refuse_with: RefuseWith,
    /// Whether `/healthz` and `/readyz` are here.
    pub serve_health: bool,
    /// Longest head of a request, of connections that begin now.
    pub head_bytes_max: usize,
    /// How long an HTTP connection that begins now is kept without a request.
    pub keep_alive: Duration,
}

/// What a server without a key, in dev mode, has from its start to its end, and no other has.
pub struct Dev {
    /// Signs tokens.
    pub(super) secret: [u8; 32],
    /// What the page shows of the edge.
    pub(super) shown: Option<Arc<Shown>>,
}

impl fmt::Debug for Dev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dev").finish_non_exhaustive()
    }
}

impl Live {
    /// What a server begins with.
    pub(super) fn new(config: &Config, dev: Option<&Dev>, revocations: Arc<Revocations>) -> Live {
        let (tokens, page) = with_dev(config.tokens.clone(), dev);
        Live::with(config, page, Auth::new(tokens).heeding(revocations))
    }

    fn with(config: &Config, dev: Option<DevMode>, auth: Auth) -> Live {
        Live {
            auth,
            dev,
            origins: config.origins.clone(),
            allow_query_token: config.allow_query_token,
            refuse_with: config.refuse_with,
            serve_health: config.serve_health,
            head_bytes_max: config.head_bytes_max,
            keep_alive: config.keep_alive,
        }
    }
}

/// The tokens that are accepted, and the page: with a key of dev mode's own, if it is that.
fn with_dev(mut tokens: tokens::Config, dev: Option<&Dev>) -> (tokens::Config, Option<DevMode>) {
    let rules = tokens.rules;
    let (Some(dev), Some(issuer)) = (dev, tokens.issuers.first_mut()) else {
        return (tokens, None);
    };
    let page = DevMode::new(&dev.secret, issuer, rules, dev.shown.clone());
    issuer.keys.push(Key::of_random(&dev.secret));
    (tokens, Some(page))
}

impl Gateway {
    /// Whether the server runs without a key, as it does from its start to its end.
    pub fn is_dev(&self) -> bool {
        self.dev.is_some()
    }

    /// What would be in force by `config`, in which [`Gateway::is_dev`] must be as it is here. `None` if there have
    /// been too many issuers.
    pub fn next_live(&self, config: &Config) -> Option<Live> {
        let (tokens, page) = with_dev(config.tokens.clone(), self.dev.as_ref());
        let auth = self.live.get().auth.succeeded_by(tokens)?;
        Some(Live::with(config, page, auth))
    }
}
