//! Which node has a key: libmemcached's `MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED`, so that readers in
//! other languages look where we write.
//!
//! Each node has points on a ring of 32-bit numbers; a key belongs to the first point not below
//! its own hash. Adding or losing one of n nodes moves about 1/n of the keys.

use md5::{Digest, Md5};

/// A ring of nodes, numbered as given.
#[derive(Clone, Debug)]
pub struct Ring {
    /// Sorted by point.
    points: Vec<(u32, u8)>,
}

impl Ring {
    /// A ring of nodes of equal weight by their names: `host` at port 11211, else `host:port`.
    pub fn new(names: &[String]) -> Ring {
        let digests = digests_of_each(names.len());
        let mut points = Vec::with_capacity(names.len() * digests as usize * 4);
        for (name, node) in names.iter().zip(0u8..) {
            for number in 0..digests {
                let digest = Md5::digest(format!("{name}-{number}"));
                for point in digest.chunks_exact(4) {
                    points.push((word(point), node));
                }
            }
        }
        points.sort_unstable();
        Ring { points }
    }

    /// The number of the node that has `key`.
    pub fn node_of(&self, key: &[u8]) -> u8 {
        let hash = word(&Md5::digest(key)[..4]);
        let place = self.points.partition_point(|&(point, _)| point < hash);
        let (_, node) = self
            .points
            .get(place)
            .or(self.points.first())
            .copied()
            .unwrap_or_default();
        node
    }
}

/// Digests (of four points) for each of `nodes`, in single precision as libmemcached computes it:
/// at 25 or 47 nodes the rounding makes it 39, not 40, and the ring another one.
fn digests_of_each(nodes: usize) -> u32 {
    let count = nodes as f32;
    let share = 1.0 / count;
    (share * 160.0 / 4.0 * count + 1e-10).floor() as u32
}

fn word(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .rev()
        .fold(0, |word, &byte| word << 8 | u32::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::NODES_MAX;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("10.0.0.{n}")).collect()
    }

    #[test]
    fn digests_are_rounded_as_libmemcached_rounds_them() {
        assert_eq!(
            [1, 3, 5, 20, 25, 47].map(digests_of_each),
            [40, 40, 40, 40, 39, 39]
        );
    }

    #[test]
    fn keys_are_spread_and_few_move_when_a_node_goes() {
        let keys: Vec<_> = (0..20_000).map(|n| format!("user:{n}:online")).collect();
        let (five, four) = (Ring::new(&names(5)), Ring::new(&names(4)));
        let mut counts = [0; 5];
        let mut moved = 0;
        for key in &keys {
            let node = five.node_of(key.as_bytes());
            counts[usize::from(node)] += 1;
            let after = four.node_of(key.as_bytes());
            if node != 4 {
                assert_eq!(node, after, "only the lost node's keys move");
            } else {
                moved += 1;
            }
        }
        assert!(
            counts.iter().all(|&count| (2800..5200).contains(&count)),
            "{counts:?}"
        );
        assert_eq!(moved, counts[4]);
    }

    #[test]
    fn as_many_nodes_as_there_may_be_share_the_keys() {
        let names = names(NODES_MAX);
        let ring = Ring::new(&names);
        let mut counts = [0; NODES_MAX];
        for number in 0..50_000 {
            let node = ring.node_of(format!("user:{number}:online").as_bytes());
            counts[usize::from(node)] += 1;
        }
        assert!(
            counts.iter().all(|&count| (90..400).contains(&count)),
            "{counts:?}"
        );
    }

    #[test]
    fn one_node_has_everything_and_none_is_no_panic() {
        assert_eq!(Ring::new(&names(1)).node_of(b"x"), 0);
        assert_eq!(Ring::new(&[]).node_of(b"x"), 0);
    }
}
