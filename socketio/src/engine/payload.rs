//! Packets in the body of a polling request or answer, joined by [`SEPARATOR`].
//!
//! A payload is read one packet after another, where it stands: a text packet costs no copy, base64
//! is decoded over itself, and the cost of each is proportional to its bytes. So a body of a million
//! tiny packets costs what its bytes cost, and the caller may stop after any of them.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::packet::{BadPacket, Packet};
use crate::limits::BASE64_CHUNK_BYTES;

/// Stands between packets. JSON never has it: there it is escaped.
pub const SEPARATOR: u8 = 0x1E;

/// Begins a binary packet.
const BINARY: u8 = b'b';

/// The packets of a body, in order. Ends behind the first that is none.
#[derive(Debug)]
pub struct Payload<'a> {
    rest: Option<&'a mut [u8]>,
}

impl<'a> Payload<'a> {
    /// Reads a body; what has been read of it is overwritten. An empty body is a bad packet.
    pub fn new(body: &'a mut [u8]) -> Payload<'a> {
        Payload { rest: Some(body) }
    }
}

impl<'a> Iterator for Payload<'a> {
    type Item = Result<Packet<'a>, BadPacket>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        let piece = match memchr::memchr(SEPARATOR, rest) {
            None => rest,
            Some(at) => {
                let (piece, from_separator) = rest.split_at_mut(at);
                self.rest = from_separator.split_first_mut().map(|(_, rest)| rest);
                piece
            }
        };
        let packet = read(piece);
        if packet.is_err() {
            self.rest = None;
        }
        Some(packet)
    }
}

impl std::iter::FusedIterator for Payload<'_> {}

fn read(piece: &mut [u8]) -> Result<Packet<'_>, BadPacket> {
    match piece {
        [BINARY, base64 @ ..] => {
            let bytes = decode_in_place(base64).ok_or(BadPacket::Base64)?;
            let (data, _) = base64.split_at(bytes);
            Ok(Packet::Binary(data))
        }
        text => Packet::from_text(text),
    }
}

/// Decodes padded base64 over itself; returns the bytes of the result.
fn decode_in_place(text: &mut [u8]) -> Option<usize> {
    let mut chunk = [0; BASE64_CHUNK_BYTES];
    let (mut read, mut written) = (0, 0);
    while read < text.len() {
        let chunk = &mut chunk[..BASE64_CHUNK_BYTES.min(text.len() - read)];
        chunk.copy_from_slice(&text[read..read + chunk.len()]);
        read += chunk.len();
        // Padding only at the end.
        let engine = match read < text.len() {
            true => &STANDARD_NO_PAD,
            false => &STANDARD,
        };
        written += engine.decode_slice(&*chunk, &mut text[written..]).ok()?;
    }
    Some(written)
}

/// Appends a packet to a body; the first one if that is empty. The data of a text packet has no
/// [`SEPARATOR`].
pub fn push(body: &mut Vec<u8>, packet: Packet<'_>) {
    if !body.is_empty() {
        body.push(SEPARATOR);
    }
    match packet {
        Packet::Text(kind, data) => {
            body.push(kind.digit());
            body.extend_from_slice(data);
        }
        Packet::Binary(data) => {
            body.push(BINARY);
            let start = body.len();
            // A length that overflows is longer than memory.
            let bytes = base64::encoded_len(data.len(), true).unwrap_or(usize::MAX);
            body.resize(start + bytes, 0);
            let written = STANDARD.encode_slice(data, &mut body[start..]);
            debug_assert_eq!(written, Ok(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::engine::packet::Kind;

    /// Owned, as a payload's packets stand in its body.
    type Owned = Result<(Option<Kind>, Vec<u8>), BadPacket>;

    fn packets(body: &[u8]) -> Vec<Owned> {
        Payload::new(&mut body.to_vec())
            .map(|packet| match packet? {
                Packet::Text(kind, data) => Ok((Some(kind), data.to_vec())),
                Packet::Binary(data) => Ok((None, data.to_vec())),
            })
            .collect()
    }

    fn text(kind: Kind, data: &str) -> Owned {
        Ok((Some(kind), data.into()))
    }

    #[test]
    fn packets_and_base64() {
        assert_eq!(
            packets(b"42[\"a\"]\x1e3\x1ebAQIDBA=="),
            [
                text(Kind::Message, "2[\"a\"]"),
                text(Kind::Pong, ""),
                Ok((None, vec![1, 2, 3, 4])),
            ]
        );
        assert_eq!(packets(b"b"), [Ok((None, vec![]))]);
    }

    #[test]
    fn it_ends_behind_a_bad_packet() {
        let cases: &[(&[u8], BadPacket)] = &[
            (b"", BadPacket::Empty),
            (b"7\x1e4", BadPacket::Kind),
            (b"4\xff\x1e4", BadPacket::Utf8),
            (b"bA\x1e4", BadPacket::Base64),
            (b"bAQIDBA\x1e4", BadPacket::Base64),
            (b"bAQ==AQ==\x1e4", BadPacket::Base64),
            (b"bAQ==x", BadPacket::Base64),
            // Another spelling of the same byte.
            (b"bAR==", BadPacket::Base64),
            ("b\u{e9}\u{e9}".as_bytes(), BadPacket::Base64),
        ];
        for (body, bad) in cases {
            assert_eq!(packets(body), [Err(*bad)], "{body:?}");
        }
        // An empty piece, wherever.
        let pong = text(Kind::Pong, "");
        assert_eq!(packets(b"\x1e3"), [Err(BadPacket::Empty)]);
        assert_eq!(packets(b"3\x1e"), [pong.clone(), Err(BadPacket::Empty)]);
        assert_eq!(packets(b"3\x1e\x1e3"), [pong, Err(BadPacket::Empty)]);
    }

    #[test]
    fn long_base64_is_padded_at_its_end_alone() {
        let data: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
        for bytes in [765, 766, 767, 768, 769, 1535, 1536, 1537, 10_000] {
            let mut body = Vec::new();
            push(&mut body, Packet::Binary(&data[..bytes]));
            assert_eq!(packets(&body), [Ok((None, data[..bytes].to_vec()))]);
        }
        let mut body = vec![b'A'; 4 * BASE64_CHUNK_BYTES];
        body[0] = b'b';
        body.push(b'A');
        body[BASE64_CHUNK_BYTES] = b'=';
        assert_eq!(packets(&body), [Err(BadPacket::Base64)]);
    }

    /// CVE-2020-36048: one POST of very many tiny packets took CPU and memory without end.
    #[test]
    fn a_million_tiny_packets_are_read_where_they_stand() {
        let mut body = b"3\x1e".repeat(499_999);
        body.push(b'3');
        let range = body.as_ptr_range();
        let mut count = 0;
        for packet in Payload::new(&mut body) {
            let Ok(Packet::Text(Kind::Pong, data)) = packet else {
                panic!("{packet:?}");
            };
            assert!(range.start < data.as_ptr() && data.as_ptr() <= range.end);
            count += 1;
        }
        assert_eq!(count, 500_000);
    }

    proptest! {
        #[test]
        fn what_is_pushed_is_read(
            sent in vec((0u8..8, "[^\u{1e}]{0,20}", vec(any::<u8>(), 0..2000)), 1..20)
        ) {
            let mut body = Vec::new();
            let mut expected = Vec::new();
            for (number, data, bytes) in &sent {
                match Kind::from_digit(b'0' + number) {
                    Some(kind) => {
                        push(&mut body, Packet::Text(kind, data.as_bytes()));
                        expected.push(text(kind, data));
                    }
                    None => {
                        push(&mut body, Packet::Binary(bytes));
                        expected.push(Ok((None, bytes.clone())));
                    }
                }
            }
            prop_assert_eq!(packets(&body), expected);
        }

        /// A body that is cut has the same packets before the cut; only the last may be another.
        #[test]
        fn any_cut(body in vec(prop_oneof![Just(0x1e), Just(b'b'), b'0'..b'8', any::<u8>()], 0..60)) {
            let whole = packets(&body);
            for cut in 0..body.len() {
                let part = packets(&body[..cut]);
                let same = part.len() - 1;
                prop_assert_eq!(&part[..same], &whole[..same]);
            }
        }
    }
}
