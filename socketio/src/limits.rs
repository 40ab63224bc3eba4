//! Every bound and every time of this crate, each with its unit and its reason beside it. Some are
//! only defaults: what is a setting says so.

use std::time::Duration;

/// Time between two pings, unless set otherwise: the reference server's.
pub const PING_INTERVAL: Duration = Duration::from_secs(25);

/// Time for the answer to a ping, unless set otherwise: the reference server's.
pub const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest body of a POST and longest WebSocket message in bytes, unless set otherwise: the
/// reference server's. Clients are told it as `maxPayload`.
pub const PAYLOAD_BYTES_MAX: usize = 1_000_000;

/// Packets in the answer to a poll: python-engineio fails on more.
pub const PACKETS_PER_ANSWER_MAX: usize = 16;

/// Bytes that wait for the next poll of a session, [`QUEUED_PACKET_BYTES`] for each packet
/// included, unless set otherwise: what a session on a WebSocket may leave unread.
pub const QUEUE_BYTES_MAX: usize = 512 * 1024;

/// What a queued packet costs beside its own bytes, in bytes: many empty packets need room too.
pub const QUEUED_PACKET_BYTES: usize = 64;

/// Time from the 101 to the packet that ends an upgrade, unless set otherwise: the reference
/// server's.
pub const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a closed session waits for a poll that takes what is queued, unless set otherwise: as
/// the reference server does.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Time in which a client must have connected to a namespace, unless set otherwise: the reference
/// server's.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(45);

/// Namespaces that a server may offer: which of them are connected is a bit each in one byte.
pub const NAMESPACES_MAX: usize = 8;

/// Binary messages that belong to one packet: as the reference server since 4.2.6 of its parser.
pub const ATTACHMENTS_MAX: u8 = 10;

/// Bytes of all binary messages that belong to one packet, unless set otherwise: as many as one
/// payload.
pub const ATTACHMENT_BYTES_MAX: usize = PAYLOAD_BYTES_MAX;

/// Time for all binary messages that belong to one packet, unless set otherwise: an honest client
/// sends them at once, over a slow network in less.
pub const ATTACHMENT_TIME_MAX: Duration = Duration::from_secs(30);

/// Largest id of an event: the largest integer that JavaScript keeps exactly.
pub const ID_MAX: u64 = (1 << 53) - 1;

/// Digits of an id: as many as [`ID_MAX`] has.
pub const ID_DIGITS_MAX: usize = 16;

/// Base64 that is copied at once while it is decoded in place, in bytes; groups of four stay whole.
pub(crate) const BASE64_CHUNK_BYTES: usize = 1024;

const _: () = assert!(BASE64_CHUNK_BYTES.is_multiple_of(4));
const _: () = assert!(NAMESPACES_MAX <= u8::BITS as usize);
