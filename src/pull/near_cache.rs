//! What look-ups have said lately, so that users whom many ask for are not looked up for each of
//! them.
//!
//! "Online" is kept for as long as the operator says, "not found" for at most
//! [`MISS_CACHE`]: a user who connects should be seen soon. What is unknown is asked anew.

use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use presenced_memcached::marker::RingHash;
use presenced_presence::UserId;
use presenced_presence::users::Hasher;
use quick_cache::unsync::{Cache, DefaultLifecycle};
use quick_cache::{Equivalent, OptionsBuilder, Weighter};
use tokio::time::Instant;

use super::node_lookup::State;
use crate::limits::{MISS_CACHE, PULL_CACHE_BYTES_MAX};
use crate::token_buckets::ns;

/// One worker's.
pub(super) struct NearCache {
    /// `None` if nothing is to be kept.
    states: Option<Cache<UserId, Kept, Bytes, HashOnce>>,
    online_for: Duration,
    /// Times are counted from here.
    began_at: Instant,
    /// By which they were looked up.
    ring: RingHash,
}

/// What was said of a user. With its key and links, an entry takes 64 bytes, which is a cache line.
#[derive(Clone, Copy, Debug)]
struct Kept {
    until_ns: u64,
    /// `None` for one who was not found.
    online_since: Option<u64>,
}

/// A user whose hash by the directory's [`Hasher`] is known.
struct Hashed<'a> {
    user: &'a UserId,
    hash: u64,
}

impl Hash for Hashed<'_> {
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.hash);
    }
}

impl Equivalent<UserId> for Hashed<'_> {
    fn equivalent(&self, user: &UserId) -> bool {
        self.user == user
    }
}

/// Hashes users as the directory does, and takes the hash of [`Hashed`] as it is.
#[derive(Clone)]
struct HashOnce(Hasher);

struct Hashing {
    hasher: <Hasher as BuildHasher>::Hasher,
    known: Option<u64>,
}

impl BuildHasher for HashOnce {
    type Hasher = Hashing;

    fn build_hasher(&self) -> Hashing {
        Hashing {
            hasher: self.0.build_hasher(),
            known: None,
        }
    }
}

impl std::hash::Hasher for Hashing {
    fn write(&mut self, bytes: &[u8]) {
        self.hasher.write(bytes);
    }

    fn write_u8(&mut self, byte: u8) {
        self.hasher.write_u8(byte);
    }

    /// Ids have none.
    fn write_u64(&mut self, hash: u64) {
        self.known = Some(hash);
    }

    fn finish(&self) -> u64 {
        self.known.unwrap_or_else(|| self.hasher.finish())
    }
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
                Cache::with_options(options, Bytes, HashOnce(hasher.clone()), lifecycle)
            }),
            online_for,
            began_at: Instant::now(),
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

    /// What is kept of a user with this hash ([`Users::hash`](presenced_presence::users::Users::hash)).
    pub(super) fn get(&self, hash: u64, user: &UserId, now: Instant) -> Option<State> {
        let kept = self.states.as_ref()?.get(&Hashed { user, hash })?;
        if self.ns(now) >= kept.until_ns {
            return None;
        }
        Some(match kept.online_since {
            Some(since) => State::Online(since),
            None => {
                let asked_at_ns = kept.until_ns.saturating_sub(ns(self.miss_for()));
                let asked_at = self.began_at + Duration::from_nanos(asked_at_ns);
                State::Offline { asked_at }
            }
        })
    }

    /// A user is here, which a miss that is kept must not deny when the user goes on elsewhere.
    pub(super) fn came(&mut self, hash: u64, user: &UserId, since: u64, now: Instant) {
        let until_ns = self.ns(now) + ns(self.online_for);
        let states = self.states.as_mut();
        if let Some(mut kept) = states.and_then(|states| states.get_mut(&Hashed { user, hash })) {
            *kept = Kept {
                until_ns,
                online_since: Some(since),
            };
        }
    }

    /// Keeps what a look-up by `ring`, begun at `asked_at`, has said of a user.
    pub(super) fn keep(&mut self, user: &UserId, state: State, ring: RingHash, asked_at: Instant) {
        if ring != self.ring {
            return;
        }
        let (online_since, time) = match state {
            State::Online(since) => (Some(since), self.online_for),
            State::Offline { .. } => (None, self.miss_for()),
            State::Unknown => return,
        };
        let until_ns = self.ns(asked_at) + ns(time);
        if let Some(states) = &mut self.states {
            let kept = Kept {
                until_ns,
                online_since,
            };
            states.insert(user.clone(), kept);
        }
    }

    fn miss_for(&self) -> Duration {
        self.online_for.min(MISS_CACHE)
    }

    fn ns(&self, at: Instant) -> u64 {
        ns(at.saturating_duration_since(self.began_at))
    }
}

#[cfg(test)]
mod tests {
    use presenced_memcached::limits::BACKOFF_MAX;

    use super::*;

    fn user(number: usize) -> UserId {
        UserId::new(&format!("user-{number}")).unwrap()
    }

    fn hash(user: &UserId) -> u64 {
        Hasher::fixed().hash_one(user.as_str())
    }

    impl NearCache {
        fn find(&self, user: &UserId, now: Instant) -> Option<State> {
            self.get(hash(user), user, now)
        }
    }

    fn cache(online_for: Duration, ring: RingHash) -> NearCache {
        NearCache::new(online_for, ring, &Hasher::fixed())
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
        let mut cache = cache(s(1), ring);
        let asked_at = Instant::now();
        let offline = State::Offline { asked_at };
        cache.keep(&user(1), State::Online(7), ring, asked_at);
        cache.keep(&user(2), offline, ring, asked_at);
        cache.keep(&user(3), State::Unknown, ring, asked_at);
        cache.keep(&user(4), State::Online(7), other, asked_at);
        let kept = |cache: &NearCache, after: Duration| {
            [1, 2, 3, 4].map(|number| cache.find(&user(number), asked_at + after))
        };
        let all = [Some(State::Online(7)), Some(offline), None, None];
        assert_eq!(kept(&cache, ms(249)), all);
        assert_eq!(kept(&cache, ms(250)), [all[0], None, None, None]);
        assert_eq!(kept(&cache, ms(999)), [all[0], None, None, None]);
        assert_eq!(kept(&cache, s(1)), [None; 4]);
        // A miss is over when the user comes.
        cache.came(hash(&user(2)), &user(2), 8, asked_at + ms(10));
        cache.came(hash(&user(5)), &user(5), 8, asked_at + ms(10));
        assert_eq!(
            cache.find(&user(2), asked_at + s(1)),
            Some(State::Online(8))
        );
        assert_eq!(cache.find(&user(5), asked_at + ms(10)), None);
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
        let mut short = cache(Duration::from_millis(100), ring);
        let asked_at = Instant::now();
        let offline = State::Offline { asked_at };
        short.keep(&user(1), offline, ring, asked_at);
        assert_eq!(
            short.find(&user(1), asked_at + Duration::from_millis(100)),
            None
        );
        let mut none = cache(Duration::ZERO, ring);
        none.keep(&user(1), State::Online(1), ring, asked_at);
        assert_eq!(none.find(&user(1), asked_at), None);
        const { assert!(MISS_CACHE.as_millis() < BACKOFF_MAX.as_millis()) };
    }

    #[test]
    fn a_user_has_the_same_hash_wherever_it_comes_from() {
        let hashes = HashOnce(Hasher::fixed());
        for length in 1..=200 {
            let user = UserId::new(&"x".repeat(length)).unwrap();
            let hash = hash(&user);
            assert_eq!(hashes.hash_one(&user), hash);
            assert_eq!(hashes.hash_one(Hashed { user: &user, hash }), hash);
        }
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
