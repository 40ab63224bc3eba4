//! The gate: what RFC 6455 demands of a client's frame before the codec sees a byte of it.
//!
//! fastwebsockets 0.10 accepts frames that are not masked, pongs and closes over 125 bytes, and
//! lengths that are not minimal, and it reserves a claimed length on the strength of a header. So
//! the gate reads each header first; only whole, legal frames within the limit pass.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::close_reason::CloseReason;

/// Opcodes of RFC 6455 §5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// More of a message.
    Continuation,
    /// A text message or its first part.
    Text,
    /// A binary message or its first part.
    Binary,
    /// The client takes its leave.
    Close,
    /// To be answered with a pong.
    Ping,
    /// The answer to a ping, or a sign of life.
    Pong,
}

/// What stands at the start of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderCheck {
    /// A whole frame.
    Frame(Header),
    /// The begin of a frame that may pass; more is needed.
    Partial,
    /// A frame that must end the session.
    Refused(CloseReason),
}

/// The header of a frame that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub opcode: Opcode,
    /// Whether it ends its message.
    pub fin: bool,
    /// Bytes before the payload; the last four of them are the mask.
    pub header_bytes: usize,
    /// Bytes of the whole frame.
    pub frame_bytes: usize,
}

/// Looks at the first frame in `input`; payloads may have `payload_bytes_max`.
#[inline]
pub fn check(input: &[u8], payload_bytes_max: usize) -> HeaderCheck {
    let [first, second, ..] = *input else {
        return HeaderCheck::Partial;
    };
    // §5.2: reserved bits are for extensions, and none is negotiated.
    if first & 0x70 != 0 {
        return HeaderCheck::Refused(CloseReason::Protocol);
    }
    let Some(opcode) = opcode(first & 0x0f) else {
        return HeaderCheck::Refused(CloseReason::Protocol);
    };
    // §5.1: a server must close on a frame that is not masked.
    if second & 0x80 == 0 {
        return HeaderCheck::Refused(CloseReason::Protocol);
    }
    let fin = first & 0x80 != 0;
    let short = second & 0x7f;
    let control = matches!(opcode, Opcode::Close | Opcode::Ping | Opcode::Pong);
    // §5.5: control frames are whole and have at most 125 bytes.
    if control && (!fin || short > 125) {
        return HeaderCheck::Refused(CloseReason::Protocol);
    }
    let (payload, header_bytes) = match short {
        126 => {
            let Some(bytes) = input.get(2..4) else {
                return HeaderCheck::Partial;
            };
            (be(bytes), 8)
        }
        127 => {
            let Some(bytes) = input.get(2..10) else {
                return HeaderCheck::Partial;
            };
            (be(bytes), 14)
        }
        short => (u64::from(short), 6),
    };
    // §5.2: the minimal number of bytes must be used, and the highest bit must be 0.
    if (short == 126 && payload < 126) || (short == 127 && !(65536..1 << 63).contains(&payload)) {
        return HeaderCheck::Refused(CloseReason::Protocol);
    }
    // §10.4: before any memory is reserved for it.
    if payload > payload_bytes_max as u64 {
        return HeaderCheck::Refused(CloseReason::TooBig);
    }
    let frame_bytes = header_bytes + payload as usize;
    if input.len() < frame_bytes {
        return HeaderCheck::Partial;
    }
    HeaderCheck::Frame(Header {
        opcode,
        fin,
        header_bytes,
        frame_bytes,
    })
}

fn opcode(bits: u8) -> Option<Opcode> {
    Some(match bits {
        0 => Opcode::Continuation,
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        _ => return None,
    })
}

fn be(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, &byte| number << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 70_000;

    fn frame(first: u8, length_bytes: &[u8], payload: usize) -> Vec<u8> {
        let mut frame = vec![first];
        frame.extend_from_slice(length_bytes);
        frame.extend_from_slice(&[1, 2, 3, 4]);
        frame.resize(frame.len() + payload, 0x55);
        frame
    }

    #[test]
    fn legal_frames_pass_in_every_form_of_length() {
        for (length_bytes, payload) in [
            (vec![0x80], 0),
            (vec![0x80 | 125], 125),
            (vec![0xfe, 0, 126], 126),
            (vec![0xfe, 0xff, 0xff], 65_535),
            (vec![0xff, 0, 0, 0, 0, 0, 1, 0, 0], 65_536),
        ] {
            let mut input = frame(0x81, &length_bytes, payload);
            let length = input.len();
            input.extend_from_slice(b"next frame");
            let expected = HeaderCheck::Frame(Header {
                opcode: Opcode::Text,
                fin: true,
                header_bytes: length - payload,
                frame_bytes: length,
            });
            assert_eq!(check(&input, MAX), expected);
            for cut in 0..length.min(40) {
                assert_eq!(
                    check(&input[..cut], MAX),
                    HeaderCheck::Partial,
                    "{payload} cut at {cut}"
                );
            }
            assert_eq!(check(&input[..length - 1], MAX), HeaderCheck::Partial);
        }
    }

    #[test]
    fn what_the_rfc_forbids_is_refused_from_the_header_alone() {
        let protocol: &[(&str, &[u8])] = &[
            ("§5.1 not masked", &[0x81, 0x05]),
            ("§5.2 RSV1", &[0xc1, 0x80]),
            ("§5.2 RSV2", &[0xa1, 0x80]),
            ("§5.2 RSV3", &[0x91, 0x80]),
            ("§5.2 opcode 3", &[0x83, 0x80]),
            ("§5.2 opcode 11", &[0x8b, 0x80]),
            ("§5.5 ping of 126", &[0x89, 0xfe]),
            ("§5.5 pong of 126", &[0x8a, 0xfe]),
            ("§5.5 close of 126", &[0x88, 0xfe]),
            ("§5.5 fragmented ping", &[0x09, 0x80]),
            ("§5.2 16 bits for 125", &[0x81, 0xfe, 0, 125]),
            (
                "§5.2 64 bits for 65535",
                &[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
            ),
            ("§5.2 highest bit", &[0x81, 0xff, 0x80, 0, 0, 0, 0, 1, 0, 0]),
        ];
        for (what, input) in protocol {
            assert_eq!(
                check(input, MAX),
                HeaderCheck::Refused(CloseReason::Protocol),
                "{what}"
            );
        }
        let too_big = [0x82, 0xff, 0, 0, 0, 0, 0, 1, 0x11, 0x71];
        assert_eq!(
            check(&too_big, MAX),
            HeaderCheck::Refused(CloseReason::TooBig),
            "{MAX} and one"
        );
    }

    proptest! {
        #[test]
        fn more_input_changes_nothing_but_partial(input in prop::collection::vec(any::<u8>(), 0..64), cut in 0..64usize) {
            let cut = cut.min(input.len());
            let (part, whole) = (check(&input[..cut], 40), check(&input, 40));
            prop_assert!(part == HeaderCheck::Partial || part == whole, "{part:?} {whole:?}");
            if let HeaderCheck::Frame(header) = whole {
                prop_assert!(header.frame_bytes <= input.len() && header.header_bytes >= 6);
            }
        }
    }
}
