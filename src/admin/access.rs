//! Who may do more on the admin listener than ask for health and metrics.
//!
//! A web page that is open on an operator's machine reaches what listens on loopback, too: without a
//! token, the request must be none that a page can send.

use std::net::IpAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN, WWW_AUTHENTICATE,
};
use hyper::{Method, Response, StatusCode};
use subtle::ConstantTimeEq;

use super::Config;
use super::answers::{TEXT, text};
use crate::gateway::once_a_minute::OnceAMinute;
use crate::gateway::request::is_loopback_host;
use crate::swap::Swap;
use crate::tokens::Secret;

/// Who may do more.
#[derive(Debug)]
pub struct Access {
    who: Swap<Who>,
    /// The listener's.
    is_local: bool,
    denied_logged: OnceAMinute,
}

#[derive(Debug)]
enum Who {
    /// Whoever has the token.
    Bearer(Secret),
    /// Whoever is on this machine.
    Local,
    /// Nobody: others reach the address, and there is no token.
    Nobody,
}

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// There is no token that it could have.
    NoToken,
    /// It does not have the token.
    Unauthorized,
    /// It comes from a web page.
    Page,
    /// It is for another host, as an attacker's page may call this one.
    Host,
}

impl Access {
    /// As `config` says.
    #[must_use]
    pub fn new(config: &Config) -> Access {
        let is_local = config.listen.ip().is_loopback();
        Access {
            who: Swap::new(Who::new(config.token.as_ref(), is_local)),
            is_local,
            denied_logged: OnceAMinute::default(),
        }
    }

    /// From now on this is the token, if there is one.
    pub fn set_token(&self, token: Option<&Secret>) {
        self.who.set(Who::new(token, self.is_local));
    }

    /// Checks the head of a request from this address.
    ///
    /// # Errors
    ///
    /// Why it is turned away, which is logged now and then.
    pub fn check(&self, method: &Method, headers: &HeaderMap, from: IpAddr) -> Result<(), Denied> {
        let checked = self.who.get().check(method, headers);
        checked.inspect_err(|denied| {
            if self.denied_logged.is_due() {
                let why = denied.facts().1.trim_end();
                tracing::warn!(address = %from, why, "a request on the admin address is turned away");
            }
        })
    }
}

impl Who {
    fn new(token: Option<&Secret>, is_local: bool) -> Who {
        match token {
            Some(token) => Who::Bearer(token.clone()),
            None if is_local => Who::Local,
            None => Who::Nobody,
        }
    }

    fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), Denied> {
        match self {
            Who::Nobody => return Err(Denied::NoToken),
            Who::Bearer(token) if !is_bearer(headers, token) => return Err(Denied::Unauthorized),
            Who::Bearer(_) | Who::Local => {}
        }
        // RFC 9110 §9.2.1: nothing is done for these.
        if matches!(*method, Method::GET | Method::HEAD) {
            return Ok(());
        }
        if headers.contains_key(ORIGIN) {
            return Err(Denied::Page);
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        match self {
            Who::Local if !host.is_some_and(is_loopback_host) => Err(Denied::Host),
            _ => Ok(()),
        }
    }
}

impl Denied {
    fn facts(self) -> (StatusCode, &'static str) {
        match self {
            Denied::NoToken => (
                StatusCode::FORBIDDEN,
                "on an address that others reach there is only /healthz, /readyz and /metrics without \
                 --admin-token-file\n",
            ),
            Denied::Unauthorized => (
                StatusCode::UNAUTHORIZED,
                "Authorization: Bearer TOKEN is needed, with the token of --admin-token-file\n",
            ),
            Denied::Page => (StatusCode::FORBIDDEN, "this is not for web pages\n"),
            Denied::Host => (
                StatusCode::FORBIDDEN,
                "without --admin-token-file, Host must be localhost or a loopback address\n",
            ),
        }
    }

    pub(super) fn answer(self) -> Response<Full<Bytes>> {
        let (status, why) = self.facts();
        let mut answer = text(status, TEXT, why.into());
        if self == Denied::Unauthorized {
            let bearer = HeaderValue::from_static("Bearer");
            answer.headers_mut().insert(WWW_AUTHENTICATE, bearer);
        }
        answer
    }
}

/// Whether a request has `token` (RFC 6750 §2.1), and no other. The comparison takes the same time
/// wherever they differ.
fn is_bearer(headers: &HeaderMap, token: &Secret) -> bool {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return false;
    };
    let Some((scheme, shown)) = line.as_bytes().split_at_checked("Bearer ".len()) else {
        return false;
    };
    scheme.eq_ignore_ascii_case(b"Bearer ") && shown.ct_eq(token.as_bytes()).into()
}

/// Whether a body is said to be JSON: no page can say that of one without asking first (the Fetch
/// standard's CORS).
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn who(listen: &str, token: Option<&str>) -> Arc<Who> {
        let config = Config {
            listen: listen.parse().unwrap(),
            token: token.map(|token| Secret::new(token.as_bytes()).unwrap()),
        };
        Access::new(&config).who.get()
    }

    fn check(who: &Who, lines: &[(&'static str, &str)]) -> Result<(), Denied> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        who.check(&Method::POST, &headers)
    }

    #[test]
    fn without_a_token_this_machine_alone_may_and_no_page_on_it() {
        for listen in ["127.0.0.1:9180", "[::1]:9180"] {
            let local = who(listen, None);
            for host in [
                "localhost",
                "LOCALHOST:1",
                "127.0.0.1:9180",
                "127.9.9.9",
                "[::1]:9180",
            ] {
                assert_eq!(check(&local, &[("host", host)]), Ok(()), "{host}");
                let page = check(&local, &[("host", host), ("origin", "http://localhost")]);
                assert_eq!(page, Err(Denied::Page));
            }
            for host in [
                "evil.example",
                "localhost.evil.example",
                "10.0.0.1",
                "127.0.0.1.evil",
            ] {
                assert_eq!(
                    check(&local, &[("host", host)]),
                    Err(Denied::Host),
                    "{host}"
                );
            }
            assert_eq!(check(&local, &[]), Err(Denied::Host));
        }
        for listen in ["0.0.0.0:9180", "10.0.0.1:9180", "[::]:9180"] {
            let nobody = who(listen, None);
            let bearer = format!("Bearer {TOKEN}");
            for lines in [
                vec![("host", "localhost")],
                vec![("authorization", bearer.as_str())],
            ] {
                assert_eq!(check(&nobody, &lines), Err(Denied::NoToken), "{listen}");
            }
        }
    }

    #[test]
    fn what_does_nothing_may_be_asked_for_under_any_name() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "edge.test".parse().unwrap());
        let local = who("127.0.0.1:9180", None);
        assert_eq!(local.check(&Method::GET, &headers), Ok(()));
        assert_eq!(local.check(&Method::PUT, &headers), Err(Denied::Host));
        let denied = who("0.0.0.0:9180", None).check(&Method::GET, &headers);
        assert_eq!(denied, Err(Denied::NoToken));
        let denied = who("127.0.0.1:9180", Some(TOKEN)).check(&Method::GET, &headers);
        assert_eq!(denied, Err(Denied::Unauthorized));
    }

    #[test]
    fn with_a_token_whoever_has_it_may() {
        for listen in ["127.0.0.1:9180", "0.0.0.0:9180"] {
            let bearer = who(listen, Some(TOKEN));
            for scheme in ["Bearer", "bearer"] {
                let shown = format!("{scheme} {TOKEN}");
                let lines = [
                    ("host", "edge-1.internal"),
                    ("authorization", shown.as_str()),
                ];
                assert_eq!(check(&bearer, &lines), Ok(()));
                let page = [("origin", "null"), ("authorization", shown.as_str())];
                assert_eq!(check(&bearer, &page), Err(Denied::Page));
                let twice = [("authorization", shown.as_str()); 2];
                assert_eq!(check(&bearer, &twice), Err(Denied::Unauthorized));
            }
            assert_eq!(
                check(&bearer, &[("host", "localhost")]),
                Err(Denied::Unauthorized)
            );
            let (short, long) = (&TOKEN[1..], format!("{TOKEN}0"));
            for shown in ["", "Bearer", "Bearer ", TOKEN] {
                let lines = [("authorization", shown)];
                assert_eq!(check(&bearer, &lines), Err(Denied::Unauthorized), "{shown}");
            }
            for shown in [short, &long, &TOKEN.to_uppercase(), &format!(" {TOKEN}")] {
                let shown = format!("Bearer {shown}");
                let lines = [("authorization", shown.as_str())];
                assert_eq!(check(&bearer, &lines), Err(Denied::Unauthorized), "{shown}");
            }
            let basic = format!("Basic  {TOKEN}");
            let lines = [("authorization", basic.as_str())];
            assert_eq!(check(&bearer, &lines), Err(Denied::Unauthorized));
        }
    }

    #[test]
    fn json_is_what_is_said_to_be() {
        let is = |kind: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, kind.parse().unwrap());
            is_json(&headers)
        };
        for kind in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/json ;x",
        ] {
            assert!(is(kind), "{kind}");
        }
        for kind in [
            "",
            "text/plain",
            "text/plain;application/json",
            "application/jsonx",
        ] {
            assert!(!is(kind), "{kind}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
