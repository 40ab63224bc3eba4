//! WebSocket frames as a client reads and writes them (RFC 6455 §5.2), over memory only.
//!
//! We do not use a library, as libraries own the socket and a buffer for each session, and this
//! client must be lighter than the server that it measures.

use thiserror::Error;

/// Larger than any answer of the servers under test.
const PAYLOAD_BYTES_MAX: u64 = 16 << 20;

/// Opcodes of §5.2.
pub(crate) const TEXT: u8 = 1;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// A frame from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) fin: bool,
    pub(crate) opcode: u8,
    pub(crate) payload: &'a [u8],
}

impl Frame<'_> {
    /// The code of a close frame, or 1005 if it has none (§7.4.1).
    pub(crate) fn close_code(&self) -> u16 {
        let code = self.payload.first_chunk().copied();
        code.map_or(1005, u16::from_be_bytes)
    }
}

/// A frame that no server may send.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum FrameError {
    #[error("reserved bits or opcode")]
    Reserved,
    #[error("masked frame")]
    Masked,
    #[error("fragmented or too long control frame")]
    Control,
    #[error("frame too long")]
    TooLong,
}

/// Takes the first frame off `input`; `None` while it is incomplete.
pub(crate) fn take<'a>(input: &mut &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
    let [first, second, rest @ ..] = *input else {
        return Ok(None);
    };
    let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
    if first & 0x70 != 0 || !matches!(opcode, 0..=2 | 8..=10) {
        return Err(FrameError::Reserved);
    }
    if second & 0x80 != 0 {
        return Err(FrameError::Masked);
    }
    if opcode >= CLOSE && (!fin || *second > 125) {
        return Err(FrameError::Control);
    }
    let Some((length, rest)) = payload_length(*second, rest) else {
        return Ok(None);
    };
    if length > PAYLOAD_BYTES_MAX {
        return Err(FrameError::TooLong);
    }
    let Some((payload, rest)) = rest.split_at_checked(length as usize) else {
        return Ok(None);
    };
    *input = rest;
    Ok(Some(Frame {
        fin,
        opcode,
        payload,
    }))
}

fn payload_length(short: u8, rest: &[u8]) -> Option<(u64, &[u8])> {
    match short {
        126 => {
            let (length, rest) = rest.split_first_chunk()?;
            Some((u16::from_be_bytes(*length).into(), rest))
        }
        127 => {
            let (length, rest) = rest.split_first_chunk()?;
            Some((u64::from_be_bytes(*length), rest))
        }
        length => Some((length.into(), rest)),
    }
}

/// Appends a whole, masked frame to `out`.
pub(crate) fn put(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    match payload.len() {
        length @ ..126 => out.push(0x80 | length as u8),
        length @ ..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    // A mask of zeros leaves the payload unchanged (§5.3). Masks protect proxies; there is none.
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BINARY: u8 = 2;

    /// As a server sends it.
    fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut masked = Vec::new();
        put(&mut masked, opcode, payload);
        unmasked(&masked, payload.len())
    }

    fn unmasked(frame: &[u8], payload: usize) -> Vec<u8> {
        let (head, tail) = frame.split_at(frame.len() - payload);
        let mut bytes = head[..head.len() - 4].to_vec();
        bytes[1] &= 0x7f;
        bytes.extend_from_slice(tail);
        bytes
    }

    #[test]
    fn the_rfcs_own_examples() {
        // §5.7: "Hello", and a ping of it.
        let mut input = &[0x81, 5, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x89, 5][..];
        let text = Frame {
            fin: true,
            opcode: TEXT,
            payload: b"Hello",
        };
        assert_eq!(take(&mut input), Ok(Some(text)));
        assert_eq!(input, [0x89, 5]);
        assert_eq!(take(&mut input), Ok(None));
        let long = [&[0x82, 126, 1, 0][..], &[7; 256]].concat();
        assert_eq!(frame(BINARY, &[7; 256]), long);
        let mut masked = Vec::new();
        put(&mut masked, PONG, b"Hello");
        assert_eq!(masked, b"\x8a\x85\0\0\0\0Hello");
    }

    #[test]
    fn illegal_frames_are_refused() {
        let refused = |bytes: &[u8]| take(&mut &*bytes).unwrap_err();
        assert_eq!(refused(&[0xc1, 0]), FrameError::Reserved);
        assert_eq!(refused(&[0x83, 0]), FrameError::Reserved);
        assert_eq!(refused(&[0x89, 0x80]), FrameError::Masked);
        assert_eq!(refused(&[0x09, 0]), FrameError::Control);
        assert_eq!(refused(&[0x89, 126]), FrameError::Control);
        assert_eq!(
            refused(&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]),
            FrameError::TooLong
        );
    }

    #[test]
    fn close_codes() {
        let code = |payload: &[u8]| {
            let bytes = frame(CLOSE, payload);
            take(&mut &*bytes).unwrap().unwrap().close_code()
        };
        assert_eq!(code(&[0x11, 0x38, b'x']), 4408);
        assert_eq!(code(b""), 1005);
    }

    proptest! {
        #[test]
        fn frames_of_any_length_survive_encoding_and_parsing(
            frames in proptest::collection::vec((
                prop_oneof![Just(TEXT), Just(BINARY)],
                prop_oneof![0..200usize, 65_500..65_600usize],
            ), 1..4)
        ) {
            let payloads: Vec<_> = frames.iter().map(|&(_, length)| vec![length as u8; length]).collect();
            let mut bytes = Vec::new();
            for ((opcode, _), payload) in frames.iter().zip(&payloads) {
                bytes.extend(frame(*opcode, payload));
            }
            let mut input = &bytes[..];
            for ((opcode, _), payload) in frames.iter().zip(&payloads) {
                let read = take(&mut input).unwrap().unwrap();
                prop_assert_eq!(read, Frame { fin: true, opcode: *opcode, payload });
            }
            prop_assert!(input.is_empty());
        }

        #[test]
        fn a_cut_frame_is_incomplete(
            length in prop_oneof![0..130usize, 65_530..65_540usize], cut: prop::sample::Index,
        ) {
            let bytes = frame(BINARY, &vec![1; length]);
            let mut input = &bytes[..cut.index(bytes.len())];
            let before = input;
            prop_assert_eq!(take(&mut input), Ok(None));
            prop_assert_eq!(input, before);
        }

        #[test]
        fn no_input_causes_a_panic(bytes: Vec<u8>) {
            let mut input = &bytes[..];
            while let Ok(Some(_)) = take(&mut input) {}
        }
    }
}
