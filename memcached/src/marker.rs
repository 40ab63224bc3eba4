//! The marker: one key on each node that says whether the node has been told all that it should
//! know.
//!
//! A node that lost its data, or has just joined the ring, answers `END` for a user who is online,
//! as it does for a user who is not. The marker tells the two apart. It is the last key of every
//! look-up, and a user who was not found is offline only if the same answer ends with a marker that
//! is *whole* and of the ring by which the look-up was routed.
//!
//! Its value is `{ring} {nonce}` and whatever was appended to it, in words. `{ring}` is a
//! [`RingHash`], `{nonce}` a random number of whoever wrote the value. It is whole if the nonce
//! occurs again. Nothing but a loss takes a marker away while any edge looks at it, and no edge
//! ever deletes it:
//!
//! - An edge that finds none `add`s one that is not whole.
//! - An edge that cannot vouch for its own users *renews* the marker: it `set`s one with a new
//!   nonce.
//! - An edge that has seen the same nonce for a [`Config::proof_time`] `append`s it. All that was
//!   written before the marker has expired by then or was written again. The `append` fails where
//!   the marker is gone, and does not make another's new marker whole: so it may arrive however
//!   late.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use md5::{Digest, Md5};

use super::ring::{Member, RingKind};
use crate::limits::{ENTRY_TTL, FLUSH_INTERVAL, HEADROOM};

/// What all edges that share entries must agree on, and what a node's marker promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The marker's key.
    pub key: String,
    /// Lifetime of an entry, whole seconds.
    pub entry_ttl: Duration,
    /// How much sooner than needed a heartbeat is written when all is well: the TTL less a round of
    /// pings, the time for its pong, and a flush interval.
    pub headroom: Duration,
    /// Time in which everyone heard from is written once.
    pub flush_interval: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            key: key("user:{userId}:online"),
            entry_ttl: ENTRY_TTL,
            headroom: HEADROOM,
            flush_interval: FLUSH_INTERVAL,
        }
    }
}

impl Config {
    /// TTL of the marker and of each process's sentinel, seconds: a node that no edge reaches for
    /// so long may miss entries, as far as anyone knows.
    pub fn ttl_s(&self) -> u32 {
        let ttl = self.headroom.saturating_sub(Duration::from_secs(1));
        u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX).max(1)
    }

    /// How long the same nonce must have been seen until the marker is whole.
    pub fn proof_time(&self) -> Duration {
        self.entry_ttl + self.flush_interval
    }

    /// The hash of a ring of this kind with these `members`.
    pub fn ring_hash(&self, kind: RingKind, members: &[Member]) -> RingHash {
        let mut names: Vec<_> = members
            .iter()
            .map(|member| format!("{}*{}", member.name, member.weight))
            .collect();
        // The order of a modulo ring is part of it.
        if kind != RingKind::Modulo {
            names.sort();
        }
        let (ttl, headroom) = (self.entry_ttl.as_secs(), self.headroom.as_millis());
        let ring = format!("{kind:?} {ttl} {headroom} {}", names.join(" "));
        RingHash(hash(&ring))
    }
}

/// The marker's key for entries whose keys are made after `template`: applications that share a
/// memcached don't share markers.
pub fn key(template: &str) -> String {
    format!("presenced:marker:{:016x}", template_hash(template))
}

/// What tells the keys of applications that share a memcached apart.
pub fn template_hash(template: &str) -> u64 {
    hash(template)
}

fn hash(text: &str) -> u64 {
    let digest = Md5::digest(text);
    digest
        .iter()
        .take(8)
        .fold(0, |hash, &byte| hash << 8 | u64::from(byte))
}

/// Which ring: nodes, weights and kind, and the times that edges must agree on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingHash(u64);

impl Display for RingHash {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A marker, as it was read or is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The ring of whoever wrote it.
    pub ring: RingHash,
    /// A number that nobody else has.
    pub nonce: u64,
    /// Whether it has been proven.
    pub is_whole: bool,
}

impl Marker {
    /// A new one, not whole.
    pub fn young(ring: RingHash, nonce: u64) -> Marker {
        Marker {
            ring,
            nonce,
            is_whole: false,
        }
    }

    /// Reads a value; `None` if it is no marker.
    pub fn parse(value: &[u8]) -> Option<Marker> {
        let mut words = value.split(|&byte| byte == b' ');
        let ring = RingHash(number(words.next()?)?);
        let nonce = number(words.next()?)?;
        let is_whole = words.any(|word| number(word) == Some(nonce));
        Some(Marker {
            ring,
            nonce,
            is_whole,
        })
    }

    /// The value.
    pub fn value(&self) -> String {
        let young = format!("{} {:016x}", self.ring, self.nonce);
        match self.is_whole {
            true => young + &self.proof(),
            false => young,
        }
    }

    /// What makes it whole when it is appended.
    pub fn proof(&self) -> String {
        format!(" {:016x}", self.nonce)
    }
}

/// Sixteen hexadecimal digits, and nothing else.
fn number(word: &[u8]) -> Option<u64> {
    let is_ours = word.len() == 16 && word.iter().all(u8::is_ascii_hexdigit);
    let word = is_ours.then(|| std::str::from_utf8(word).ok()).flatten()?;
    u64::from_str_radix(word, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(name: &str, weight: u32) -> Member {
        Member {
            name: name.into(),
            weight,
            node: 0,
        }
    }

    #[test]
    fn a_marker_is_whole_when_its_own_nonce_was_appended() {
        let ring = RingHash(7);
        let young = Marker::young(ring, 0xabcd);
        assert_eq!(young.value(), "0000000000000007 000000000000abcd");
        assert_eq!(Marker::parse(young.value().as_bytes()), Some(young));
        let other = Marker::young(ring, 0xabce);
        let late = young.value() + &other.proof();
        assert_eq!(Marker::parse(late.as_bytes()), Some(young));
        let whole = late + &young.proof() + &young.proof();
        let whole = Marker::parse(whole.as_bytes()).unwrap();
        assert!(whole.is_whole);
        assert_eq!(Marker::parse(whole.value().as_bytes()), Some(whole));
    }

    #[test]
    fn what_is_no_marker_is_not_taken_for_one() {
        for value in [
            "",
            " ",
            "x",
            "0000000000000007",
            "0000000000000007 ",
            "0000000000000007 abcd",
            "0000000000000007  000000000000abcd",
            "+000000000000007 000000000000abcd",
            "0000000000000007 000000000000abcd0",
            "0000000000000007,000000000000abcd",
        ] {
            assert_eq!(Marker::parse(value.as_bytes()), None, "{value:?}");
        }
    }

    #[test]
    fn rings_are_told_apart_by_all_that_edges_must_agree_on() {
        let config = Config::default();
        let (a, b) = (member("a", 1), member("b", 1));
        let hash = |kind, members: &[_]| config.ring_hash(kind, members);
        let ring = hash(RingKind::Ketama, &[a.clone(), b.clone()]);
        assert_eq!(hash(RingKind::Ketama, &[b.clone(), a.clone()]), ring);
        let modulo = |members: &[_]| hash(RingKind::Modulo, members);
        assert_ne!(
            modulo(&[b.clone(), a.clone()]),
            modulo(&[a.clone(), b.clone()])
        );
        let mut others = vec![
            hash(RingKind::Hashring, &[a.clone(), b.clone()]),
            hash(RingKind::Ketama, std::slice::from_ref(&a)),
            hash(RingKind::Ketama, &[a.clone(), member("b", 2)]),
        ];
        let mut slower = config.clone();
        slower.entry_ttl += Duration::from_secs(1);
        let mut wider = config.clone();
        wider.headroom += Duration::from_millis(1);
        for config in [slower, wider] {
            others.push(config.ring_hash(RingKind::Ketama, &[a.clone(), b.clone()]));
        }
        assert!(!others.contains(&ring));
        assert_ne!(key("user:{userId}:online"), key("u:{userId}"));
        assert_eq!(key("user:{userId}:online").len(), 33);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(value in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(marker) = Marker::parse(&value) {
                prop_assert_eq!(Marker::parse(marker.value().as_bytes()), Some(marker));
            }
        }
    }
}
