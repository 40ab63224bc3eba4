//! What proxies say of their callers: the header of the PROXY protocol, `X-Forwarded-For` and
//! `Forwarded`, and the networks that an operator trusts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use presenced::gateway::forwarded::ForwardedHeader;
use presenced::gateway::proxies::network;
use presenced::gateway::proxy_header::{ProxyHeader, ProxyHeaderError, parse};

use super::pieces::pieces;

/// Takes the bytes as what a connection begins with, as the lines of a header, and as a network.
pub fn proxies(data: &[u8]) {
    as_proxy_header(data);
    as_forwarded(data);
    if let Ok(text) = str::from_utf8(data)
        && let Ok(found) = network(text)
    {
        assert_eq!(network(&found.to_string()), Ok(found));
        assert!(found.contains(&found.network()) && found.contains(&found.broadcast()));
    }
}

/// What is found is what a naive reading finds, and is found as soon as it is there.
fn as_proxy_header(data: &[u8]) {
    let found = parse(data);
    if let Ok(Some(header)) = found {
        assert!(header.len <= data.len() && header.len <= 4096, "{header:?}");
        assert_eq!(parse(&data[..header.len]), found);
        assert_eq!(parse(&data[..header.len - 1]), Ok(None));
    }
    let mut end = 0;
    for piece in pieces(data) {
        end += piece.len();
        let early = parse(&data[..end]);
        assert!(
            early == Ok(None) || early == found,
            "{early:?} then {found:?}"
        );
    }
    let naive = match data {
        [b'\r', ..] => naive_binary(data),
        _ => naive_line(data),
    };
    match naive {
        Some(header) => assert_eq!(found, Ok(Some(header))),
        None => assert!(
            matches!(found, Ok(None) | Err(ProxyHeaderError)),
            "{found:?}"
        ),
    }
}

/// A whole line of version 1.
fn naive_line(data: &[u8]) -> Option<ProxyHeader> {
    let text: String = data
        .iter()
        .take(107)
        .map(|&byte| char::from(byte))
        .collect();
    let line = &text[..text.find("\r\n")?];
    // Latin-1 has told each byte apart; only UTF-8 is legal.
    let len = line.chars().count() + 2;
    str::from_utf8(&data[..len]).ok()?;
    let words: Vec<_> = line.split(' ').collect();
    let port = |word: &str| word.chars().all(|c| c.is_ascii_digit()) && word.parse::<u16>().is_ok();
    let source = match words[..] {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", "TCP4", from, to, a, b] if port(a) && port(b) => {
            to.parse::<Ipv4Addr>().ok()?;
            Some(IpAddr::V4(from.parse().ok()?))
        }
        ["PROXY", "TCP6", from, to, a, b] if port(a) && port(b) => {
            to.parse::<Ipv6Addr>().ok()?;
            Some(IpAddr::V6(from.parse().ok()?).to_canonical())
        }
        _ => return None,
    };
    Some(ProxyHeader { len, source })
}

/// A whole header of version 2.
fn naive_binary(data: &[u8]) -> Option<ProxyHeader> {
    let rest = data.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n")?;
    let (&[command, family, high, low], block) = rest.split_first_chunk()?;
    let length = usize::from(high) << 8 | usize::from(low);
    let block = block.get(..length).filter(|_| length <= 4080)?;
    let source = match (command, family >> 4, family & 15) {
        (0x21, 1, 1 | 2) => {
            let source: [u8; 4] = *block.get(..12)?.first_chunk()?;
            Some(IpAddr::from(source))
        }
        (0x21, 2, 1 | 2) => {
            let source: [u8; 16] = *block.get(..36)?.first_chunk()?;
            Some(IpAddr::from(source).to_canonical())
        }
        (0x20, ..) | (0x21, 0 | 3, 0..=2) | (0x21, 1 | 2, 0) => None,
        _ => return None,
    };
    let len = 16 + length;
    Some(ProxyHeader { len, source })
}

fn is_trusted(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 10)
}

/// What a trusted proxy adds is believed, whatever stands before it; and nothing is found that
/// nobody has written.
fn as_forwarded(data: &[u8]) {
    let peer = IpAddr::from([10, 0, 0, 1]);
    let kinds = [
        (
            ForwardedHeader::XForwardedFor,
            "x-forwarded-for",
            "192.0.2.1",
        ),
        (
            ForwardedHeader::Forwarded,
            "forwarded",
            "for=192.0.2.1;proto=http",
        ),
    ];
    for (kind, name, added) in kinds {
        let name = HeaderName::from_static(name);
        let mut headers = HeaderMap::new();
        for line in data.split(|&byte| byte == b'\n') {
            if let Ok(line) = HeaderValue::from_bytes(line.trim_ascii()) {
                headers.append(&name, line);
            }
        }
        let caller = |headers: &HeaderMap| kind.caller(headers, peer, is_trusted);
        assert_eq!(
            ForwardedHeader::None.caller(&headers, peer, is_trusted),
            peer
        );
        let found = caller(&headers);
        if kind == ForwardedHeader::XForwardedFor {
            assert_eq!(found, naive_caller(&headers, peer));
        }
        // A caller who is not trusted says nothing of others.
        let stranger = IpAddr::from([192, 0, 2, 9]);
        assert_eq!(kind.caller(&headers, stranger, is_trusted), stranger);
        let last = headers.get_all(&name).iter().next_back().cloned();
        let mut on_line_of_its_own = headers.clone();
        on_line_of_its_own.append(&name, HeaderValue::from_static(added));
        assert_eq!(caller(&on_line_of_its_own), IpAddr::from([192, 0, 2, 1]));
        if let Some(last) = last {
            let joined = [last.as_bytes(), b", ", added.as_bytes()].concat();
            headers.append(&name, HeaderValue::from_bytes(&joined).unwrap());
            assert_eq!(caller(&headers), IpAddr::from([192, 0, 2, 1]));
        }
    }
}

/// `X-Forwarded-For`, read from the left.
fn naive_caller(headers: &HeaderMap, peer: IpAddr) -> IpAddr {
    let lines = headers.get_all("x-forwarded-for");
    let lines = lines
        .iter()
        .map(HeaderValue::as_bytes)
        .collect::<Vec<_>>()
        .join(&b',');
    let elements = lines.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    let elements = elements.filter(|element| !element.is_empty());
    let mut known: Vec<_> = elements.map(naive_node).chain([Some(peer)]).collect();
    // Behind the last that is no trusted proxy's nothing is believed.
    let is_proxy = |address: &Option<IpAddr>| address.is_some_and(is_trusted);
    if let Some(end) = known.iter().rposition(|address| !is_proxy(address)) {
        known.drain(..end);
    }
    known.into_iter().flatten().next().unwrap_or(peer)
}

fn naive_node(element: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(element).ok()?;
    let address = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']')? {
            (host, "") => IpAddr::V6(host.parse().ok()?),
            (host, port) => {
                port.strip_prefix(':')?;
                IpAddr::V6(host.parse().ok()?)
            }
        },
        None if text.matches(':').count() == 1 => text.split(':').next()?.parse().ok()?,
        None => text.parse().ok()?,
    };
    Some(address.to_canonical())
}
