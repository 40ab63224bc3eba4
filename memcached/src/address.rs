//! What an operator says of a node: `HOST:PORT`, `unix:/path`, with `*WEIGHT` behind or `dns+`
//! before.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

use crate::limits::WEIGHT_MAX;

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NodeAddr {
    /// `HOST:PORT`.
    Tcp(String, u16),
    /// `unix:/path`.
    Unix(PathBuf),
}

/// One or more nodes as they are listed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeSpec {
    /// The address of the node, or the name of several.
    pub addr: NodeAddr,
    /// Their share of the keys, relative to those of the others.
    pub weight: u32,
    /// `dns+`: each address of the name is a node of its own, called by its address.
    pub each_address: bool,
}

/// Why a text is not a [`NodeSpec`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NodeAddrError {
    /// Not the form of an address.
    #[error("expected HOST:PORT, dns+HOST:PORT or unix:/path, *WEIGHT may follow")]
    Form,
    /// Not a weight.
    #[error("a weight must be from 1 to {WEIGHT_MAX}")]
    Weight,
}

impl FromStr for NodeSpec {
    type Err = NodeAddrError;

    fn from_str(text: &str) -> Result<NodeSpec, NodeAddrError> {
        let (each_address, text) = match text.strip_prefix("dns+") {
            Some(text) => (true, text),
            None => (false, text),
        };
        let (text, weight) = match text.rsplit_once('*') {
            Some((text, weight)) => {
                let weight = weight.parse().ok();
                let weight = weight.filter(|weight| (1..=WEIGHT_MAX).contains(weight));
                (text, weight.ok_or(NodeAddrError::Weight)?)
            }
            None => (text, 1),
        };
        let addr = text.parse()?;
        if each_address && matches!(addr, NodeAddr::Unix(_)) {
            return Err(NodeAddrError::Form);
        }
        Ok(NodeSpec {
            addr,
            weight,
            each_address,
        })
    }
}

impl From<NodeAddr> for NodeSpec {
    fn from(addr: NodeAddr) -> NodeSpec {
        NodeSpec {
            addr,
            weight: 1,
            each_address: false,
        }
    }
}

impl FromStr for NodeAddr {
    type Err = NodeAddrError;

    fn from_str(text: &str) -> Result<NodeAddr, NodeAddrError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') {
                Ok(NodeAddr::Unix(path.into()))
            } else {
                Err(NodeAddrError::Form)
            };
        }
        let (host, port) = text.rsplit_once(':').ok_or(NodeAddrError::Form)?;
        let port = port.parse().map_err(|_| NodeAddrError::Form)?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        let colons_allowed = bare.is_some();
        let legal = |c: char| match c {
            ':' => colons_allowed,
            // A second pair would be lost when the address is written.
            '[' | ']' => false,
            c => !c.is_whitespace() && !c.is_control(),
        };
        if host.is_empty() || port == 0 || !host.chars().all(legal) {
            return Err(NodeAddrError::Form);
        }
        Ok(NodeAddr::Tcp(host.into(), port))
    }
}

impl fmt::Display for NodeAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NodeAddr::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            NodeAddr::Tcp(host, port) => write!(f, "{host}:{port}"),
            NodeAddr::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl NodeAddr {
    /// The name that libmemcached hashes for this node.
    pub fn ring_name(&self) -> String {
        match self {
            NodeAddr::Tcp(host, 11211) => host.clone(),
            NodeAddr::Tcp(host, port) => format!("{host}:{port}"),
            NodeAddr::Unix(path) => format!("{}:0", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_shown() {
        for text in [
            "localhost:11211",
            "10.0.0.1:1",
            "[::1]:11211",
            "unix:/run/m.sock",
        ] {
            assert_eq!(text.parse::<NodeAddr>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "host",
            ":11211",
            "host:",
            "host:0",
            "host:x",
            "::1:11211",
            "unix:rel",
            "a b:1",
            "[[x]]:1",
            "[::1:1",
        ] {
            assert_eq!(text.parse::<NodeAddr>(), Err(NodeAddrError::Form), "{text}");
        }
    }

    #[test]
    fn a_weight_may_follow_and_dns_be_before() {
        let spec = |text: &str| text.parse::<NodeSpec>();
        let addr: NodeAddr = "a:1".parse().unwrap();
        assert_eq!(spec("a:1"), Ok(addr.clone().into()));
        assert_eq!(spec("a:1*3").unwrap().weight, 3);
        assert_eq!(spec("unix:/m*3").unwrap().addr.to_string(), "unix:/m");
        let all = spec("dns+a:1*2").unwrap();
        assert_eq!((all.addr, all.weight, all.each_address), (addr, 2, true));
        for text in ["a:1*0", "a:1*", "a:1*x", "a:1*-1", "a:1*10001"] {
            assert_eq!(spec(text), Err(NodeAddrError::Weight), "{text}");
        }
        for text in ["a*1", "dns+unix:/m", "dns+a"] {
            assert_eq!(spec(text), Err(NodeAddrError::Form), "{text}");
        }
    }
}
