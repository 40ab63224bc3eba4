//! What an operator may set of the client.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::sync::Arc;
use std::time::Duration;

use super::credentials::Credentials;
use super::marker;
use super::network::Network;
use super::node_list::NodeList;
use super::pipeline::WriteCommand;
use super::ring::RingKind;
use super::tls::Tls;
use crate::limits::{CONNECT_TIMEOUT, EJECT_AFTER, REPLY_TARGET, REPLY_TIMEOUT, RESOLVE_INTERVAL};

/// What becomes of the keys of a node that does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum OnFailure {
    /// They wait for the node; use this if your readers do not eject nodes
    #[default]
    Wait,
    /// The node is taken off the ring and its keys go to the others, where libmemcached with
    /// auto-eject looks for them
    Eject,
}

/// What an operator may set of the client.
#[derive(Clone, Debug)]
pub struct Config {
    /// The nodes; none for whoever has a store of its own.
    pub nodes: NodeList,
    /// Time between two resolutions of the nodes' names.
    pub resolve_interval: Duration,
    /// How keys are spread over the nodes.
    pub ring: RingKind,
    /// What becomes of the keys of a node that does not answer.
    pub on_failure: OnFailure,
    /// Failures in a row after which it is ejected.
    pub eject_after: u32,
    /// How connections are made.
    pub connect: ConnectOptions,
    /// What all edges must agree on to believe that a user who is not found is offline.
    pub marker: marker::Config,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            nodes: NodeList::default(),
            resolve_interval: RESOLVE_INTERVAL,
            ring: RingKind::default(),
            on_failure: OnFailure::default(),
            eject_after: EJECT_AFTER,
            connect: ConnectOptions::default(),
            marker: marker::Config::default(),
        }
    }
}

/// How nodes are spoken to.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Time for a connection to be made, its greeting not included.
    pub connect_timeout: Duration,
    /// Most time without a reply while commands are in flight.
    pub timeout: Duration,
    /// How much longer than the way there and back replies to commands that write are to take at
    /// most; as many are in flight as that allows.
    pub reply_target: Duration,
    /// For nodes over TCP.
    pub tls: Option<Tls>,
    /// The user and password to send where memcached asks for them (its `-Y`).
    pub credentials: Option<Arc<Credentials>>,
    /// How entries are written.
    pub write_command: WriteCommand,
    /// A legal key that no other process has, for the probe to keep on each node and for
    /// connections to tell by whether they lead to the same server; `None` without a probe.
    pub sentinel: Option<String>,
    /// How names are resolved and connections made; a simulation's instead of the system's.
    pub network: Network,
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions {
            connect_timeout: CONNECT_TIMEOUT,
            timeout: REPLY_TIMEOUT,
            reply_target: REPLY_TARGET,
            tls: None,
            credentials: None,
            write_command: WriteCommand::default(),
            sentinel: None,
            network: Network::default(),
        }
    }
}
