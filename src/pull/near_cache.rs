//! What look-ups have said lately, so that users whom many ask for are not looked up for each of
//! them.
//!
//! "Online" is kept for as long as the operator says, "not found" for at most
//! [`MISS_CACHE`]: a user who connects should be seen soon. What is unknown is asked anew.

use std::time::Duration;

use presenced_memcached::marker::RingHash;
use presenced_presence::UserId;
use presenced_presence::users::Hasher;
use quick_cache::unsync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};
use tokio::time::Instant;

use super::node_lookup::State;
use crate::limits::{MISS_CACHE, PULL_CACHE_BYTES_MAX};

/// One worker's.
pub(super) struct NearCache {
    /// `None` if nothing is to be kept.
    states: Option<Cache<UserId, Kept, Bytes, Hasher>>,
    online_for: Duration,
    /// By which they were looked up.
    ring: RingHash,
}

/// What was said of a user.
#[derive(Clone, Copy, Debug)]
struct Kept {
    state: State,
    until: Instant,
}

/// What entries take in memory.
#[derive(Clone, Debug)]
struct Bytes;

/// A user's entry without an id that has memory of its own: its parts, and what the cache adds for
/// its list and its table.
const ENTRY_BYTES: usize = size_of::<UserId>() + size_of::<Kept>() + 32;

impl Weighter<UserId, Kept> for Bytes {
    fn weight(&self, user: &UserId, _: &Kept) -> u64 {
        let id = user.as_str().len();
        let beside = if id > size_of::<UserId>() { id } else { 0 };
        (ENTRY_BYTES + beside) as u64
    }
}

impl NearCache {
    /// Keeps "online" for so long.
    pub(super) fn new(online_for: Duration, ring: RingHash, hasher: &Hasher) -> NearCache {
        let options = OptionsBuilder::new()
            // It grows as it is used.
            .estimated_items_capacity(1)
            .weight_capacity(PULL_CACHE_BYTES_MAX as u64)
            .build();
        let states = options.ok().filter(|_| !online_for.is_zero());
        NearCache {
            states: states.map(|options| {
                let lifecycle = DefaultLifecycle::default();
                Cache::with_options(options, Bytes, hasher.clone(), lifecycle)
            }),
            online_for,
            ring,
        }
    }

    /// Users may be elsewhere when the ring has changed.
    pub(super) fn follow(&mut self, ring: RingHash) {
        if self.ring != ring {
            self.ring = ring;
            if let Some(states) = &mut self.states {
                states.clear();
            }
        }
    }

    /// What is kept of a user.
    pub(super) fn get(&self, user: &UserId, now: Instant) -> Option<State> {
        let kept = self.states.as_ref()?.get(user)?;
        (now < kept.until).then_some(kept.state)
    }

    /// A user is here, which a miss that is kept must not deny when the user goes on elsewhere.
    pub(super) fn came(&mut self, user: &UserId, since: u64, now: Instant) {
        let (online_for, states) = (self.online_for, self.states.as_mut());
        if let Some(mut kept) = states.and_then(|states| states.get_mut(user)) {
            *kept = Kept {
                state: State::Online(since),
                until: now + online_for,
            };
        }
    }

    /// Keeps what a look-up by `ring`, begun at `asked_at`, has said of a user.
    pub(super) fn keep(&mut self, user: &UserId, state: State, ring: RingHash, asked_at: Instant) {
        let Some(states) = self.states.as_mut().filter(|_| ring == self.ring) else {
            return;
        };
        let time = match state {
            State::Online(_) => self.online_for,
            State::Offline { .. } => self.online_for.min(MISS_CACHE),
            State::Unknown => return,
        };
        let until = asked_at + time;
        states.insert(user.clone(), Kept { state, until });
    }
}

#[cfg(test)]
mod tests {
    use presenced_memcached::limits::BACKOFF_MAX;

    use super::*;

    fn user(number: usize) -> UserId {
        UserId::new(&format!("user-{number}")).unwrap()
    }

    fn cache(online_for: Duration, ring: RingHash) -> NearCache {
        NearCache::new(online_for, ring, &Hasher::default())
    }

    fn rings() -> [RingHash; 2] {
        use presenced_memcached::{Cluster, Config, NodeSpec};
        ["a:1", "b:1"].map(|node| {
            let node = node.parse::<NodeSpec>().unwrap().into();
            Cluster::new([node], Config::default())
                .topology()
                .ring_hash()
        })
    }

    #[test]
    fn each_answer_is_kept_for_its_time() {
        let [ring, other] = rings();
        let (s, ms) = (Duration::from_secs, Duration::from_millis);
        let asked_at = Instant::now();
        let offline = State::Offline { asked_at };
        let mut cache = cache(s(1), ring);
        cache.keep(&user(1), State::Online(7), ring, asked_at);
        cache.keep(&user(2), offline, ring, asked_at);
        cache.keep(&user(3), State::Unknown, ring, asked_at);
        cache.keep(&user(4), State::Online(7), other, asked_at);
        let kept = |cache: &NearCache, after: Duration| {
            [1, 2, 3, 4].map(|number| cache.get(&user(number), asked_at + after))
        };
        let all = [Some(State::Online(7)), Some(offline), None, None];
        assert_eq!(kept(&cache, ms(249)), all);
        assert_eq!(kept(&cache, ms(250)), [all[0], None, None, None]);
        assert_eq!(kept(&cache, ms(999)), [all[0], None, None, None]);
        assert_eq!(kept(&cache, s(1)), [None; 4]);
        // A miss is over when the user comes.
        cache.came(&user(2), 8, asked_at + ms(10));
        cache.came(&user(5), 8, asked_at + ms(10));
        assert_eq!(cache.get(&user(2), asked_at + s(1)), Some(State::Online(8)));
        assert_eq!(cache.get(&user(5), asked_at + ms(10)), None);
        cache.keep(&user(2), offline, ring, asked_at);
        // Another ring, and back.
        cache.follow(ring);
        assert_eq!(kept(&cache, ms(0)), all);
        cache.follow(other);
        cache.follow(ring);
        assert_eq!(kept(&cache, ms(0)), [None; 4]);
    }

    #[test]
    fn a_short_time_is_that_of_misses_too_and_none_keeps_nothing() {
        let [ring, _] = rings();
        let asked_at = Instant::now();
        let offline = State::Offline { asked_at };
        let mut short = cache(Duration::from_millis(100), ring);
        short.keep(&user(1), offline, ring, asked_at);
        assert_eq!(
            short.get(&user(1), asked_at + Duration::from_millis(100)),
            None
        );
        let mut none = cache(Duration::ZERO, ring);
        none.keep(&user(1), State::Online(1), ring, asked_at);
        assert_eq!(none.get(&user(1), asked_at), None);
        const { assert!(MISS_CACHE.as_millis() < BACKOFF_MAX.as_millis()) };
    }

    #[test]
    fn memory_is_bounded() {
        let [ring, _] = rings();
        let now = Instant::now();
        let mut cache = cache(Duration::from_secs(1), ring);
        let long = "x".repeat(190);
        for number in 0..3 * PULL_CACHE_BYTES_MAX / (ENTRY_BYTES + 190) {
            let user = UserId::new(&format!("{long}{number}")).unwrap();
            cache.keep(&user, State::Online(1), ring, now);
        }
        let states = cache.states.as_ref().unwrap();
        assert!(states.weight() <= PULL_CACHE_BYTES_MAX as u64);
        let (used, ids) = (states.memory_used(), states.len() * 200);
        let used = used.entries + used.map + ids;
        // Its parts grow by doubling.
        assert!(used < 2 * PULL_CACHE_BYTES_MAX, "{used}");
        assert!(states.len() > PULL_CACHE_BYTES_MAX / (ENTRY_BYTES + 200) / 2);
    }
}
