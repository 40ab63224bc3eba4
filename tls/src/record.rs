//! What records are made of (RFC 8446 §5, RFC 5246 §6.2).

use rustls::AlertDescription;

use crate::limits::FRAGMENT_BYTES_MAX;

/// The version of TLS 1.2, which records of TLS 1.3 bear as well (RFC 8446 §5.2).
pub(crate) const VERSION: [u8; 2] = [3, 3];

// Types of records (RFC 8446 §5.1).
pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const DATA: u8 = 23;

// Types of handshake messages (RFC 8446 §4, RFC 5246 §7.4).
const CLIENT_HELLO: u8 = 1;
pub(crate) const KEY_UPDATE: u8 = 24;

/// The type of an inner plaintext, and the length of its text: the type is behind it, and zeros may follow (RFC 8446 §5.4).
pub(crate) fn type_and_length(inner: &[u8]) -> Result<(u8, usize), AlertDescription> {
    if inner.len() > FRAGMENT_BYTES_MAX + 1 {
        return Err(AlertDescription::RecordOverflow);
    }
    let last = inner.iter().rposition(|byte| *byte != 0);
    let last = last.ok_or(AlertDescription::UnexpectedMessage)?;
    match inner[last] {
        // No alert and no handshake message is empty (§5.4).
        ALERT | HANDSHAKE if last == 0 => Err(AlertDescription::UnexpectedMessage),
        kind => Ok((kind, last)),
    }
}

/// What TLS 1.2 authenticates beside the text: the record's number, its type and version, and the length of the text (RFC
/// 5246 §6.2.3.3).
pub(crate) fn aad_of_tls12(number: u64, header: &[u8], text_bytes: usize) -> [u8; 13] {
    let mut aad = [0; 13];
    aad[..8].copy_from_slice(&number.to_be_bytes());
    aad[8..11].copy_from_slice(&header[..3]);
    // A record is shorter than 2^16 bytes.
    aad[11..].copy_from_slice(&(text_bytes as u16).to_be_bytes());
    aad
}

/// Whether this is one whole ClientHello.
pub(crate) fn is_client_hello(text: &[u8]) -> bool {
    match *text {
        [CLIENT_HELLO, high, middle, low, ref rest @ ..] => {
            u32::from_be_bytes([0, high, middle, low]) as usize == rest.len()
        }
        _ => false,
    }
}
