//! fastwebsockets' frames, in place: what the gate lets pass is unmasked where it was read, and
//! answers are written behind each other.
//!
//! There is no `WebSocket` of fastwebsockets here: it wants a stream and a buffer of its own and
//! copies each frame twice. Its frames over the worker's scratch buffer cost nothing but the
//! unmasking, and keep nothing, so that no session's bytes can reach the next. Ping, pong and close
//! are answered by the session.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use fastwebsockets::{Frame, OpCode, Payload};

use super::frame_header::{Header, Opcode};
use crate::close_reason::CloseReason;
use crate::limits::CLOSE_REASON_BYTES_MAX;

/// Unmasks `frame`, exactly the whole frame of `header`, and returns its payload. A text frame
/// that is a message of its own is checked to be UTF-8 (RFC 6455 §8.1).
///
/// # Errors
///
/// [`CloseReason::InvalidUtf8`] for text that is not UTF-8, and [`CloseReason::Protocol`] for what
/// fastwebsockets refuses.
#[inline]
pub fn decode(header: Header, frame: &mut [u8]) -> Result<&[u8], CloseReason> {
    let Some((head, payload)) = frame.split_at_mut_checked(header.header_bytes) else {
        return Err(CloseReason::Internal);
    };
    let mask = head.last_chunk().copied();
    let payload = Payload::BorrowedMut(payload);
    let mut frame = Frame::new(header.fin, opcode(header.opcode), mask, payload);
    frame.unmask();
    if header.opcode == Opcode::Text && header.fin && !frame.is_utf8() {
        return Err(CloseReason::InvalidUtf8);
    }
    match frame.payload {
        Payload::BorrowedMut(payload) => Ok(payload),
        _ => Err(CloseReason::Internal),
    }
}

fn opcode(opcode: Opcode) -> OpCode {
    match opcode {
        Opcode::Continuation => OpCode::Continuation,
        Opcode::Text => OpCode::Text,
        Opcode::Binary => OpCode::Binary,
        Opcode::Close => OpCode::Close,
        Opcode::Ping => OpCode::Ping,
        Opcode::Pong => OpCode::Pong,
    }
}

/// Appends one frame from the server: whole, not masked (RFC 6455 §5.1).
pub fn encode(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    let mut head = [0; 16];
    let mut frame = Frame::new(true, opcode, None, Payload::Borrowed(payload));
    let length = frame.fmt_head(&mut head);
    out.extend_from_slice(&head[..length]);
    out.extend_from_slice(payload);
}

/// Appends the answer to a ping (RFC 6455 §5.5.3).
pub fn encode_pong(out: &mut Vec<u8>, payload: &[u8]) {
    encode(out, OpCode::Pong, payload);
}

/// Appends a close frame with `code` and `reason`, of at most [`CLOSE_REASON_BYTES_MAX`] bytes.
pub fn encode_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    debug_assert!(reason.len() <= CLOSE_REASON_BYTES_MAX, "{reason:?}");
    let mut payload = [0; 2 + CLOSE_REASON_BYTES_MAX];
    let reason = &reason.as_bytes()[..reason.len().min(CLOSE_REASON_BYTES_MAX)];
    payload[..2].copy_from_slice(&code.to_be_bytes());
    payload[2..][..reason.len()].copy_from_slice(reason);
    encode(out, OpCode::Close, &payload[..2 + reason.len()]);
}

/// Appends the answer to a close frame that bore `code` (RFC 6455 §5.5.1). Without a code there can
/// be no reason either.
pub fn encode_close_echo(out: &mut Vec<u8>, code: Option<u16>) {
    match code {
        Some(code) => encode_close(out, code, CloseReason::Closed.facts().label),
        None => encode(out, OpCode::Close, &[]),
    }
}

/// The code of a client's close payload, `None` if it has none (RFC 6455 §5.5.1, §7.4).
///
/// # Errors
///
/// [`CloseReason::Protocol`] for a payload of one byte or a code that may not be sent,
/// [`CloseReason::InvalidUtf8`] for a reason that is not UTF-8.
pub fn close_code(payload: &[u8]) -> Result<Option<u16>, CloseReason> {
    match payload {
        [] => Ok(None),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            // Those of the RFC and of IANA's registry that may be sent, and all that anyone may
            // use.
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(CloseReason::Protocol);
            }
            std::str::from_utf8(reason).map_err(|_| CloseReason::InvalidUtf8)?;
            Ok(Some(code))
        }
        [_] => Err(CloseReason::Protocol),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame_header::{self, HeaderCheck};

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [7, 77, 177, 7];
        let mut frame = vec![first, 0x80 | payload.len() as u8];
        frame.extend_from_slice(&mask);
        frame.extend(
            payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        frame
    }

    fn decoded(mut input: Vec<u8>) -> Result<Vec<u8>, CloseReason> {
        let HeaderCheck::Frame(header) = frame_header::check(&input, 1000) else {
            panic!("refused");
        };
        decode(header, &mut input).map(<[u8]>::to_vec)
    }

    #[test]
    fn a_frame_is_unmasked_in_place() {
        for length in [0, 1, 2, 3, 4, 5, 7, 8, 63, 64, 125] {
            let payload = vec![b'x'; length];
            for first in [0x81, 0x82, 0x80, 0x89, 0x8a] {
                assert_eq!(decoded(masked(first, &payload)), Ok(payload.clone()));
            }
        }
    }

    #[test]
    fn a_whole_text_must_be_utf8_and_a_part_need_not() {
        assert_eq!(decoded(masked(0x81, b"\xc3\xa4")), Ok(vec![0xc3, 0xa4]));
        assert_eq!(
            decoded(masked(0x81, b"\xff\xfe")),
            Err(CloseReason::InvalidUtf8)
        );
        assert_eq!(
            decoded(masked(0x81, b"\xc3")),
            Err(CloseReason::InvalidUtf8)
        );
        assert_eq!(decoded(masked(0x01, b"\xc3")), Ok(vec![0xc3]));
        assert_eq!(decoded(masked(0x82, b"\xff")), Ok(vec![0xff]));
    }

    #[test]
    fn close_payloads() {
        let close = |code: u16, reason: &[u8]| close_code(&[&code.to_be_bytes(), reason].concat());
        assert_eq!(close_code(b""), Ok(None));
        assert_eq!(close_code(b"x"), Err(CloseReason::Protocol));
        for code in [
            1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999,
            4000, 4999,
        ] {
            assert_eq!(close(code, b"bye"), Ok(Some(code)));
        }
        for code in [
            0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535,
        ] {
            assert_eq!(close(code, b""), Err(CloseReason::Protocol), "{code}");
        }
        assert_eq!(close(1000, b"\xff"), Err(CloseReason::InvalidUtf8));
    }

    #[test]
    fn frames_from_the_server_are_whole_and_not_masked() {
        let mut out = Vec::new();
        encode_close(&mut out, 1012, "bye");
        encode(&mut out, OpCode::Text, &[b'x'; 126]);
        assert_eq!(out[..7], *b"\x88\x05\x03\xf4bye");
        assert_eq!(out[7..11], [0x81, 126, 0, 126]);
        assert_eq!(out.len(), 11 + 126);
    }
}
