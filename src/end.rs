//! Why a session ends and why a request is refused: one table each, from the reason to everything
//! that follows from it (close code, HTTP status, metric label, log level).

use tracing::Level;

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The client sent a close frame.
    Closed,
    /// The connection broke or ended without a close frame.
    Gone,
    /// A frame that RFC 6455 forbids.
    Protocol,
    /// A binary message; only text is understood.
    Binary,
    /// Text that is not UTF-8.
    Text,
    /// A frame or message over the limit.
    TooBig,
    /// More frames, or more fragments, than a session may send.
    Flood,
    /// A message or frame that did not arrive whole in time.
    TooSlow,
    /// The client does not read what it asked for.
    NotReading,
    /// The worker's memory for begun messages is used up.
    Busy,
    /// A ping was not answered in time.
    Deaf,
    /// The token has expired.
    TokenExpired,
    /// The user has too many sessions, and this was the oldest.
    Replaced,
    /// The server stops.
    Restart,
    /// A fault of the server's own.
    Internal,
}

/// What follows from an [`End`].
#[derive(Clone, Copy, Debug)]
pub struct EndFacts {
    /// Close code sent to the client (RFC 6455 §7.4, IANA's registry, 4000 and up our own); none
    /// where no frame can be sent.
    pub close_code: Option<u16>,
    /// Label in `/metrics`.
    pub label: &'static str,
    /// Level at which it is logged: what clients can cause is debug, as they may cause it often.
    pub level: Level,
}

impl End {
    /// Every reason, in the order of the metrics.
    pub const ALL: [End; 15] = [
        End::Closed,
        End::Gone,
        End::Protocol,
        End::Binary,
        End::Text,
        End::TooBig,
        End::Flood,
        End::TooSlow,
        End::NotReading,
        End::Busy,
        End::Deaf,
        End::TokenExpired,
        End::Replaced,
        End::Restart,
        End::Internal,
    ];

    /// The table.
    pub const fn facts(self) -> EndFacts {
        let (close_code, label, level) = match self {
            // The close frame is echoed with the client's own code (RFC 6455 §5.5.1).
            End::Closed => (None, "closed", Level::DEBUG),
            End::Gone => (None, "gone", Level::DEBUG),
            End::Protocol => (Some(1002), "protocol", Level::DEBUG),
            End::Binary => (Some(1003), "binary", Level::DEBUG),
            End::Text => (Some(1007), "text", Level::DEBUG),
            End::TooBig => (Some(1009), "too_big", Level::DEBUG),
            End::Flood => (Some(1008), "flood", Level::DEBUG),
            End::TooSlow => (Some(1008), "too_slow", Level::DEBUG),
            // A close frame would wait in the same full buffer.
            End::NotReading => (None, "not_reading", Level::DEBUG),
            End::Busy => (Some(1013), "busy", Level::DEBUG),
            End::Deaf => (Some(4408), "deaf", Level::DEBUG),
            End::TokenExpired => (Some(4401), "token_expired", Level::DEBUG),
            End::Replaced => (Some(4409), "replaced", Level::DEBUG),
            End::Restart => (Some(1012), "restart", Level::DEBUG),
            End::Internal => (Some(1011), "internal", Level::ERROR),
        };
        EndFacts {
            close_code,
            label,
            level,
        }
    }
}

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
    /// As many connections from this address as one may have: closed at accept, without an answer.
    PeerFull,
    /// The server stops.
    Draining,
    /// The head did not come in time, or was too long or not HTTP: the connection was closed.
    Head,
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
}

impl Refusal {
    /// Every reason, in the order of the metrics.
    pub const ALL: [Refusal; 16] = [
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
        Refusal::Draining,
        Refusal::Head,
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
            Refusal::Draining => (503, "draining", "the server is stopping"),
            Refusal::Head => (431, "head", "request head too long, too slow or not HTTP"),
        };
        RefusalFacts {
            status,
            code,
            message,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn close_codes_are_ones_a_server_may_send() {
        for end in End::ALL {
            if let Some(code) = end.facts().close_code {
                assert!(
                    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999),
                    "{end:?} {code}"
                );
            }
        }
    }

    #[test]
    fn labels_are_distinct_and_all_is_in_order() {
        let ends: HashSet<_> = End::ALL.iter().map(|end| end.facts().label).collect();
        assert_eq!(ends.len(), End::ALL.len());
        let refusals: HashSet<_> = Refusal::ALL.iter().map(|r| r.facts().code).collect();
        assert_eq!(refusals.len(), Refusal::ALL.len());
        for (place, end) in End::ALL.iter().enumerate() {
            assert_eq!(*end as usize, place);
        }
        for (place, refusal) in Refusal::ALL.iter().enumerate() {
            assert_eq!(*refusal as usize, place);
        }
    }
}
