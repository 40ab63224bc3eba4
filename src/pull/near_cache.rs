//! What look-ups have said lately, so that users whom many ask for are not looked up for each of
//! them.
//!
//! "Online" is kept for as long as the operator says, "not found" for at most
//! [`MISS_CACHE`]: a user who connects should be seen soon. What is unknown is asked anew.
//!
//! Entries are added to the young one of two tables. When that is as old as an entry may get, or
//! full, it becomes the old one, and the one that was old goes. Unless the tables are too small for
//! all who are asked for, nothing in it is true any more by then. So entries need no lists by which
//! they are evicted, and what a look-up has to load from memory is one entry. quick_cache has such
//! lists, and a look-up has to load three things, one after the other: a place in a table, what is
//! there, and the entry. With it, pulls that the cache answers took a fifth more CPU time
//! (`benches/README.md`, look-ups).

use std::hash::BuildHasher;
use std::hint::black_box;
use std::mem;
use std::num::NonZeroU64;
use std::time::Duration;

use hashbrown::HashTable;
use hashbrown::hash_table::IntoIter;
use presenced_memcached::marker::RingHash;
use presenced_presence::UserId;
use presenced_presence::users::Hasher;
use tokio::time::Instant;

use super::node_lookup::State;
use crate::limits::{MISS_CACHE, PULL_CACHE_BYTES_MAX};
use crate::token_buckets::ns;

/// One worker's.
pub(super) struct NearCache {
    young: Generation,
    old: Generation,
    /// What was old before. To free the ids of all at once may take milliseconds.
    leaving: IntoIter<Entry>,
    /// When `young` was empty.
    young_since_ns: u64,
    /// Zero if nothing is to be kept.
    online_for: Duration,
    /// Times are counted from here.
    began_at: Instant,
    /// By which they were looked up.
    ring: RingHash,
    hasher: Hasher,
}

/// Users of whom something is known, each once.
#[derive(Default)]
struct Generation {
    entries: HashTable<Entry>,
    /// What ids take in memory of their own.
    ids_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    user: UserId,
    kept: Kept,
}

/// What was said of a user.
#[derive(Clone, Copy, Debug)]
struct Kept {
    until_ns: u64,
    /// `None` for one who was not found.
    online_since: Option<NonZeroU64>,
}

const _: () = assert!(size_of::<Entry>() <= 40);

/// A generation's table. There are three: the young one, the old one, and the one that leaves. While
/// the young one grows it is there twice, once of half the size, but nothing leaves any more.
const TABLE_BYTES_MAX: usize = PULL_CACHE_BYTES_MAX / 6;

/// What ids of a generation take in memory of their own. There are no more than those of two: ids leave
/// twice as fast as new ones come.
const IDS_BYTES_MAX: usize = PULL_CACHE_BYTES_MAX / 4;

const _: () = assert!(3 * TABLE_BYTES_MAX + 2 * IDS_BYTES_MAX <= PULL_CACHE_BYTES_MAX);

/// What an allocator takes for itself.
const ALLOCATION_BYTES: usize = 16;

/// Heap memory that an id takes: none if it is short.
fn bytes_beside(user: &UserId) -> usize {
    let id = user.as_str().len();
    if id > size_of::<UserId>() {
        id + ALLOCATION_BYTES
    } else {
        0
    }
}

impl Generation {
    fn with_capacity(entries: usize) -> Generation {
        Generation {
            entries: HashTable::with_capacity(entries),
            ids_bytes: 0,
        }
    }

    fn find(&self, hash: u64, user: &UserId) -> Option<&Kept> {
        let entry = self.entries.find(hash, |entry| entry.user == *user)?;
        Some(&entry.kept)
    }

    fn find_mut(&mut self, hash: u64, user: &UserId) -> Option<&mut Kept> {
        let entry = self.entries.find_mut(hash, |entry| entry.user == *user)?;
        Some(&mut entry.kept)
    }

    /// The entry of a user with this hash, or that of another one with a similar hash.
    fn likely(&self, hash: u64) -> Option<&Entry> {
        self.entries.find(hash, |_| true)
    }

    /// Adds a user who is not there.
    fn insert(&mut self, hash: u64, entry: Entry, hasher: &Hasher) {
        self.ids_bytes += bytes_beside(&entry.user);
        let rehash = |entry: &Entry| hasher.hash_one(entry.user.as_str());
        self.entries.insert_unique(hash, entry, rehash);
    }

    /// Whether there is no room for one more user.
    fn is_full(&self, user: &UserId) -> bool {
        let grows = self.entries.len() == self.entries.capacity();
        let is_table_full = grows && 2 * self.entries.allocation_size() > TABLE_BYTES_MAX;
        is_table_full || self.ids_bytes + bytes_beside(user) > IDS_BYTES_MAX
    }
}

impl NearCache {
    /// Keeps "online" for so long.
    pub(super) fn new(online_for: Duration, ring: RingHash, hasher: &Hasher) -> NearCache {
        NearCache {
            young: Generation::default(),
            old: Generation::default(),
            leaving: IntoIter::default(),
            young_since_ns: 0,
            online_for,
            began_at: Instant::now(),
            ring,
            hasher: hasher.clone(),
        }
    }

    /// Users may be elsewhere when the ring has changed.
    pub(super) fn follow(&mut self, ring: RingHash) {
        if self.ring != ring {
            self.ring = ring;
            self.young = Generation::default();
            self.old = Generation::default();
            self.leaving = IntoIter::default();
        }
    }

    /// Brings what may be kept of users with these hashes into the processor's caches. In a loop of its
    /// own: the loads do not wait for each other, so many are under way at once.
    pub(super) fn fetch(&self, hashes: &[u64]) {
        if self.online_for.is_zero() {
            return;
        }
        let likely = |&hash: &u64| self.young.likely(hash).or_else(|| self.old.likely(hash));
        let touch = |sum: u64, entry: &Entry| {
            // It may be in memory of its own.
            let id = entry.user.as_str().as_bytes().first();
            sum ^ entry.kept.until_ns ^ u64::from(id.copied().unwrap_or_default())
        };
        black_box(hashes.iter().filter_map(likely).fold(0, touch));
    }

    /// What is kept of a user with this hash ([`Users::hash`](presenced_presence::users::Users::hash)).
    pub(super) fn get(&self, hash: u64, user: &UserId, now: Instant) -> Option<State> {
        if self.online_for.is_zero() {
            return None;
        }
        let young = self.young.find(hash, user);
        let kept = young.or_else(|| self.old.find(hash, user))?;
        if self.ns(now) >= kept.until_ns {
            return None;
        }
        Some(match kept.online_since {
            Some(since) => State::Online(since.get()),
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
        let young = self.young.find_mut(hash, user);
        if let Some(kept) = young.or_else(|| self.old.find_mut(hash, user)) {
            let online_since = NonZeroU64::new(since);
            *kept = Kept {
                until_ns: online_since.map_or(0, |_| until_ns),
                online_since,
            };
        }
    }

    /// Keeps what a look-up by `ring`, begun at `asked_at`, has said of a user.
    pub(super) fn keep(&mut self, user: &UserId, state: State, ring: RingHash, asked_at: Instant) {
        if ring != self.ring || self.online_for.is_zero() {
            return;
        }
        let (online_since, time) = match state {
            State::Online(since) => match NonZeroU64::new(since) {
                None => return,
                since => (since, self.online_for),
            },
            State::Offline { .. } => (None, self.miss_for()),
            State::Unknown => return,
        };
        let asked_at_ns = self.ns(asked_at);
        let kept = Kept {
            until_ns: asked_at_ns + ns(time),
            online_since,
        };
        let hash = self.hasher.hash_one(user.as_str());
        if let Some(known) = self.young.find_mut(hash, user) {
            *known = kept;
            return;
        }
        let age_ns = asked_at_ns.saturating_sub(self.young_since_ns);
        if age_ns >= ns(self.online_for) || self.young.is_full(user) {
            self.next_generation(asked_at_ns);
        }
        self.let_go(bytes_beside(user));
        let user = user.clone();
        self.young.insert(hash, Entry { user, kept }, &self.hasher);
    }

    fn next_generation(&mut self, now_ns: u64) {
        // The next one is most likely as large.
        let next = Generation::with_capacity(self.young.entries.len());
        let leaves = mem::replace(&mut self.old, mem::replace(&mut self.young, next));
        self.leaving = leaves.entries.into_iter();
        self.young_since_ns = now_ns;
    }

    /// Frees twice as much of what leaves as a new entry takes, so it is gone before more leaves.
    fn let_go(&mut self, new_id_bytes: usize) {
        let (mut entries, mut ids_bytes) = (0, 0);
        while entries < 2 || ids_bytes < 2 * new_id_bytes {
            let Some(entry) = self.leaving.next() else {
                // Its table, too.
                self.leaving = IntoIter::default();
                return;
            };
            entries += 1;
            ids_bytes += bytes_beside(&entry.user);
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
    fn entries_last_for_their_time_when_tables_change() {
        let [ring, _] = rings();
        let ms = Duration::from_millis;
        let mut cache = cache(ms(1000), ring);
        let start = Instant::now();
        // One every 10 ms, so a new table begins with each hundredth.
        for number in 0..1000 {
            let now = start + ms(10) * number as u32;
            cache.keep(&user(number), State::Online(1 + number as u64), ring, now);
            let of = |number: usize| cache.find(&user(number), now);
            for age in 0..100.min(number + 1) {
                let known = number - age;
                assert_eq!(of(known), Some(State::Online(1 + known as u64)));
            }
            assert_eq!(number.checked_sub(100).and_then(of), None);
            assert!(cache.young.entries.len() <= 100 && cache.old.entries.len() <= 100);
        }
        // A user of the old table is in both then, and the new news count.
        let now = start + ms(10_000);
        cache.keep(&user(0), State::Online(1), ring, now);
        cache.keep(&user(950), State::Online(2), ring, now);
        let of = |cache: &NearCache, number| cache.find(&user(number), now + ms(1));
        assert!(cache.old.find(hash(&user(950)), &user(950)).is_some());
        assert_eq!(of(&cache, 950), Some(State::Online(2)));
        // So they do of a user who comes.
        assert!(cache.young.find(hash(&user(951)), &user(951)).is_none());
        cache.came(hash(&user(951)), &user(951), 3, now);
        cache.came(hash(&user(950)), &user(950), 3, now);
        assert_eq!(of(&cache, 950), Some(State::Online(3)));
        assert_eq!(of(&cache, 951), Some(State::Online(3)));
    }

    #[test]
    fn what_is_fetched_is_not_changed() {
        let [ring, _] = rings();
        let now = Instant::now();
        let mut cache = cache(Duration::from_secs(1), ring);
        cache.fetch(&[1, 2]);
        cache.keep(&user(1), State::Online(1), ring, now);
        cache.fetch(&[hash(&user(1)), hash(&user(2))]);
        assert_eq!(cache.find(&user(1), now), Some(State::Online(1)));
        assert_eq!(cache.find(&user(2), now), None);
    }

    #[test]
    fn memory_is_bounded() {
        let [ring, _] = rings();
        let now = Instant::now();
        let long = "x".repeat(190);
        // What ids begin with, in turn, and how many of them a table has room for.
        for (lengths, room) in [
            ([0; 2], 57_000),
            ([30; 2], 57_000),
            ([190; 2], 19_000),
            ([0, 190], 19_000),
        ] {
            let mut cache = cache(Duration::from_secs(1), ring);
            let (mut tables, mut fullest) = ([0; 3], 0);
            for number in 0..6 * room {
                let id = &long[..lengths[number / 10_000 % 2]];
                let user = UserId::new(&format!("{id}{number}")).unwrap();
                let young = cache.young.entries.len();
                cache.keep(&user, State::Online(1), ring, now);
                let has_changed = cache.young.entries.len() < young;
                if has_changed {
                    tables = [0, tables[0], tables[1]];
                    fullest = fullest.max(young);
                }
                if cache.leaving.len() == 0 {
                    tables[2] = 0;
                }
                let table = cache.young.entries.allocation_size();
                // While it grew, there was the smaller one, too.
                let smaller = if table == tables[0] { 0 } else { tables[0] };
                tables[0] = table;
                if has_changed || smaller > 0 || number % 5_000 == 0 {
                    let leaving = cache.leaving.iter().map(|entry| bytes_beside(&entry.user));
                    let ids = cache.young.ids_bytes + cache.old.ids_bytes + leaving.sum::<usize>();
                    let used = tables.iter().sum::<usize>() + smaller + ids;
                    assert!(used <= PULL_CACHE_BYTES_MAX, "{used}");
                }
            }
            assert!(fullest >= room, "{fullest}");
        }
    }
}
