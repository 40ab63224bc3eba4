//! Where a request comes from, as proxies tell it in a header: `X-Forwarded-For`, or `Forwarded`
//! (RFC 7239).
//!
//! Each proxy adds the address that it was called from at the right end. A client may send such a
//! header itself, so only what trusted proxies have added is believed: the list is read from the
//! right, up to the first address that is no trusted proxy's. What is further left is the client's
//! own, and is not even looked at.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::IpAddr;

use clap::ValueEnum;
use hyper::header::{FORWARDED, HeaderMap, HeaderName};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The header that proxies tell it in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ForwardedHeader {
    /// No header is trusted.
    #[default]
    None,
    /// `X-Forwarded-For: 192.0.2.1, 10.0.0.7`.
    XForwardedFor,
    /// `Forwarded: for=192.0.2.1, for="[2001:db8::7]:4711"`.
    Forwarded,
}

/// Reads the address in an element of the header.
type ReadAddress = fn(&[u8]) -> Option<IpAddr>;

impl ForwardedHeader {
    /// The address that a request comes from that was sent by `peer`: the rightmost one that is not
    /// trusted. If a trusted proxy tells none that can be read, it is that proxy's own.
    pub fn caller(
        self,
        headers: &HeaderMap,
        peer: IpAddr,
        is_trusted: impl Fn(IpAddr) -> bool,
    ) -> IpAddr {
        let (name, may_quote, address): (_, _, ReadAddress) = match self {
            ForwardedHeader::None => return peer,
            ForwardedHeader::XForwardedFor => (X_FORWARDED_FOR, false, node),
            ForwardedHeader::Forwarded => (FORWARDED, true, of_element),
        };
        let mut caller = peer;
        let lines = headers.get_all(name).iter().rev();
        let elements = lines.flat_map(|line| Parts::new(line.as_bytes(), b',', may_quote));
        // RFC 9110 §5.6.1: empty elements are no elements.
        for element in elements.filter(|element| !element.is_empty()) {
            if !is_trusted(caller) {
                break;
            }
            match address(element) {
                Some(address) => caller = address,
                None => break,
            }
        }
        caller
    }
}

/// The parts of a list, the last one first, without white space around them.
struct Parts<'a> {
    left: Option<&'a [u8]>,
    separator: u8,
    /// Whether a separator may be in a quoted string (RFC 9110 §5.6.4), where it separates nothing.
    may_quote: bool,
}

impl<'a> Parts<'a> {
    fn new(list: &'a [u8], separator: u8, may_quote: bool) -> Parts<'a> {
        Parts {
            left: Some(list),
            separator,
            may_quote,
        }
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a [u8];

    /// Looks from the right, so that nothing to the left, such as a quote that a client has left
    /// open, changes what the last proxy has said.
    fn next(&mut self) -> Option<&'a [u8]> {
        let list = self.left.take()?;
        let mut is_quoted = false;
        for (place, &byte) in list.iter().enumerate().rev() {
            if byte == b'"' && self.may_quote {
                let before = list[..place].iter().rev();
                let is_escaped = before.take_while(|byte| **byte == b'\\').count() % 2 == 1;
                is_quoted ^= !(is_quoted && is_escaped);
            } else if byte == self.separator && !is_quoted {
                self.left = Some(&list[..place]);
                return Some(list[place + 1..].trim_ascii());
            }
        }
        Some(list.trim_ascii())
    }
}

/// The address of the parameter `for` of an element (RFC 7239 §4), if it has exactly one.
fn of_element(element: &[u8]) -> Option<IpAddr> {
    let mut of = Parts::new(element, b';', true).filter_map(|parameter| {
        let equals = parameter.iter().position(|&byte| byte == b'=')?;
        let (name, value) = parameter.split_at(equals);
        let is_for = name.trim_ascii().eq_ignore_ascii_case(b"for");
        is_for.then(|| value[1..].trim_ascii())
    });
    let value = of.next().filter(|_| of.next().is_none())?;
    let quoted = value
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    node(quoted.unwrap_or(value))
}

/// The address of a node (RFC 7239 §6), whose port may be there and is passed over. Also an IPv6
/// address without brackets, as `X-Forwarded-For` has it.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let host = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            if !port.is_empty() && !port.starts_with(':') {
                return None;
            }
            host
        }
        // One colon is that of a port, several are an IPv6 address.
        None => match text.split_once(':') {
            Some((host, port)) if !port.contains(':') => host,
            _ => text,
        },
    };
    let address: IpAddr = host.parse().ok()?;
    // Brackets are for IPv6 alone.
    (!text.starts_with('[') || address.is_ipv6()).then(|| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// 10.0.0.0/8 is trusted.
    fn is_trusted(address: IpAddr) -> bool {
        matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 10)
    }

    fn caller(kind: ForwardedHeader, lines: &[&[u8]]) -> IpAddr {
        let mut headers = HeaderMap::new();
        for line in lines {
            let name = match kind {
                ForwardedHeader::Forwarded => FORWARDED,
                _ => X_FORWARDED_FOR,
            };
            headers.append(name, line.to_vec().try_into().unwrap());
        }
        kind.caller(&headers, ip("10.0.0.1"), is_trusted)
    }

    #[test]
    fn the_rightmost_address_that_is_not_trusted() {
        let of = |lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
            caller(ForwardedHeader::XForwardedFor, &lines).to_string()
        };
        for (lines, expected) in [
            (&[][..], "10.0.0.1"),
            (&[""], "10.0.0.1"),
            (&["192.0.2.1"], "192.0.2.1"),
            // What a client has sent itself is on the left.
            (&["203.0.113.9, 192.0.2.1"], "192.0.2.1"),
            (&["203.0.113.9", "192.0.2.1"], "192.0.2.1"),
            (&["10.9.9.9, 192.0.2.1 ,10.0.0.2,\t10.0.0.3"], "192.0.2.1"),
            (&["192.0.2.1, 10.0.0.2", "10.0.0.3"], "192.0.2.1"),
            (&["192.0.2.1,, ,"], "192.0.2.1"),
            // All are trusted: the one that is furthest away.
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            (&["192.0.2.1:4711"], "192.0.2.1"),
            (&["2001:db8::7"], "2001:db8::7"),
            (&["[2001:db8::7]"], "2001:db8::7"),
            (&["[2001:db8::7]:4711"], "2001:db8::7"),
            (&["::ffff:192.0.2.1"], "192.0.2.1"),
            (&["192.0.2.1, ::ffff:10.0.0.2"], "192.0.2.1"),
            // What can't be read ends what is believed.
            (&["192.0.2.1, unknown"], "10.0.0.1"),
            (&["192.0.2.1, unknown, 10.0.0.2"], "10.0.0.2"),
            (&["192.0.2.1, 10.0.0.256"], "10.0.0.1"),
            (&["192.0.2.1, [192.0.2.1]"], "10.0.0.1"),
            (&["192.0.2.1, [2001:db8::7]x"], "10.0.0.1"),
            (&["192.0.2.1, \"192.0.2.3\""], "10.0.0.1"),
            (&["192.0.2.1 192.0.2.2"], "10.0.0.1"),
        ] {
            assert_eq!(of(lines), expected, "{lines:?}");
        }
        let bytes: &[&[u8]] = &[b"\xff\xfe\", 192.0.2.1"];
        assert_eq!(
            caller(ForwardedHeader::XForwardedFor, bytes),
            ip("192.0.2.1")
        );
        let forwarded: &[&[u8]] = &[b"for=192.0.2.1"];
        assert_eq!(caller(ForwardedHeader::None, forwarded), ip("10.0.0.1"));
    }

    #[test]
    fn elements_of_rfc_7239() {
        let of = |lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
            caller(ForwardedHeader::Forwarded, &lines).to_string()
        };
        for (lines, expected) in [
            (&["for=192.0.2.1"][..], "192.0.2.1"),
            (&["For=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17"),
            (
                &["for=192.0.2.60; proto=http ; by=203.0.113.43"],
                "192.0.2.60",
            ),
            (&["proto=https;FOR=192.0.2.60"], "192.0.2.60"),
            (&["for=192.0.2.43, for=198.51.100.17"], "198.51.100.17"),
            (&["for=192.0.2.43, for=10.1.1.1;by=10.2.2.2"], "192.0.2.43"),
            (&["for=192.0.2.43", "for=10.1.1.1"], "192.0.2.43"),
            (&["for=\"192.0.2.43:47011\""], "192.0.2.43"),
            (&["for=\"192.0.2.43:_port\""], "192.0.2.43"),
            // Commas, semicolons and quotes within quotes.
            (
                &["for=192.0.2.1;host=\"a, for=1.1.1.1; \\\" b\""],
                "192.0.2.1",
            ),
            (&["for=1.1.1.1;x=\"\\\\\", for=192.0.2.1"], "192.0.2.1"),
            // A client's quote that it has left open changes nothing to the right of it.
            (&["for=\"1.1.1.1, for=192.0.2.1"], "192.0.2.1"),
            (&["\", for=192.0.2.1"], "192.0.2.1"),
            (&["for=\"1.1.1.1\\, for=192.0.2.1"], "192.0.2.1"),
            // No address, or more than one.
            (&["for=192.0.2.1, for=unknown"], "10.0.0.1"),
            (&["for=192.0.2.1, for=_hidden"], "10.0.0.1"),
            (&["for=192.0.2.1, by=10.0.0.1"], "10.0.0.1"),
            (&["for=192.0.2.1, for"], "10.0.0.1"),
            (&["for=192.0.2.1;for=192.0.2.2"], "10.0.0.1"),
            (&["192.0.2.1"], "10.0.0.1"),
        ] {
            assert_eq!(of(lines), expected, "{lines:?}");
        }
    }

    proptest! {
        /// Whatever a client sends, the address that the proxy adds behind it is the one that
        /// counts.
        #[test]
        fn nothing_that_a_client_sends_hides_its_address(
            sent in vec(prop_oneof![Just(b'"'), Just(b','), Just(b'\\'), Just(b';'), 0x20..0x7f_u8, 0x80..=0xff_u8], 0..60),
            own in any::<[u8; 4]>(),
            on_line_of_its_own in any::<bool>(),
            is_forwarded in any::<bool>(),
        ) {
            let client = IpAddr::from([192, own[1], own[2], own[3]]);
            let (kind, added) = match is_forwarded {
                true => (ForwardedHeader::Forwarded, format!("for={client};proto=https")),
                false => (ForwardedHeader::XForwardedFor, client.to_string()),
            };
            let (added, joined) = (added.as_bytes(), [&sent[..], b", ", added.as_bytes()].concat());
            let lines: &[&[u8]] = if on_line_of_its_own { &[&sent, added] } else { &[&joined] };
            prop_assert_eq!(caller(kind, lines), client);
        }
    }
}
