//! Why a session ends: one table from the reason to everything that follows from it (close code,
//! metric label, log level).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use tracing::Level;

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client sent a close frame.
    Closed,
    /// The connection broke or ended without a close frame.
    Disconnected,
    /// Something on a TLS connection that the RFCs forbid. The client is told by an alert.
    Tls,
    /// A frame that RFC 6455 forbids, or a packet that the session's protocol forbids.
    Protocol,
    /// A binary message; only text is understood.
    UnsupportedData,
    /// Text that is not UTF-8.
    InvalidUtf8,
    /// A frame or message over the limit.
    TooBig,
    /// More frames, or more fragments, than a session may send.
    RateLimited,
    /// A message or frame that did not arrive whole in time.
    MessageTimeout,
    /// The client has not said in time who it is.
    ConnectTimeout,
    /// The client does not read what it asked for.
    SlowConsumer,
    /// The worker's memory for begun messages is used up.
    Overloaded,
    /// A ping was not answered in time.
    PongTimeout,
    /// The token has expired.
    TokenExpired,
    /// A token that should renew the session is another user's.
    OtherUser,
    /// An operator has revoked the token, or all of the user's.
    TokenRevoked,
    /// The user has too many sessions, and this was the oldest.
    Replaced,
    /// The server stops.
    Restart,
    /// A fault of the server's own.
    Internal,
}

/// What follows from an [`CloseReason`].
#[derive(Clone, Copy, Debug)]
pub struct CloseFacts {
    /// Close code sent to the client (RFC 6455 §7.4, IANA's registry, 4000 and up our own); none
    /// where no frame can be sent.
    pub close_code: Option<u16>,
    /// Label in `/metrics`, and the text of the close frame.
    pub label: &'static str,
    /// Level at which it is logged: what clients can cause is debug, as they may cause it often.
    pub level: Level,
}

impl CloseReason {
    /// Every reason, in the order of the metrics.
    pub const ALL: [CloseReason; 19] = [
        CloseReason::Closed,
        CloseReason::Disconnected,
        CloseReason::Tls,
        CloseReason::Protocol,
        CloseReason::UnsupportedData,
        CloseReason::InvalidUtf8,
        CloseReason::TooBig,
        CloseReason::RateLimited,
        CloseReason::MessageTimeout,
        CloseReason::ConnectTimeout,
        CloseReason::SlowConsumer,
        CloseReason::Overloaded,
        CloseReason::PongTimeout,
        CloseReason::TokenExpired,
        CloseReason::OtherUser,
        CloseReason::TokenRevoked,
        CloseReason::Replaced,
        CloseReason::Restart,
        CloseReason::Internal,
    ];

    /// The table.
    pub const fn facts(self) -> CloseFacts {
        let (close_code, label, level) = match self {
            // The close frame is echoed with the client's own code (RFC 6455 §5.5.1).
            CloseReason::Closed => (None, "closed", Level::DEBUG),
            CloseReason::Disconnected => (None, "disconnected", Level::DEBUG),
            // Nothing can be said behind the alert.
            CloseReason::Tls => (None, "tls", Level::DEBUG),
            CloseReason::Protocol => (Some(1002), "protocol", Level::DEBUG),
            CloseReason::UnsupportedData => (Some(1003), "unsupported_data", Level::DEBUG),
            CloseReason::InvalidUtf8 => (Some(1007), "invalid_utf8", Level::DEBUG),
            CloseReason::TooBig => (Some(1009), "too_big", Level::DEBUG),
            CloseReason::RateLimited => (Some(1008), "rate_limited", Level::DEBUG),
            CloseReason::MessageTimeout => (Some(1008), "message_timeout", Level::DEBUG),
            CloseReason::ConnectTimeout => (Some(1008), "connect_timeout", Level::DEBUG),
            // A close frame would wait in the same full buffer.
            CloseReason::SlowConsumer => (None, "slow_consumer", Level::DEBUG),
            CloseReason::Overloaded => (Some(1013), "overloaded", Level::DEBUG),
            CloseReason::PongTimeout => (Some(4408), "pong_timeout", Level::DEBUG),
            CloseReason::TokenExpired => (Some(4401), "token_expired", Level::DEBUG),
            CloseReason::OtherUser => (Some(1008), "other_user", Level::DEBUG),
            CloseReason::TokenRevoked => (Some(4401), "token_revoked", Level::DEBUG),
            CloseReason::Replaced => (Some(4409), "replaced", Level::DEBUG),
            CloseReason::Restart => (Some(1012), "restart", Level::DEBUG),
            CloseReason::Internal => (Some(1011), "internal", Level::ERROR),
        };
        CloseFacts {
            close_code,
            label,
            level,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::limits::CLOSE_REASON_BYTES_MAX;

    #[test]
    fn close_codes_are_ones_a_server_may_send() {
        for end in CloseReason::ALL {
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
        let labels: HashSet<_> = CloseReason::ALL
            .iter()
            .map(|end| end.facts().label)
            .collect();
        assert_eq!(labels.len(), CloseReason::ALL.len());
        assert!(
            labels
                .iter()
                .all(|label| (1..=CLOSE_REASON_BYTES_MAX).contains(&label.len()))
        );
        for (index, end) in CloseReason::ALL.iter().enumerate() {
            assert_eq!(*end as usize, index);
        }
    }
}
