//! Why a session ends.

use thiserror::Error;

use crate::{engine, packet};

/// Why a session ends.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq, Hash)]
pub enum End {
    /// The client said so, or closed its WebSocket.
    #[error("the client has closed the session")]
    Closed,
    /// The server said so.
    #[error("the server has closed the session")]
    ByServer,
    /// The WebSocket, a waiting poll or a half-sent POST lost its connection.
    #[error("the connection is gone")]
    Gone,
    /// The client has not answered a ping in time.
    #[error("a ping was not answered in time")]
    PingTimeout,
    /// The client has not connected to a namespace in time.
    #[error("no namespace was connected in time")]
    ConnectTimeout,
    /// Binary messages that belong to a packet have not come in time.
    #[error("attachments did not come in time")]
    AttachmentTimeout,
    /// The client does not fetch what was sent to it.
    #[error("too much waits for the client")]
    SlowConsumer,
    /// The client polled while it was polling.
    #[error("two polls at the same time")]
    SecondPoll,
    /// The client posted while it was posting.
    #[error("two POSTs at the same time")]
    SecondPost,
    /// The client sent a body of a kind that is not taken (`application/octet-stream`), or that is
    /// too large. The driver, which has looked at it, says so.
    #[error("a body that is not taken")]
    BadBody,
    /// The client sent bytes that are no Engine.IO packet.
    #[error("{0}")]
    BadPacket(engine::BadPacket),
    /// The client sent a ping outside of an upgrade, as Engine.IO 3 did.
    #[error("a ping from the client")]
    Ping,
    /// The client sent bytes that are no Socket.IO packet.
    #[error("{0}")]
    BadMessage(packet::BadPacket),
    /// The client connected to a namespace that it had connected to.
    #[error("a CONNECT where there is a connection")]
    Connected,
    /// The client sent a packet for a namespace that it has not connected to.
    #[error("a packet for a namespace that is not connected")]
    NotConnected,
    /// The client sent a CONNECT_ERROR, which is the server's to say.
    #[error("a CONNECT_ERROR from the client")]
    ConnectError,
    /// The client sent text where an attachment was due.
    #[error("text where an attachment was due")]
    TextForAttachment,
    /// The client sent a binary message that belongs to no packet.
    #[error("a binary message that belongs to no packet")]
    StrayAttachment,
    /// The client sent attachments over the limit.
    #[error("attachments over the limit")]
    AttachmentsTooBig,
}

impl End {
    /// A name for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            End::Closed => "closed",
            End::ByServer => "by_server",
            End::Gone => "gone",
            End::PingTimeout => "ping_timeout",
            End::ConnectTimeout => "connect_timeout",
            End::AttachmentTimeout => "attachment_timeout",
            End::SlowConsumer => "slow_consumer",
            End::SecondPoll => "second_poll",
            End::SecondPost => "second_post",
            End::BadBody => "bad_body",
            End::BadPacket(_) => "bad_packet",
            End::Ping => "ping",
            End::BadMessage(_) => "bad_message",
            End::Connected => "connected",
            End::NotConnected => "not_connected",
            End::ConnectError => "connect_error",
            End::TextForAttachment => "text_for_attachment",
            End::StrayAttachment => "stray_attachment",
            End::AttachmentsTooBig => "attachments_too_big",
        }
    }
}
