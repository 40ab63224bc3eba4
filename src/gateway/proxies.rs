//! The proxies before the server, and what is believed of what they say about their callers.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::IpAddr;

use hyper::header::HeaderMap;
use ipnet::IpNet;

use super::forwarded::ForwardedHeader;

/// Which peers are trusted, and in which way they say where their connections and requests come
/// from.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// Networks of the proxies.
    pub trusted: Vec<IpNet>,
    /// Whether each of their connections begins with a header of the PROXY protocol.
    pub use_proxy_protocol: bool,
    /// The header of their requests that is believed.
    pub forwarded_header: ForwardedHeader,
}

impl Proxies {
    /// Whether this is the address of a trusted proxy.
    pub fn trust(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted
            .iter()
            .any(|network| network.contains(&address))
    }

    /// Whether a connection from `peer` begins with a header of the PROXY protocol.
    pub fn introduce(&self, peer: IpAddr) -> bool {
        self.use_proxy_protocol && self.trust(peer)
    }

    /// Whether `peer` may say of each request where it comes from.
    pub fn forward(&self, peer: IpAddr) -> bool {
        self.forwarded_header != ForwardedHeader::None && self.trust(peer)
    }

    /// Where a request comes from, on a connection that comes from `peer`.
    pub fn caller(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let is_trusted = |address| self.trust(address);
        self.forwarded_header.caller(headers, peer, is_trusted)
    }
}

/// A network, or one address.
///
/// # Errors
///
/// For people: what it must be.
pub fn network(text: &str) -> Result<IpNet, String> {
    let network = text
        .parse::<IpAddr>()
        .map(IpNet::from)
        .or_else(|_| text.parse());
    let network: IpNet = network.map_err(
        |_| "expected an address or a network, such as 10.0.0.7, 10.0.0.0/8 or 2001:db8::/32",
    )?;
    if network.addr() != network.network() {
        let meant = network.trunc();
        return Err(format!("has bits beyond its prefix; did you mean {meant}?"));
    }
    if network.prefix_len() == 0 {
        return Err("would believe everyone; name the networks of the proxies only".into());
    }
    if let IpNet::V6(v6) = network
        && v6.addr().to_ipv4_mapped().is_some()
    {
        return Err("write IPv4 networks as such, such as 10.0.0.0/8".into());
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        for text in [
            "10.0.0.0/8",
            "127.0.0.1/32",
            "2001:db8::/32",
            "0.0.0.0/1",
            "::1/128",
        ] {
            assert_eq!(network(text).unwrap().to_string(), text);
        }
        assert_eq!(network("192.0.2.7").unwrap().to_string(), "192.0.2.7/32");
        assert_eq!(network("::1").unwrap().to_string(), "::1/128");
        for (text, part) in [
            ("", "expected"),
            ("proxy.internal", "expected"),
            ("10.0.0.0/33", "expected"),
            ("10.0.0.0/", "expected"),
            ("10.0.0/8", "expected"),
            ("10.0.0.0/8 ", "expected"),
            ("127.0.0.1:80", "expected"),
            ("10.1.2.3/8", "did you mean 10.0.0.0/8?"),
            ("2001:db8::1/64", "did you mean 2001:db8::/64?"),
            ("0.0.0.0/0", "everyone"),
            ("::/0", "everyone"),
            ("::ffff:10.0.0.0/104", "IPv4"),
        ] {
            let error = network(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn only_what_is_trusted_and_asked_for_is_believed() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let proxies = |use_proxy_protocol, forwarded_header| Proxies {
            trusted: vec![
                network("10.0.0.0/8").unwrap(),
                network("2001:db8::1").unwrap(),
            ],
            use_proxy_protocol,
            forwarded_header,
        };
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
        headers.insert("forwarded", "for=192.0.2.2".parse().unwrap());
        let both = proxies(true, ForwardedHeader::XForwardedFor);
        for peer in ["10.255.0.1", "::ffff:10.0.0.1", "2001:db8::1"].map(ip) {
            assert!(both.introduce(peer) && both.forward(peer));
            assert_eq!(both.caller(peer, &headers), ip("192.0.2.1"));
            let neither = proxies(false, ForwardedHeader::None);
            assert!(!neither.introduce(peer) && !neither.forward(peer));
            assert_eq!(neither.caller(peer, &headers), peer);
            let forwarded = proxies(false, ForwardedHeader::Forwarded);
            assert_eq!(forwarded.caller(peer, &headers), ip("192.0.2.2"));
        }
        for peer in ["11.0.0.1", "2001:db8::2", "::1"].map(ip) {
            assert!(!both.introduce(peer) && !both.forward(peer));
            assert_eq!(both.caller(peer, &headers), peer);
        }
        assert!(!Proxies::default().trust(ip("127.0.0.1")));
    }
}
