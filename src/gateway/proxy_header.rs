//! The header that a proxy puts before all else on a connection, to say where it comes from:
//! HAProxy's PROXY protocol, versions 1 and 2
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).
//!
//! What comes after the address (destination, TLVs) is passed over.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use thiserror::Error;

use crate::limits::{PROXY_V1_BYTES_MAX, PROXY_V2_BYTES_MAX};

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Bytes that it takes.
    pub len: usize,
    /// Where the connection comes from; `None` if the proxy speaks for itself (`LOCAL`, a health
    /// check) or does not know (`UNKNOWN`, `UNSPEC`, a Unix socket).
    pub source: Option<IpAddr>,
}

/// The connection does not begin with a header.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a header of the PROXY protocol")]
pub struct ProxyHeaderError;

const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The start, version and command, family, and the length of what follows.
const V2_FIXED_BYTES: usize = V2_START.len() + 4;

/// Reads the header that `bytes` begin with; `None` if more of it is to come.
///
/// # Errors
///
/// There is none, or not a legal one.
pub fn parse(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    if begins(bytes, V1_START) {
        return v1(bytes);
    }
    if begins(bytes, V2_START) {
        return v2(bytes);
    }
    Err(ProxyHeaderError)
}

/// Whether `bytes` begin with `start`, as far as they have come.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(byte, other)| byte == other)
}

/// §2.1: a line of words.
fn v1(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    let within = &bytes[..bytes.len().min(PROXY_V1_BYTES_MAX)];
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return match bytes.len() < PROXY_V1_BYTES_MAX {
            true => Ok(None),
            false => Err(ProxyHeaderError),
        };
    };
    let line = std::str::from_utf8(&within[V1_START.len().min(end)..end]);
    let words: Vec<_> = line.map_err(|_| ProxyHeaderError)?.split(' ').collect();
    let source = match words[..] {
        // What else the line has is not to be looked at.
        ["UNKNOWN", ..] => None,
        ["TCP4", source, destination, ref ports @ ..] if are_ports(ports) => {
            both::<Ipv4Addr>(source, destination)
        }
        ["TCP6", source, destination, ref ports @ ..] if are_ports(ports) => {
            both::<Ipv6Addr>(source, destination)
        }
        _ => return Err(ProxyHeaderError),
    };
    match (source, words[0]) {
        (None, "TCP4" | "TCP6") => Err(ProxyHeaderError),
        _ => Ok(Some(ProxyHeader {
            len: end + 2,
            source,
        })),
    }
}

/// The first of two addresses, if both are legal.
fn both<A: std::str::FromStr + Into<IpAddr>>(source: &str, destination: &str) -> Option<IpAddr> {
    destination.parse::<A>().ok()?;
    Some(source.parse::<A>().ok()?.into().to_canonical())
}

fn are_ports(words: &[&str]) -> bool {
    let is_port = |word: &&str| {
        // Rust would take a sign.
        word.bytes().all(|byte| byte.is_ascii_digit()) && word.parse::<u16>().is_ok()
    };
    words.len() == 2 && words.iter().all(is_port)
}

/// §2.2: binary.
fn v2(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    let Some(fixed) = bytes.get(V2_START.len()..V2_FIXED_BYTES) else {
        return Ok(None);
    };
    let len = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    if len > PROXY_V2_BYTES_MAX {
        return Err(ProxyHeaderError);
    }
    let is_local = match fixed[0] {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyHeaderError),
    };
    let Some(block) = bytes.get(V2_FIXED_BYTES..len) else {
        return Ok(None);
    };
    let source = match fixed[1] {
        // Whatever the rest says: it is not about a client.
        _ if is_local => None,
        // Over TCP or UDP.
        0x11 | 0x12 => Some(Ipv4Addr::from(address(block, 0..4, 12)?).into()),
        0x21 | 0x22 => Some(Ipv6Addr::from(address(block, 0..16, 36)?).into()),
        // None at all, or a Unix socket.
        0x00..=0x02 | 0x10 | 0x20 | 0x30..=0x32 => None,
        _ => return Err(ProxyHeaderError),
    };
    let source = source.map(|source: IpAddr| source.to_canonical());
    Ok(Some(ProxyHeader { len, source }))
}

/// The bytes of the source's address; the addresses and ports take `all_bytes`.
fn address<const N: usize>(
    block: &[u8],
    place: Range<usize>,
    all_bytes: usize,
) -> Result<[u8; N], ProxyHeaderError> {
    let addresses = block.get(..all_bytes).ok_or(ProxyHeaderError)?;
    let source = addresses.get(place).ok_or(ProxyHeaderError)?;
    source.try_into().map_err(|_| ProxyHeaderError)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A header of version 2, with the length of its block.
    fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = (block.len() as u16).to_be_bytes();
        [V2_START, &[command, family], &length, block].concat()
    }

    fn source(bytes: impl AsRef<[u8]>) -> Result<Option<IpAddr>, ProxyHeaderError> {
        let header = parse(bytes.as_ref())?.expect("it is whole");
        assert_eq!(header.len, bytes.as_ref().len());
        Ok(header.source)
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn lines() {
        for (line, expected) in [
            (
                "PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n",
                ip("192.0.2.1"),
            ),
            (
                "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
                ip("255.255.255.255"),
            ),
            ("PROXY TCP6 2001:db8::7 ::1 0 443\r\n", ip("2001:db8::7")),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 443\r\n", ip("192.0.2.1")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ff:: ::1 1 2 whatever else\r\n", None),
        ] {
            assert_eq!(source(line), Ok(expected), "{line}");
        }
        // The longest that the specification knows.
        let ones = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let longest = format!("PROXY UNKNOWN {ones} {ones} 65535 65535\r\n");
        assert_eq!(
            (longest.len(), source(&longest)),
            (PROXY_V1_BYTES_MAX, Ok(None))
        );
        assert_eq!(
            parse(longest.replace("UNK", "xUNK").as_bytes()),
            Err(ProxyHeaderError)
        );
    }

    #[test]
    fn what_is_no_line() {
        for line in [
            "GET / HTTP/1.1\r\n",
            "proxy TCP4 192.0.2.1 10.0.0.1 1 2\r\n",
            "PROXYTCP4 192.0.2.1 10.0.0.1 1 2\r\n",
            "PROXY\r\n",
            "PROXY \r\n",
            "PROXY TCP5 192.0.2.1 10.0.0.1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 1\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 1 2 3\r\n",
            "PROXY TCP4 192.0.2.1  10.0.0.1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 1 65536\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 1 \r\n",
            "PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 10.0.0.1 1 2\r\n",
            "PROXY TCP4 192.0.2.01 10.0.0.1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 1 2\n\r\n",
            "PROXY UNKNOWNx\r\n",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(ProxyHeaderError), "{line}");
        }
        let endless = "PROXY UNKNOWN ".to_owned() + &"x".repeat(PROXY_V1_BYTES_MAX);
        assert_eq!(
            parse(&endless.as_bytes()[..PROXY_V1_BYTES_MAX - 1]),
            Ok(None)
        );
        assert_eq!(parse(endless.as_bytes()), Err(ProxyHeaderError));
    }

    #[test]
    fn binaries() {
        let four = [192, 0, 2, 1, 10, 0, 0, 1, 1, 2, 3, 4];
        let six: Vec<u8> = (0..36).collect();
        let mapped = ["::ffff:192.0.2.1", "::1"].map(|text| text.parse::<Ipv6Addr>().unwrap());
        let mapped = [&mapped[0].octets()[..], &mapped[1].octets(), &[0; 4]].concat();
        let with_tlv = [&four[..], &[4, 0, 1, 9]].concat();
        for (command, family, block, expected) in [
            (0x21, 0x11, &four[..], ip("192.0.2.1")),
            (0x21, 0x12, &four, ip("192.0.2.1")),
            (0x21, 0x11, &with_tlv, ip("192.0.2.1")),
            (0x21, 0x21, &six, ip("1:203:405:607:809:a0b:c0d:e0f")),
            (0x21, 0x21, &mapped, ip("192.0.2.1")),
            (0x21, 0x00, &[], None),
            (0x21, 0x31, &[0; 216], None),
            // LOCAL: the family and the block are not to be looked at.
            (0x20, 0x00, &[], None),
            (0x20, 0x11, &four, None),
            (0x20, 0x11, &[], None),
            (0x20, 0xff, &[1, 2, 3], None),
        ] {
            let header = binary(command, family, block);
            assert_eq!(source(&header), Ok(expected), "{header:x?}");
        }
        for (command, family, block) in [
            (0x11, 0x11, &four[..]),
            (0x22, 0x11, &four),
            (0x2f, 0x11, &four),
            (0x21, 0x13, &four),
            (0x21, 0x41, &four),
            (0x21, 0x11, &four[..11]),
            (0x21, 0x21, &six[..35]),
            (0x21, 0x00, &[0; PROXY_V2_BYTES_MAX - V2_FIXED_BYTES + 1]),
        ] {
            let header = binary(command, family, block);
            assert_eq!(parse(&header), Err(ProxyHeaderError), "{header:x?}");
        }
        let longest = binary(0x21, 0x00, &[0; PROXY_V2_BYTES_MAX - V2_FIXED_BYTES]);
        assert_eq!(source(longest), Ok(None));
    }

    /// Legal headers of both versions.
    fn header() -> impl Strategy<Value = (Vec<u8>, Option<IpAddr>)> {
        let line = (any::<[Ipv4Addr; 2]>(), any::<[u16; 2]>()).prop_map(|([from, to], [a, b])| {
            let line = format!("PROXY TCP4 {from} {to} {a} {b}\r\n");
            (line.into_bytes(), Some(IpAddr::from(from).to_canonical()))
        });
        let six =
            (any::<[Ipv6Addr; 2]>(), vec(any::<u8>(), 4..60)).prop_map(|([from, to], rest)| {
                let block = [&from.octets()[..], &to.octets(), &rest].concat();
                let header = binary(0x21, 0x21, &block);
                (header, Some(IpAddr::from(from).to_canonical()))
            });
        prop_oneof![line, six]
    }

    proptest! {
        #[test]
        fn a_header_is_whole_when_its_last_byte_is_there(
            (header, source) in header(),
            behind in vec(any::<u8>(), 0..20),
        ) {
            for end in 0..header.len() {
                prop_assert_eq!(parse(&header[..end]), Ok(None));
            }
            let whole = ProxyHeader { len: header.len(), source };
            prop_assert_eq!(parse(&[header, behind].concat()), Ok(Some(whole)));
        }

        #[test]
        fn any_bytes_are_judged_the_same_however_they_are_cut(
            start in prop_oneof![Just(V1_START), Just(V2_START), Just(&b""[..])],
            bytes in vec(any::<u8>(), 0..200),
        ) {
            let bytes = [start, &bytes].concat();
            let judged = parse(&bytes);
            for end in 0..bytes.len() {
                let early = parse(&bytes[..end]);
                prop_assert!(early == Ok(None) || early == judged, "{early:?} then {judged:?}");
            }
        }
    }
}
