//! The flags that say where memcached is and how it is spoken to.

use clap::Args;

use super::{STORAGE, SettingsError};
use crate::limits::NODES_MAX;
use crate::memcached::NodeSpec;
use crate::memcached::cluster::Options;
use crate::memcached::ring::RingKind;

/// Flags of the memcached client.
#[derive(Clone, Debug, Args)]
pub struct MemcachedFlags {
    /// memcached nodes [default: the embedded store]; *WEIGHT after one gives it that many shares of
    /// the keys (1)
    #[arg(long, env = "PRESENCED_MEMCACHED", value_name = "HOST:PORT|unix:/PATH,…", value_delimiter = ',', help_heading = STORAGE)]
    pub memcached: Vec<NodeSpec>,

    /// How keys are spread over nodes: as the clients of those who read spread them
    #[arg(long, env = "PRESENCED_RING", default_value = "ketama", value_name = "RING", help_heading = STORAGE)]
    pub ring: RingKind,
}

impl MemcachedFlags {
    pub(super) fn check(&self) -> Result<Options, SettingsError> {
        if self.memcached.len() > NODES_MAX {
            refuse!(
                "--memcached: {} nodes, at most {NODES_MAX} are allowed",
                self.memcached.len()
            );
        }
        if let Some(twice) = twice(&self.memcached) {
            refuse!("--memcached: {} is there twice", twice.addr);
        }
        if self.ring == RingKind::Modulo
            && let Some(node) = self.memcached.iter().find(|node| node.weight != 1)
        {
            refuse!(
                "--memcached {}*{}: --ring modulo knows no weights",
                node.addr,
                node.weight
            );
        }
        Ok(Options { ring: self.ring })
    }
}

fn twice(nodes: &[NodeSpec]) -> Option<&NodeSpec> {
    let mut seen = std::collections::HashSet::new();
    nodes.iter().find(|node| !seen.insert(&node.addr))
}
