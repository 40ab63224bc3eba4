//! A node as discovery finds it.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::net::SocketAddr;

use super::address::{NodeAddr, NodeSpec};

/// A node that should be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// What it is called.
    pub addr: NodeAddr,
    /// What a certificate of its is for.
    pub host: String,
    /// Its share of the keys.
    pub weight: u32,
    /// What its name resolves to; empty if that is not known, or it has none.
    pub addresses: Vec<SocketAddr>,
}

impl From<NodeSpec> for Endpoint {
    fn from(spec: NodeSpec) -> Endpoint {
        let host = match &spec.addr {
            NodeAddr::Tcp(host, _) => host.clone(),
            NodeAddr::Unix(_) => String::new(),
        };
        Endpoint {
            addr: spec.addr,
            host,
            weight: spec.weight,
            addresses: Vec::new(),
        }
    }
}
