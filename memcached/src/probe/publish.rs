//! A change of the ring, from when it is known until entries are written by it.
//!
//! Edges learn of a change at different times. Those that have not yet learned of it look for a
//! user where the old ring says, and the user may have been written where the new one says. So
//! before anything is written by the new ring, the markers of all nodes of both are renewed with
//! it: then no miss is believed there, neither by those who have the new ring, until it is proven,
//! nor by the others.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::cluster::Cluster;
use crate::limits::TELLING_TIME_MAX;

/// Announces each change of the ring, and publishes it when the nodes have been told; never
/// returns.
pub(super) async fn publish_changes(cluster: &Arc<Cluster>) {
    let mut changes = cluster.changes();
    loop {
        match cluster.announce() {
            Some(next) => {
                told(cluster, next.version()).await;
                cluster.publish(next);
            }
            // The cluster, which is held here, has the other end.
            None => drop(changes.changed().await),
        }
    }
}

/// Returns when the nodes of the old ring and of the new one have answered the renewal of their
/// markers, but for those that are known to be away; after [`TELLING_TIME_MAX`] in any case. A node
/// that was not told then is told as soon as it answers.
async fn told(cluster: &Cluster, version: u64) {
    let mut awaited = cluster.all_nodes();
    awaited.retain(|node| !node.is_ejected() && !node.is_away_for(TELLING_TIME_MAX));
    let answers = join_all(awaited.iter().map(|node| node.told(version)));
    if timeout(TELLING_TIME_MAX, answers).await.is_ok() {
        return;
    }
    for node in awaited.iter().filter(|node| !node.is_told(version)) {
        tracing::warn!(
            node = %node.addr(),
            "memcached does not answer, and can't be told of a change of the nodes: until it does, users who \
             connect may be offline for servers that have not learned of the change"
        );
    }
}
