//! Nodes that have left the list, as long as other edges may still look there for users of ours.
//!
//! Edges learn of a change at different times. Those that have not yet learned of it read the node
//! that has left, where no entry of ours is renewed any more. So its marker is kept from being
//! whole until no other edge keeps it.

use std::sync::Arc;
use std::time::Duration;

use presenced_protocol::request::StoreVerb;
use presenced_protocol::{Key, Reply, Request, encode};
use presenced_tasks::{Task, keep_up};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::Cluster;
use crate::connection::{Connection, FOREIGN};
use crate::limits::{LEAVING_TIME, NODES_MAX};
use crate::marker::Marker;
use crate::{MemcachedError, Node};

/// The nodes that have left, each with a task.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    tasks: JoinSet<()>,
}

impl Leaving {
    /// Takes over those of the `known` nodes that are not among `nodes` any more.
    pub(super) fn follow<'a>(
        &mut self,
        cluster: &Arc<Cluster>,
        nodes: &[Arc<Node>],
        known: impl Iterator<Item = &'a Arc<Node>>,
        interval: Duration,
    ) {
        while self.tasks.try_join_next().is_some() {}
        for node in known {
            let has_left = !nodes.iter().any(|next| Arc::ptr_eq(next, node));
            if has_left && self.tasks.len() < NODES_MAX {
                let (cluster, node) = (cluster.clone(), node.clone());
                let leave = keep_up(Task::Probe, move || {
                    leave(cluster.clone(), node.clone(), interval)
                });
                self.tasks
                    .spawn(async { drop(timeout(LEAVING_TIME, leave).await) });
            }
        }
    }
}

/// Returns when the node is back on the list.
async fn leave(cluster: Arc<Cluster>, node: Arc<Node>, interval: Duration) {
    let mut backoff = node.backoff();
    let mut seen = None;
    while !cluster.has(&node) {
        let mut held = Duration::ZERO;
        if let Ok(mut connection) = Connection::dial(&node).await {
            let dialled_at = Instant::now();
            while !cluster.has(&node) {
                let look = look(&cluster, &node, &mut connection, &mut seen);
                match timeout(node.timeout(), look).await {
                    Ok(Ok(())) => sleep(interval).await,
                    _ => break,
                }
            }
            held = dialled_at.elapsed();
        }
        sleep(backoff.pause(held)).await;
    }
}

/// Renews the marker if another edge keeps it that has not left the node. `seen` is the nonce that
/// was seen last, and since when.
async fn look(
    cluster: &Cluster,
    node: &Node,
    connection: &mut Connection,
    seen: &mut Option<(u64, Instant)>,
) -> Result<(), MemcachedError> {
    let marker = &cluster.config().marker;
    let key = Key::new(marker.key.as_bytes()).map_err(|_| FOREIGN)?;
    let mut get = Vec::new();
    encode::get(&mut get, [key]);
    connection.send_bytes(&get).await?;
    let Some(value) = connection.values(&[key]).await?.pop().flatten() else {
        return Ok(());
    };
    let ring = cluster.announced().ring_hash();
    let ours = Marker::parse(&value).filter(|marker| marker.ring == ring);
    if let (Some(ours), Some((nonce, since))) = (ours, *seen) {
        // By then it has expired, to the second that memcached is exact to, unless an edge touches
        // it.
        let lifetime = Duration::from_secs(u64::from(marker.ttl_s()) + 2);
        if ours.nonce != nonce {
            // Of another edge that has left.
            *seen = Some((ours.nonce, Instant::now()));
            return Ok(());
        }
        if since.elapsed() <= lifetime {
            return Ok(());
        }
    }
    if seen.is_some() {
        cluster.renew_all();
    }
    let nonce = node.random().u64(..);
    let young = Marker::young(ring, nonce).value();
    let set = Request::Store {
        verb: StoreVerb::Set,
        key,
        flags: 0,
        exptime: marker.ttl_s().into(),
        value: young.as_bytes(),
        noreply: false,
    };
    connection.send(&[set]).await?;
    if connection.reply().await? == Reply::Stored {
        *seen = Some((nonce, Instant::now()));
    }
    Ok(())
}
