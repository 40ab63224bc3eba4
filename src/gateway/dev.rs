//! Dev mode: a demo page, and tokens for anyone on this machine who asks.

use std::time::Duration;

use bytes::Bytes;
use hyper::header;
use presenced_presence::UserId;
use presenced_session::clock::unix_ms;
use serde::Serialize;

use super::look_up::LookUp;
use super::query::values;
use super::request::is_loopback_host;
use super::response::{Answer, json, set, with_type};
use crate::gateway::refusal::{Refusal, RequestFault};
use crate::limits::DEV_TOKEN_LIFETIME;
use crate::tokens::{IssuerConfig, Rules, Signer};

/// Serves the page, and signs the tokens that it asks for.
pub struct DevMode {
    signer: Signer,
    scope: Option<&'static str>,
    lifetime: Duration,
    look_up: Option<LookUp>,
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
    /// `rules`. The page shows `look_up`, if there is an embedded store.
    pub fn new(
        secret: &[u8],
        issuer: &IssuerConfig,
        rules: Rules,
        look_up: Option<LookUp>,
    ) -> DevMode {
        DevMode {
            signer: Signer::new(secret, issuer),
            scope: rules.require_scope.then_some(SESSION_SCOPES),
            lifetime: DEV_TOKEN_LIFETIME.min(rules.lifetime_max),
            look_up,
        }
    }

    /// A file of the page, by path.
    pub fn file(&self, path: &str) -> Option<Answer> {
        const JS: &str = "text/javascript; charset=utf-8";
        let (media_type, text) = match path {
            "/" => (
                "text/html; charset=utf-8",
                include_str!("../../client/demo.html"),
            ),
            "/demo.js" => (JS, include_str!("../../client/demo.js")),
            "/demo.css" => (
                "text/css; charset=utf-8",
                include_str!("../../client/demo.css"),
            ),
            "/presence.js" => (JS, include_str!("../../client/presence.js")),
            _ => return None,
        };
        let mut answer = with_type(200, media_type, Bytes::from_static(text.as_bytes()));
        let policy = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:";
        set(&mut answer, header::CONTENT_SECURITY_POLICY, policy);
        Some(answer)
    }

    /// `GET /dev/token?user=ID`, for a request whose Host header is `host`. The token has the scope
    /// that sessions need, or with `&scope=…` that one.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotFound`] if the Host is not this machine, and otherwise why no token can be
    /// signed for the user.
    pub fn token(&self, host: Option<&str>, query: &str) -> Result<Answer, Refusal> {
        // Whatever name an attacker's page lets point to 127.0.0.1 is in the Host header.
        if !host.is_some_and(is_loopback_host) {
            return Err(Refusal::NotFound);
        }
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
            look_up: self.look_up.as_ref().map(|look_up| look_up.command(&user)),
        };
        let reply = serde_json::to_vec(&reply).map_err(|_| NO_USER)?;
        Ok(json(200, reply))
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
