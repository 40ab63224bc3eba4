//! Why a session ends: one table from the reason to everything that follows from it (close code, metric
//! label, log level).

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
        let labels: HashSet<_> = End::ALL.iter().map(|end| end.facts().label).collect();
        assert_eq!(labels.len(), End::ALL.len());
        for (place, end) in End::ALL.iter().enumerate() {
            assert_eq!(*end as usize, place);
        }
    }
}
