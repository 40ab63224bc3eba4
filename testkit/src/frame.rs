//! WebSocket frames, byte by byte: a client's, which are masked, and the server's.

/// FIN and the opcode, the first byte of a frame.
pub const TEXT: u8 = 0x81;
/// See [`TEXT`].
pub const BINARY: u8 = 0x82;
/// See [`TEXT`].
pub const CLOSE: u8 = 0x88;
/// See [`TEXT`].
pub const PING: u8 = 0x89;
/// See [`TEXT`].
pub const PONG: u8 = 0x8a;
/// The first part of a text.
pub const TEXT_BEGINS: u8 = 0x01;
/// A part in the middle.
pub const MORE: u8 = 0x00;
/// The last part.
pub const LAST: u8 = 0x80;

/// A client's frame: masked, in the minimal form of length.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(first, payload.len());
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    frame.extend_from_slice(&mask);
    let masked = payload
        .iter()
        .zip(mask.iter().cycle())
        .map(|(byte, mask)| byte ^ mask);
    frame.extend(masked);
    frame
}

/// A client's frame up to its mask, for a payload that need not follow.
pub fn head(first: u8, payload_bytes: usize) -> Vec<u8> {
    let mut head = vec![first];
    match payload_bytes {
        0..126 => head.push(0x80 | payload_bytes as u8),
        126..65_536 => {
            head.push(0x80 | 126);
            head.extend_from_slice(&(payload_bytes as u16).to_be_bytes());
        }
        _ => {
            head.push(0x80 | 127);
            head.extend_from_slice(&(payload_bytes as u64).to_be_bytes());
        }
    }
    head
}

/// A frame of the server's, of less than 126 bytes.
pub fn sent(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    [&[first, payload.len() as u8], payload].concat()
}

/// A close frame of the server's.
pub fn closed(code: u16, reason: &str) -> Vec<u8> {
    sent(CLOSE, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// The pong that answers a server's ping. Its mask is of zeros, so the payload is as it came.
pub fn pong_of(ping: &[u8]) -> Vec<u8> {
    let [first, length] = ping[..2] else {
        unreachable!()
    };
    assert_eq!((first, usize::from(length)), (PING, ping.len() - 2));
    [&[PONG, 0x80 | length, 0, 0, 0, 0], &ping[2..]].concat()
}
