//! What a look does about the marker that it has found, and when an edge vouches for one.

use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::marker::{Marker, RingHash};

/// What was seen of one node's marker.
#[derive(Debug, Default)]
pub(super) struct Proof {
    /// The nonce, and when the answer came that first had it.
    seen: Option<(u64, Instant)>,
}

/// What to do about a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It stays as it is.
    None,
    /// There is none: one that is not whole is added.
    Add,
    /// It has stood for long enough: its nonce is appended, and it is whole.
    Prove(Marker),
    /// It is replaced by one that is not whole.
    Renew,
}

/// What to do, and what is known now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) step: Step,
    /// The marker is whole, of our ring, and stays.
    pub(super) is_whole: bool,
}

impl Next {
    fn new(step: Step) -> Next {
        Next {
            step,
            is_whole: false,
        }
    }
}

impl Proof {
    /// `value` is the marker's, as an answer that came `now` has it, `ring` our own. `must_renew`:
    /// this edge can't vouch for its users.
    pub(super) fn step(
        &mut self,
        value: Option<&[u8]>,
        ring: RingHash,
        must_renew: bool,
        now: Instant,
        cluster: &Cluster,
    ) -> Next {
        let marker = value.map(Marker::parse);
        let ours = marker.flatten().filter(|marker| marker.ring == ring);
        let Some(ours) = ours else {
            self.seen = None;
            cluster.disturb(now);
            return Next::new(match marker {
                None if !must_renew => Step::Add,
                None | Some(None) => Step::Renew,
                Some(Some(other)) => {
                    cluster.saw_other_ring(other.ring);
                    Step::Renew
                }
            });
        };
        let since = match self.seen {
            Some((nonce, since)) if nonce == ours.nonce => since,
            _ => {
                self.seen = Some((ours.nonce, now));
                cluster.disturb(now);
                now
            }
        };
        let since = cluster.disturbed_at().map_or(since, |at| at.max(since));
        if must_renew {
            Next::new(Step::Renew)
        } else if ours.is_whole {
            Next {
                step: Step::None,
                is_whole: true,
            }
        } else if now.saturating_duration_since(since) >= cluster.config().marker.proof_time() {
            Next::new(Step::Prove(ours))
        } else {
            Next::new(Step::None)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Config, NodeSpec};

    struct Tried {
        cluster: Cluster,
        proof: Proof,
        began: Instant,
    }

    impl Tried {
        fn new() -> Tried {
            let node = "a:1".parse::<NodeSpec>().unwrap().into();
            Tried {
                cluster: Cluster::new([node], Config::default()),
                proof: Proof::default(),
                began: Instant::now(),
            }
        }

        fn ring(&self) -> RingHash {
            self.cluster.topology().ring_hash()
        }

        fn young(&self, nonce: u64) -> Marker {
            Marker::young(self.ring(), nonce)
        }

        fn see(&mut self, marker: Option<Marker>, after_s: u64, must_renew: bool) -> Next {
            let value = marker.map(|marker| marker.value());
            let (now, ring) = (self.began + Duration::from_secs(after_s), self.ring());
            let value = value.as_deref().map(str::as_bytes);
            self.proof.step(value, ring, must_renew, now, &self.cluster)
        }
    }

    #[tokio::test]
    async fn a_nonce_is_proven_after_a_ttl_and_a_flush_interval() {
        let mut tried = Tried::new();
        assert_eq!(tried.see(None, 0, false).step, Step::Add);
        let marker = tried.young(1);
        let young = Some(marker);
        assert_eq!(tried.see(young, 1, false).step, Step::None);
        assert_eq!(tried.see(young, 65, false).step, Step::None);
        assert_eq!(tried.see(young, 66, false).step, Step::Prove(marker));
        let other = Some(tried.young(2));
        assert_eq!(
            tried.see(other, 67, false).step,
            Step::None,
            "from the start"
        );
        assert_eq!(
            tried.see(young, 68, false).step,
            Step::None,
            "from the start"
        );
        assert_eq!(tried.see(young, 132, false).step, Step::None);
    }

    #[tokio::test]
    async fn what_is_whole_stays_whole_unless_this_edge_is_late() {
        let mut tried = Tried::new();
        let whole = Some(Marker {
            is_whole: true,
            ..tried.young(1)
        });
        assert!(tried.see(whole, 0, false).is_whole);
        let late = tried.see(whole, 1, true);
        assert_eq!((late.step, late.is_whole), (Step::Renew, false));
        assert_eq!(tried.see(None, 2, true).step, Step::Renew);
    }

    #[tokio::test]
    async fn a_disturbance_anywhere_begins_all_proofs_anew() {
        let mut tried = Tried::new();
        let marker = tried.young(1);
        let young = Some(marker);
        tried.see(young, 0, false);
        tried.cluster.disturb(tried.began + Duration::from_secs(10));
        assert_eq!(tried.see(young, 74, false).step, Step::None);
        assert_eq!(tried.see(young, 75, false).step, Step::Prove(marker));
    }

    #[tokio::test]
    async fn another_ring_is_renewed_everywhere() {
        let mut tried = Tried::new();
        let other = Marker {
            is_whole: true,
            ..Marker::young(RingHash::default(), 1)
        };
        let before = tried.cluster.renewals();
        let next = tried.see(Some(other), 0, false);
        assert_eq!((next.step, next.is_whole), (Step::Renew, false));
        assert_ne!(tried.cluster.renewals(), before);
        assert_eq!(tried.cluster.other_rings_seen(), 1);
    }

    #[tokio::test]
    async fn what_is_no_marker_is_replaced() {
        let mut tried = Tried::new();
        let (now, ring) = (tried.began, tried.ring());
        let next = tried
            .proof
            .step(Some(b"x"), ring, false, now, &tried.cluster);
        assert_eq!(next.step, Step::Renew);
    }
}
