//! Why a session did not begin, or ended.

use std::io;

use crate::frame::Malformed;

/// Why a session did not begin, or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The server said no: its HTTP status, or `connect_error`.
    Refused(String),
    /// The server said that the session ends, by that close code.
    Closed(u16),
    /// The connection failed, or ended without a close frame.
    Failed(String),
}

/// What a session that ended without a close frame counts as (RFC 6455 §7.1.5).
const WITHOUT_CLOSE_FRAME: u16 = 1006;

impl End {
    /// The close code.
    pub(crate) fn code(&self) -> u16 {
        match self {
            End::Closed(code) => *code,
            End::Refused(_) | End::Failed(_) => WITHOUT_CLOSE_FRAME,
        }
    }

    /// The connection ended where it should not.
    pub(crate) fn hung_up() -> End {
        End::Failed("closed".into())
    }
}

impl From<io::Error> for End {
    /// By kind: `connection refused`, `connection reset`.
    fn from(error: io::Error) -> End {
        End::Failed(error.kind().to_string())
    }
}

impl From<Malformed> for End {
    fn from(error: Malformed) -> End {
        End::Failed(error.to_string())
    }
}
