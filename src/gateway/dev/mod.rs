//! Dev mode: a demo page, and tokens for anyone on this machine who asks.

mod figures;
mod files;

use std::sync::Arc;
use std::time::Duration;

use presenced_presence::UserId;
use presenced_session::clock::unix_ms;
use serde::Serialize;

pub use self::figures::Figures;
use super::look_up::LookUp;
use super::query::values;
use super::request::is_loopback_host;
use super::response::{Answer, json};
use crate::gateway::refusal::{Refusal, RequestFault};
use crate::limits::DEV_TOKEN_LIFETIME;
use crate::tokens::{IssuerConfig, Rules, Signer};

/// Serves the page, and signs the tokens that it asks for.
pub struct DevMode {
    signer: Signer,
    scope: Option<&'static str>,
    lifetime: Duration,
    shown: Option<Arc<Shown>>,
}

/// What the page shows of the edge.
#[derive(Debug)]
pub struct Shown {
    /// The command that looks into memcached.
    pub look_up: LookUp,
    /// The path of a heartbeat, in figures.
    pub figures: Figures,
}

impl std::fmt::Debug for DevMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The key is a secret.
        f.debug_struct("DevMode").finish_non_exhaustive()
    }
}

/// What a session of a page needs, which pulls.
const SESSION_SCOPES: &str = "presence:connect presence:read";

/// The query has no user, or what can't be read.
const NO_USER: Refusal = Refusal::BadRequest(RequestFault::DevToken);

impl DevMode {
    /// Signs with `secret` tokens of `issuer` that [`Auth`](crate::tokens::Auth) accepts under
    /// `rules`. The page has what is `shown`.
    pub fn new(
        secret: &[u8],
        issuer: &IssuerConfig,
        rules: Rules,
        shown: Option<Arc<Shown>>,
    ) -> DevMode {
        DevMode {
            signer: Signer::new(secret, issuer),
            scope: rules.require_scope.then_some(SESSION_SCOPES),
            lifetime: DEV_TOKEN_LIFETIME.min(rules.lifetime_max),
            shown,
        }
    }

    /// A file of the page, by path.
    pub fn file(&self, path: &str) -> Option<Answer> {
        files::file(path)
    }

    /// `GET /dev/token` and `GET /dev/figures`, for a request whose Host header is `host`.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotFound`] if the path is another or the Host is not this machine, and otherwise
    /// why there is no answer.
    pub fn answer(&self, path: &str, host: Option<&str>, query: &str) -> Result<Answer, Refusal> {
        // Whatever name an attacker's page lets point to 127.0.0.1 is in the Host header.
        let is_here = host.is_some_and(is_loopback_host);
        match (path, &self.shown) {
            ("/dev/token", _) if is_here => self.token(query),
            ("/dev/figures", Some(shown)) if is_here => Ok(json(200, shown.figures.json())),
            _ => Err(Refusal::NotFound),
        }
    }

    /// A token for `?user=ID`. It has the scope that sessions need, or with `&scope=…` that one.
    fn token(&self, query: &str) -> Result<Answer, Refusal> {
        let name = values(query, "user").next().flatten().ok_or(NO_USER)?;
        let user = UserId::new(&name).map_err(Refusal::UserId)?;
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Reply<'a> {
            token: &'a str,
            user: &'a str,
            expires_in: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            look_up: Option<String>,
        }
        let scope = values(query, "scope").next();
        let scope = scope.map(|scope| scope.ok_or(NO_USER)).transpose()?;
        let token = self.sign(&user, scope.as_deref().or(self.scope))?;
        let reply = Reply {
            token: &token,
            user: user.as_str(),
            expires_in: self.lifetime.as_secs(),
            look_up: self.look_up(&user),
        };
        let reply = serde_json::to_vec(&reply).map_err(|_| NO_USER)?;
        Ok(json(200, reply))
    }

    fn look_up(&self, user: &UserId) -> Option<String> {
        self.shown.as_ref()?.look_up.command(user)
    }

    fn sign(&self, user: &UserId, scope: Option<&str>) -> Result<String, Refusal> {
        let expires_at_s = unix_ms() / 1000 + self.lifetime.as_secs();
        let claims = [("exp".to_owned(), expires_at_s.into())];
        let signed = self.signer.sign(user, scope, claims.into_iter().collect());
        signed.map_err(|_| NO_USER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_on_this_machine() {
        for host in [
            "localhost",
            "LocalHost:8080",
            "127.0.0.1:8080",
            "127.9.9.9",
            "[::1]:8080",
        ] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in [
            "",
            "example.com",
            "localhost.evil.com",
            "127.0.0.1.evil.com",
            "10.0.0.1",
            "[::2]",
        ] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }
}
