//! Why a session could not be opened, or ended.

use std::io;

use crate::frame::FrameError;

/// Why a session could not be opened, or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SessionError {
    /// The server refused the handshake, with this HTTP status or with `connect_error`.
    Refused(String),
    /// The server closed the session with this close code.
    Closed(u16),
    /// The connection failed, or ended without a close frame.
    Failed(String),
}

/// Close code of a session that ended without a close frame (RFC 6455 §7.1.5).
const WITHOUT_CLOSE_FRAME: u16 = 1006;

impl SessionError {
    /// The close code.
    pub(crate) fn close_code(&self) -> u16 {
        match self {
            SessionError::Closed(code) => *code,
            SessionError::Refused(_) | SessionError::Failed(_) => WITHOUT_CLOSE_FRAME,
        }
    }

    /// The server closed the connection without a close frame.
    pub(crate) fn disconnected() -> SessionError {
        SessionError::Failed("closed".into())
    }
}

impl From<io::Error> for SessionError {
    /// Keeps only the kind, such as `connection refused`, so that like errors are counted together.
    fn from(error: io::Error) -> SessionError {
        SessionError::Failed(error.kind().to_string())
    }
}

impl From<rustls::Error> for SessionError {
    fn from(error: rustls::Error) -> SessionError {
        SessionError::Failed(format!("TLS: {error}"))
    }
}

impl From<FrameError> for SessionError {
    fn from(error: FrameError) -> SessionError {
        SessionError::Failed(error.to_string())
    }
}
