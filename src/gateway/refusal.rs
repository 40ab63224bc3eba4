//! Why a request is refused: one table from the reason to everything that follows from it (HTTP status,
//! error code, message, and how a WebSocket that is refused is closed).

use presenced_session::handshake::HandshakeError;

use super::places::Full;
use crate::limits::RETRY_S;

/// Why an HTTP request, a handshake among them, was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No such path.
    NotFound,
    /// A method that the path does not have.
    Method,
    /// Not HTTP/1.1, no Host, or another head that RFC 6455 §4.2.1 or RFC 9112 forbids.
    BadRequest,
    /// A question that can't be read: JSON, user ids or their number.
    BadPull,
    /// A body over the limit.
    BodyTooBig,
    /// A plain request where an upgrade is needed.
    UpgradeRequired,
    /// A WebSocket version other than 13.
    Version,
    /// An Origin that is not allowed.
    Origin,
    /// No token.
    TokenMissing,
    /// A token that is malformed, badly signed, of another algorithm, issuer or audience, not yet
    /// valid, or made to live too long.
    TokenInvalid,
    /// A token past its time.
    TokenExpired,
    /// A user id that can't be part of a memcached key.
    UserId,
    /// As many sessions as the server may have.
    Full,
    /// As many connections from this address as one may have, each with a request under way.
    PeerFull,
    /// As many connections as the server may have, each with a request under way.
    Busy,
    /// The server stops.
    Draining,
    /// The head was too long or not HTTP: the connection was closed.
    Head,
    /// A request did not come in time, or a new connection brought none.
    TooSlow,
}

impl From<HandshakeError> for Refusal {
    fn from(error: HandshakeError) -> Refusal {
        match error {
            HandshakeError::Method => Refusal::Method,
            HandshakeError::UpgradeRequired => Refusal::UpgradeRequired,
            HandshakeError::Version => Refusal::Version,
            HandshakeError::BadRequest => Refusal::BadRequest,
        }
    }
}

impl From<Full> for Refusal {
    fn from(full: Full) -> Refusal {
        match full {
            Full::Peer => Refusal::PeerFull,
            Full::Server => Refusal::Busy,
        }
    }
}

/// What follows from a [`Refusal`].
#[derive(Clone, Copy, Debug)]
pub struct RefusalFacts {
    /// HTTP status.
    pub status: u16,
    /// Stable error code in the JSON body, and label in `/metrics`.
    pub code: &'static str,
    /// For people.
    pub message: &'static str,
    /// When to come again, in seconds; none where coming again would not help.
    pub retry_s: Option<u32>,
    /// How a handshake is closed that was accepted only to tell why it is refused; none if that may only
    /// be told over HTTP.
    pub close_code: Option<u16>,
}

impl Refusal {
    /// Every reason, in the order of the metrics.
    pub const ALL: [Refusal; 18] = [
        Refusal::NotFound,
        Refusal::Method,
        Refusal::BadRequest,
        Refusal::BadPull,
        Refusal::BodyTooBig,
        Refusal::UpgradeRequired,
        Refusal::Version,
        Refusal::Origin,
        Refusal::TokenMissing,
        Refusal::TokenInvalid,
        Refusal::TokenExpired,
        Refusal::UserId,
        Refusal::Full,
        Refusal::PeerFull,
        Refusal::Busy,
        Refusal::Draining,
        Refusal::Head,
        Refusal::TooSlow,
    ];

    /// The table.
    pub const fn facts(self) -> RefusalFacts {
        let (status, code, message) = match self {
            Refusal::NotFound => (404, "not_found", "no such path"),
            Refusal::Method => (405, "method_not_allowed", "method not allowed here"),
            Refusal::BadRequest => (400, "bad_request", "not a valid request"),
            Refusal::BadPull => (400, "bad_pull", "not a valid question"),
            Refusal::BodyTooBig => (413, "body_too_big", "body over the limit"),
            Refusal::UpgradeRequired => (
                426,
                "upgrade_required",
                "this path is for WebSocket handshakes",
            ),
            Refusal::Version => (426, "websocket_version", "WebSocket version must be 13"),
            Refusal::Origin => (403, "origin_not_allowed", "origin not allowed"),
            Refusal::TokenMissing => (401, "token_missing", "a token is needed"),
            Refusal::TokenInvalid => (401, "token_invalid", "the token is not valid"),
            Refusal::TokenExpired => (401, "token_expired", "the token has expired"),
            Refusal::UserId => (
                403,
                "user_id_not_allowed",
                "the token's user id can't be part of a memcached key",
            ),
            Refusal::Full => (503, "too_many_sessions", "too many sessions"),
            Refusal::PeerFull => (
                429,
                "too_many_connections",
                "too many connections from this address",
            ),
            Refusal::Busy => (503, "server_busy", "too many requests under way"),
            Refusal::Draining => (503, "draining", "the server is stopping"),
            Refusal::Head => (431, "head", "request head too long or not HTTP"),
            Refusal::TooSlow => (408, "request_timeout", "the request did not come in time"),
        };
        RefusalFacts {
            status,
            code,
            message,
            retry_s: match status {
                429 | 503 => Some(RETRY_S),
                _ => None,
            },
            close_code: match (self, status) {
                // RFC 6455 §4.2.2: a page that may not connect gets no 101.
                (Refusal::Origin, _) => None,
                (Refusal::Draining, _) => Some(1012),
                (_, 401 | 403 | 429) => Some(4000 + status),
                (_, 503) => Some(1013),
                _ => None,
            },
        }
    }

    /// The text of the close frame: the code, and when to come again if that helps.
    pub fn close_reason(self) -> String {
        let facts = self.facts();
        match facts.retry_s {
            None => facts.code.to_owned(),
            Some(retry_s) => format!("{}; retry={retry_s}", facts.code),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use presenced_session::limits::CLOSE_REASON_BYTES_MAX;

    use super::*;

    #[test]
    fn labels_are_distinct_and_all_is_in_order() {
        let labels: HashSet<_> = Refusal::ALL
            .iter()
            .map(|refusal| refusal.facts().code)
            .collect();
        assert_eq!(labels.len(), Refusal::ALL.len());
        for (place, refusal) in Refusal::ALL.iter().enumerate() {
            assert_eq!(*refusal as usize, place);
        }
    }

    #[test]
    fn who_is_refused_is_told_the_same_over_http_and_by_a_close() {
        for (refusal, code, reason) in [
            (Refusal::TokenMissing, 4401, "token_missing"),
            (Refusal::TokenInvalid, 4401, "token_invalid"),
            (Refusal::TokenExpired, 4401, "token_expired"),
            (Refusal::UserId, 4403, "user_id_not_allowed"),
            (Refusal::Full, 1013, "too_many_sessions; retry=5"),
            (Refusal::PeerFull, 4429, "too_many_connections; retry=5"),
            (Refusal::Draining, 1012, "draining; retry=5"),
        ] {
            assert_eq!(refusal.facts().close_code, Some(code), "{refusal:?}");
            assert_eq!(refusal.close_reason(), reason);
        }
        for refusal in Refusal::ALL {
            let facts = refusal.facts();
            assert!(refusal.close_reason().len() <= CLOSE_REASON_BYTES_MAX);
            if facts.retry_s.is_some() {
                assert!(matches!(facts.status, 429 | 503), "{refusal:?}");
            }
        }
        assert_eq!(Refusal::Origin.facts().close_code, None);
    }
}
