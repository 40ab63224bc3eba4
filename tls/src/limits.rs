//! Bounds, each with its reason.

/// Bytes that one record bears at most (RFC 8446 §5.1).
pub const FRAGMENT_BYTES_MAX: usize = 1 << 14;

/// Warnings that a connection may bring in all. As many as rustls allows.
pub const WARNINGS_MAX: u8 = 4;

/// Records in a row that may come without data: alerts that end nothing, key updates, empty ones. As many as rustls allows
/// key updates. More of them are an attack, as each costs this side more than the peer.
pub const IDLE_RECORDS_MAX: u8 = 32;

/// Bytes that a client may send for its handshake. A ClientHello has some 500, one with post-quantum key shares under 2 kB; a
/// ticket and many extensions may make it longer.
pub const HANDSHAKE_BYTES_MAX: usize = 1 << 15;

/// Bits that an RSA key must have: what the provider takes, and clients as well.
pub const RSA_BITS_MIN: usize = 2048;
