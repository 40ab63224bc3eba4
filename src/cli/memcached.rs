//! The flags that say where memcached is and how it is spoken to.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use presenced_memcached::credentials::Credentials;
use presenced_memcached::limits::{
    EJECT_AFTER, NODE_LIST_BYTES_MAX, NODES_MAX, REPLY_TARGET, TLS_CA_BYTES_MAX,
};
use presenced_memcached::node_list::{NodeList, parse_list};
use presenced_memcached::pipeline::WriteCommand;
use presenced_memcached::ring::RingKind;
use presenced_memcached::settings_file::{self, read_again};
use presenced_memcached::tls::Tls;
use presenced_memcached::{Config, ConnectOptions, Network, NodeAddr, NodeSpec, OnFailure, marker};

use super::secret::check_access;
use super::times::{Time, time};
use super::{Notice, SettingsError};
use crate::limits::{REPLY_TIMEOUT, RESOLVE_INTERVAL};

/// Flags of the memcached client.
#[derive(Clone, Debug, Args)]
pub struct MemcachedFlags {
    /// memcached nodes [default: the embedded store]. With dns+ in front, every address of a name
    /// is a node; *WEIGHT at the end gives a node that many shares of the keys instead of one
    #[arg(
        long,
        env = "PRESENCED_MEMCACHED",
        value_name = "[dns+]HOST:PORT|unix:/PATH,…",
        value_delimiter = ','
    )]
    pub memcached: Vec<NodeSpec>,

    /// File that lists the nodes instead, one per line; # starts a comment. The file is watched,
    /// and nodes are added and removed as it changes (replace it atomically)
    #[arg(long, env = "PRESENCED_MEMCACHED_FILE", value_name = "FILE")]
    pub memcached_file: Option<PathBuf>,

    /// How often the nodes' names are resolved
    #[arg(long, env = "PRESENCED_RESOLVE_INTERVAL", default_value = "10s", value_name = "DURATION", value_parser = time(RESOLVE_INTERVAL))]
    pub resolve_interval: Time,

    /// How keys are spread over nodes; must match the memcached clients that read the entries
    #[arg(
        long,
        env = "PRESENCED_RING",
        default_value = "ketama",
        value_name = "RING"
    )]
    pub ring: RingKind,

    /// Command that writes entries; readers see no difference
    #[arg(
        long,
        env = "PRESENCED_MEMCACHED_COMMAND",
        default_value = "set",
        value_name = "COMMAND"
    )]
    pub memcached_command: WriteCommand,

    /// What happens to the keys of a node that does not answer
    #[arg(
        long,
        env = "PRESENCED_ON_NODE_FAILURE",
        default_value = "wait",
        value_name = "WHAT"
    )]
    pub on_node_failure: OnFailure,

    /// Consecutive failures after which a node is ejected
    #[arg(long, env = "PRESENCED_EJECT_AFTER", default_value_t = EJECT_AFTER, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub eject_after: u32,

    /// Users per second that are written again after a node has lost its data
    #[arg(long, env = "PRESENCED_REFILL_RATE", default_value_t = 100_000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(100..=100_000_000))]
    pub refill_rate: u32,

    /// PEM file with the CA certificates that the nodes' certificates must chain to; turns on TLS
    /// for nodes over TCP
    #[arg(long, env = "PRESENCED_MEMCACHED_TLS_CA", value_name = "FILE")]
    pub memcached_tls_ca: Option<PathBuf>,

    /// File with USER:PASSWORD for a memcached that asks for it (its -Y); read again each time it
    /// asks
    #[arg(long, env = "PRESENCED_MEMCACHED_AUTH_FILE", value_name = "FILE")]
    pub memcached_auth_file: Option<PathBuf>,

    /// How long connecting to memcached may take
    #[arg(long, env = "PRESENCED_MEMCACHED_CONNECT_TIMEOUT", default_value = "2s", value_name = "DURATION", value_parser = time(REPLY_TIMEOUT))]
    pub memcached_connect_timeout: Time,

    /// How long memcached may send no reply while commands are in flight before the connection is
    /// given up
    #[arg(long, env = "PRESENCED_MEMCACHED_TIMEOUT", default_value = "1s", value_name = "DURATION", value_parser = time(REPLY_TIMEOUT))]
    pub memcached_timeout: Time,
}

impl MemcachedFlags {
    /// Whether no node is given at all.
    pub(super) fn is_empty(&self) -> bool {
        self.memcached.is_empty() && self.memcached_file.is_none()
    }

    pub(super) fn check(
        self,
        ttl: &Time,
        coalesce: Duration,
        marker: marker::Config,
        notices: &mut Vec<Notice>,
    ) -> Result<Config, SettingsError> {
        self.check_times(ttl)?;
        let listing = self.listing()?;
        self.check_resolving(&listing, ttl)?;
        let (flag, nodes) = match &listing.file {
            Some(file) => (
                format!("--memcached-file {}", file.display()),
                &listing.nodes,
            ),
            None => ("--memcached".into(), &listing.nodes),
        };
        if nodes.len() > NODES_MAX {
            refuse!(
                "{flag}: {} nodes, at most {NODES_MAX} are allowed",
                nodes.len()
            );
        }
        if self.ring == RingKind::Modulo {
            if let Some(NodeSpec { addr, weight, .. }) = nodes.iter().find(|node| node.weight != 1)
            {
                refuse!("{flag}: {addr}*{weight}: --ring modulo knows no weights");
            }
            if self.on_node_failure == OnFailure::Eject {
                refuse!(
                    "--on-node-failure eject and --ring modulo: nearly all keys would move, and its readers eject none"
                );
            }
        }
        let (tls, credentials) = (self.tls()?, self.credentials(notices)?);
        self.check_effects()?;
        Ok(Config {
            nodes: listing,
            resolve_interval: self.resolve_interval.duration,
            ring: self.ring,
            on_failure: self.on_node_failure,
            eject_after: self.eject_after,
            connect: ConnectOptions {
                connect_timeout: self.memcached_connect_timeout.duration,
                timeout: self.memcached_timeout.duration,
                // A worker that lets sessions gather reads replies as late.
                reply_target: REPLY_TARGET.max(4 * coalesce),
                tls,
                credentials,
                write_command: self.memcached_command,
                // The server gives each run its own.
                sentinel: None,
                network: Network::default(),
            },
            marker,
        })
    }

    fn tls(&self) -> Result<Option<Tls>, SettingsError> {
        let Some(file) = &self.memcached_tls_ca else {
            return Ok(None);
        };
        let pem = settings_file::read(file, TLS_CA_BYTES_MAX);
        match pem.and_then(|pem| Tls::new(&pem).map_err(|error| error.to_string())) {
            Ok(tls) => Ok(Some(tls)),
            Err(why) => refuse!("--memcached-tls-ca {}: {why}", file.display()),
        }
    }

    fn credentials(
        &self,
        notices: &mut Vec<Notice>,
    ) -> Result<Option<Arc<Credentials>>, SettingsError> {
        let Some(file) = &self.memcached_auth_file else {
            return Ok(None);
        };
        match Credentials::read(file) {
            Ok(credentials) => {
                check_access("--memcached-auth-file", file, notices)?;
                Ok(Some(Arc::new(credentials)))
            }
            Err(why) => refuse!("--memcached-auth-file {}: {why}", file.display()),
        }
    }

    /// Refuses what would have no effect, though an operator relies on it.
    fn check_effects(&self) -> Result<(), SettingsError> {
        let of_node = [
            ("--memcached-tls-ca", &self.memcached_tls_ca),
            ("--memcached-auth-file", &self.memcached_auth_file),
        ];
        let mut given = of_node
            .into_iter()
            .filter_map(|(flag, file)| Some((flag, file.as_ref()?)));
        if self.is_empty()
            && let Some((flag, file)) = given.next()
        {
            refuse!(
                "{flag} {} needs --memcached or --memcached-file: the embedded store has neither TLS nor \
                 passwords",
                file.display()
            );
        }
        if self.eject_after != EJECT_AFTER && self.on_node_failure != OnFailure::Eject {
            refuse!(
                "--eject-after {} needs --on-node-failure eject: otherwise no node is ejected",
                self.eject_after
            );
        }
        Ok(())
    }

    fn listing(&self) -> Result<NodeList, SettingsError> {
        let Some(file) = &self.memcached_file else {
            let listing = NodeList::from(self.memcached.clone());
            if let Some(twice) = listing.twice() {
                refuse!("--memcached: {twice} is there twice");
            }
            return Ok(listing);
        };
        if !self.memcached.is_empty() {
            refuse!("--memcached and --memcached-file: give one of them");
        }
        match read_again(file, NODE_LIST_BYTES_MAX).and_then(|text| parse_list(&text)) {
            Ok(nodes) => Ok(NodeList {
                nodes,
                file: Some(file.clone()),
            }),
            Err(why) => refuse!("--memcached-file {}: {why}", file.display()),
        }
    }

    /// A node whose address changes is written to at its new one only when its name is resolved
    /// again. By then what other readers find there must not have expired. A file may come to have
    /// names.
    fn check_resolving(&self, listing: &NodeList, ttl: &Time) -> Result<(), SettingsError> {
        let is_name = |node: &NodeSpec| match &node.addr {
            NodeAddr::Tcp(host, _) => host.parse::<IpAddr>().is_err(),
            NodeAddr::Unix(_) => false,
        };
        let interval = &self.resolve_interval;
        let has_names = listing.file.is_some() || listing.nodes.iter().any(is_name);
        if has_names && interval.duration >= ttl.duration {
            refuse!(
                "--resolve-interval {interval} must be less than --ttl {ttl}: a node whose address has \
                 changed must be found before what was written to it has expired"
            );
        }
        Ok(())
    }

    /// Checks times that must go together; each alone is in its range.
    fn check_times(&self, ttl: &Time) -> Result<(), SettingsError> {
        let (connect, reply) = (&self.memcached_connect_timeout, &self.memcached_timeout);
        if connect.duration + reply.duration >= ttl.duration {
            refuse!(
                "--memcached-connect-timeout {connect} and --memcached-timeout {reply} must be less than \
                 --ttl {ttl} together: entries would expire before a node is known to be away"
            );
        }
        Ok(())
    }
}
