//! Addresses to listen on, as people write them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The parser of a flag that is an address to listen on: `127.0.0.1:8080`, `[::1]:8080`,
/// `localhost:8080`, or `:8080` for every address of this machine.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (name, port) = text.rsplit_once(':').ok_or(EXPECTED)?;
    let port = port.parse().map_err(|_| EXPECTED)?;
    let ip = match name {
        "" => every_address(),
        name if name.eq_ignore_ascii_case("localhost") => Ipv4Addr::LOCALHOST.into(),
        _ => return Err(EXPECTED.into()),
    };
    Ok(SocketAddr::new(ip, port))
}

const EXPECTED: &str = "expected an address and a port, such as 127.0.0.1:8080, [::1]:8080, \
                        localhost:8080, or :8080 for every address of this machine";

/// All of IPv6, which takes IPv4 as well; or IPv4 alone on a machine without IPv6.
fn every_address() -> IpAddr {
    let every_v6 = Ipv6Addr::UNSPECIFIED;
    match UdpSocket::bind((every_v6, 0)) {
        Ok(_) => every_v6.into(),
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_in_several_ways() {
        for (text, meant) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("[::1]:8080", "[::1]:8080"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("LocalHost:1", "127.0.0.1:1"),
        ] {
            assert_eq!(
                address(text).map(|address| address.to_string()),
                Ok(meant.into())
            );
        }
        let every = address(":8080").unwrap();
        assert!(every.ip().is_unspecified() && every.port() == 8080);
        for text in [
            "",
            ":",
            "8080",
            "127.0.0.1",
            "localhost",
            "localhost:",
            "localhost:x",
            "localhost:65536",
            "::1:8080x",
            "[::1]",
            "edge.example:8080",
            "http://127.0.0.1:8080",
            ":+x",
        ] {
            let refused = address(text).unwrap_err();
            assert!(refused.contains("127.0.0.1:8080"), "{text}: {refused}");
        }
    }
}
