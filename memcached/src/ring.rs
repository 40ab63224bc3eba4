//! Which node has a key, as clients of other languages look for it, so that they find what we
//! write.
//!
//! Two of the three are rings: each node has points among the 32-bit numbers, and a key belongs to
//! the first point not below its own hash. Adding or losing one of n nodes moves about 1/n of the
//! keys. The third is a remainder, with which nearly all move.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use md5::{Digest, Md5};

/// How keys are spread over nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum RingKind {
    /// libmemcached's `MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED` (PHP: `OPT_LIBKETAMA_COMPATIBLE`)
    #[default]
    Ketama,
    /// libmemcached's default: the key's hash modulo the number of nodes; no weights, and
    /// every server and reader must list the nodes in the same order
    Modulo,
    /// the npm client `memcached`, which has `hashring`
    Hashring,
}

/// A node as the ring sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// `host` at port 11211, else `host:port`.
    pub name: String,
    /// Its share of the keys, relative to those of the others; at least 1.
    pub weight: u32,
    /// The number that [`Ring::node_of`] gives.
    pub node: u8,
}

/// Maps keys to nodes.
#[derive(Clone, Debug)]
pub enum Ring {
    /// Sorted by point.
    Points(Vec<(u32, u8)>),
    /// The key's hash modulo their number.
    Modulo(Vec<u8>),
}

/// Digests of a node of mean weight, each of which gives four points.
const DIGESTS: u32 = 40;

impl Ring {
    /// The order of `members` matters to [`RingKind::Modulo`].
    pub fn new(kind: RingKind, members: &[Member]) -> Ring {
        let digests = match kind {
            RingKind::Modulo => return Ring::Modulo(members.iter().map(|m| m.node).collect()),
            RingKind::Ketama => ketama_digests,
            RingKind::Hashring => hashring_digests,
        };
        let total = members.iter().map(|member| member.weight).sum();
        let mut points = Vec::with_capacity(members.len() * DIGESTS as usize * 4);
        for member in members {
            for number in 0..digests(member.weight, total, members.len()) {
                let digest = Md5::digest(format!("{}-{number}", member.name));
                let of_digest = digest.chunks_exact(4).map(word);
                points.extend(of_digest.map(|point| (point, member.node)));
            }
        }
        points.sort_by_key(|&(point, _)| point);
        Ring::Points(points)
    }

    /// The number of the node that has `key`; 0 if there is none.
    pub fn node_of(&self, key: &[u8]) -> u8 {
        let node = match self {
            Ring::Points(points) => {
                let hash = word(&Md5::digest(key)[..4]);
                let place = points.partition_point(|&(point, _)| point < hash);
                points.get(place).or(points.first()).map(|&(_, node)| node)
            }
            Ring::Modulo(nodes) => {
                let place = one_at_a_time(key) as usize % nodes.len().max(1);
                nodes.get(place).copied()
            }
        };
        node.unwrap_or_default()
    }
}

/// In single precision as libmemcached computes it: at 25 or 47 nodes of one weight the rounding
/// makes it 39, not 40, and the ring another one.
fn ketama_digests(weight: u32, total: u32, nodes: usize) -> u32 {
    let share = weight as f32 / total as f32;
    // Its constant is a double, and so is the sum.
    let digests = share * (4 * DIGESTS) as f32 / 4.0 * nodes as f32;
    (f64::from(digests) + 0.000_000_000_1).floor() as u32
}

/// In double precision as JavaScript computes it: 39 at 7, 14 and so on.
fn hashring_digests(weight: u32, total: u32, nodes: usize) -> u32 {
    let share = f64::from(weight) / f64::from(total);
    (share * f64::from(DIGESTS) * nodes as f64).floor() as u32
}

/// Jenkins' hash as libmemcached has it: where a byte is above 127 it adds a negative number.
fn one_at_a_time(key: &[u8]) -> u32 {
    let mixed = key.iter().fold(0u32, |hash, &byte| {
        let hash = hash.wrapping_add_signed(i32::from(byte as i8));
        let hash = hash.wrapping_add(hash << 10);
        hash ^ hash >> 6
    });
    let hash = mixed.wrapping_add(mixed << 3);
    let hash = hash ^ hash >> 11;
    hash.wrapping_add(hash << 15)
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

    fn members(count: usize) -> Vec<Member> {
        let member = |node: u8| Member {
            name: format!("10.0.0.{node}"),
            weight: 1,
            node,
        };
        (0..=255).take(count).map(member).collect()
    }

    fn ring(count: usize) -> Ring {
        Ring::new(RingKind::Ketama, &members(count))
    }

    #[test]
    fn digests_are_rounded_as_each_client_rounds_them() {
        let equal =
            |digests: fn(u32, u32, usize) -> u32, nodes: u32| digests(1, nodes, nodes as usize);
        let ketama = [1, 3, 5, 7, 20, 25, 47].map(|nodes| equal(ketama_digests, nodes));
        assert_eq!(ketama, [40, 40, 40, 40, 40, 39, 39]);
        let hashring = [1, 3, 5, 7, 14, 20, 25].map(|nodes| equal(hashring_digests, nodes));
        assert_eq!(hashring, [40, 40, 40, 39, 39, 40, 40]);
    }

    #[test]
    fn hashes_are_libmemcacheds() {
        // memcached_generate_hash_value(…, MEMCACHED_HASH_DEFAULT) of libmemcached 1.1.4.
        for (key, hash) in [("a", 3392050242), ("user:Jürgen:online", 308523086)] {
            assert_eq!(one_at_a_time(key.as_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn keys_are_spread_and_few_move_when_a_node_goes() {
        let keys: Vec<_> = (0..20_000).map(|n| format!("user:{n}:online")).collect();
        let (five, four) = (ring(5), ring(4));
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
        let ring = ring(NODES_MAX);
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
    fn a_ring_gives_the_members_own_numbers_and_none_is_no_panic() {
        for kind in [RingKind::Ketama, RingKind::Hashring, RingKind::Modulo] {
            assert_eq!(Ring::new(kind, &members(1)).node_of(b"x"), 0);
            assert_eq!(Ring::new(kind, &[]).node_of(b"x"), 0);
            let seven = Member {
                node: 7,
                ..members(1)[0].clone()
            };
            assert_eq!(Ring::new(kind, &[seven]).node_of(b"x"), 7);
        }
    }
}
