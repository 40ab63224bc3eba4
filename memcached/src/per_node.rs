//! What is kept for each node, as nodes come and go.

use std::sync::Arc;

use super::cluster::Topology;
use super::node::Node;

/// A value for each node of a topology, found by the node's number.
#[derive(Clone, Debug)]
pub struct PerNode<T> {
    by_id: Vec<Option<(Arc<Node>, T)>>,
}

impl<T> Default for PerNode<T> {
    fn default() -> PerNode<T> {
        PerNode { by_id: Vec::new() }
    }
}

impl<T> PerNode<T> {
    /// Keeps the values of the nodes that `topology` still has, drops the others, and lets `make`
    /// make what is missing.
    pub fn follow(&mut self, topology: &Topology, make: impl FnMut(&Arc<Node>) -> T) {
        self.follow_nodes(topology.nodes(), make);
    }

    /// The same of `nodes`, each of which is there once.
    pub(super) fn follow_nodes(
        &mut self,
        nodes: &[Arc<Node>],
        mut make: impl FnMut(&Arc<Node>) -> T,
    ) {
        let mut before = std::mem::take(&mut self.by_id);
        for node in nodes {
            let id = usize::from(node.id());
            let known = before.get_mut(id).and_then(Option::take);
            // A number is given again when its node is gone.
            let known = known.filter(|(known, _)| Arc::ptr_eq(known, node));
            if self.by_id.len() <= id {
                self.by_id.resize_with(id + 1, || None);
            }
            self.by_id[id] = Some(known.unwrap_or_else(|| (node.clone(), make(node))));
        }
    }

    /// Drops the values for which `is_over` holds; returns their nodes.
    pub fn remove(&mut self, is_over: impl Fn(&T) -> bool) -> Vec<Arc<Node>> {
        let over = self.by_id.iter_mut().filter_map(|kept| {
            let is_over = kept.as_ref().is_some_and(|(_, value)| is_over(value));
            is_over.then(|| kept.take())?
        });
        over.map(|(node, _)| node).collect()
    }

    /// The value of the node with this number.
    #[inline]
    pub fn get(&self, id: u8) -> Option<&T> {
        let (_, value) = self.by_id.get(usize::from(id))?.as_ref()?;
        Some(value)
    }

    /// One more than the highest number of a node.
    pub fn ids_end(&self) -> usize {
        self.by_id.len()
    }

    /// The nodes and their values, by number.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<Node>, &T)> {
        self.by_id
            .iter()
            .flatten()
            .map(|(node, value)| (node, value))
    }

    /// The same, to change the values.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&Arc<Node>, &mut T)> {
        let some = self.by_id.iter_mut().flatten();
        some.map(|(node, value)| (&*node, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cluster, Config, NodeSpec};

    #[test]
    fn values_stay_with_their_nodes_and_go_with_them() {
        let node = |text: &str| text.parse::<NodeSpec>().unwrap().into();
        let cluster = Cluster::new(["a:1", "b:1"].map(node), Config::default());
        let (mut kept, mut made) = (PerNode::default(), 0);
        let mut follow = |kept: &mut PerNode<u32>| {
            kept.follow(&cluster.topology(), |_| {
                made += 1;
                made
            });
        };
        follow(&mut kept);
        cluster.reconcile(["b:1", "c:1"].map(node).into());
        cluster.publish_at_once();
        follow(&mut kept);
        let names = kept
            .iter()
            .map(|(node, value)| (node.addr().to_string(), *value));
        assert_eq!(
            names.collect::<Vec<_>>(),
            [("b:1".into(), 2), ("c:1".into(), 3)]
        );
        let b = cluster.topology().nodes()[0].id();
        assert_eq!((kept.get(b), kept.get(200)), (Some(&2), None));
        assert_eq!(kept.remove(|value| *value == 3).len(), 1);
        assert_eq!(kept.get(b), Some(&2));
        follow(&mut kept);
        assert_eq!(kept.iter().map(|(_, value)| *value).max(), Some(4));
        // The number of "a" is free, and is that of "d" now.
        cluster.reconcile(["d:1", "b:1"].map(node).into());
        cluster.publish_at_once();
        follow(&mut kept);
        assert_eq!(kept.iter().map(|(_, value)| *value).max(), Some(5));
        assert_eq!(kept.iter().count(), 2);
    }
}
