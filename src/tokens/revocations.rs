//! Tokens that are refused though they have not expired.
//!
//! All workers share one set, which is looked at once for each token that is shown. As long as
//! nothing is revoked, that is one load.
//!
//! This has no clock: seconds of Unix time (`now_s`) are arguments.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use presenced_presence::UserId;

use crate::limits::{JTI_BYTES_MAX, REVOCATIONS_MAX};

/// What revocations go by in a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenId {
    /// `jti`, if it is one that can be revoked.
    pub jti: Option<Jti>,
    /// `iat` in whole seconds.
    pub issued_at_s: Option<u64>,
}

/// The identifier of a token (RFC 7519 §4.1.7).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Jti(Box<str>);

impl Jti {
    /// `None` if it is empty or longer than [`JTI_BYTES_MAX`].
    #[must_use]
    pub fn new(jti: &str) -> Option<Jti> {
        let is_legal = (1..=JTI_BYTES_MAX).contains(&jti.len());
        is_legal.then(|| Jti(jti.into()))
    }

    /// As the token has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tokens {
    /// Everybody's.
    All,
    /// Those of a user.
    OfUser(UserId),
    /// One of a user's.
    One(UserId, Jti),
}

/// Which tokens are refused, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Whose.
    pub tokens: Tokens,
    /// Only those that were issued before this time, or do not say when. Of no meaning for one
    /// token, which is refused whenever it was issued.
    pub before_s: u64,
    /// When all of them have expired.
    pub ends_s: u64,
}

impl Revocation {
    /// Adds what `other` refuses, of the same tokens.
    pub fn add(&mut self, other: &Revocation) {
        self.before_s = self.before_s.max(other.before_s);
        self.ends_s = self.ends_s.max(other.ends_s);
    }

    /// Whether this refuses all that `other` does, for as long.
    #[must_use]
    pub fn covers(&self, other: &Revocation) -> bool {
        self.tokens == other.tokens
            && self.before_s >= other.before_s
            && self.ends_s >= other.ends_s
    }
}

/// The revocations that are in force.
#[derive(Debug, Default)]
pub struct Revocations {
    known: RwLock<Known>,
    /// Whether there are none, for readers in a hurry.
    is_some: AtomicBool,
    dropped: AtomicU64,
    is_caught_up: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    entries: HashMap<Arc<Tokens>, Times>,
    /// The same, the one that ends first in front.
    by_end: BTreeSet<(u64, Arc<Tokens>)>,
}

#[derive(Clone, Copy, Debug)]
struct Times {
    before_s: u64,
    ends_s: u64,
}

impl Revocations {
    /// Whether a user's token is refused.
    #[must_use]
    pub fn refuse(&self, user: &UserId, token: &TokenId, now_s: u64) -> bool {
        // Set under the lock that is taken then.
        if !self.is_some.load(Ordering::Acquire) {
            return false;
        }
        let issued_before = |times: &Times| {
            let is_before = token.issued_at_s.is_none_or(|at_s| at_s < times.before_s);
            is_before && now_s < times.ends_s
        };
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if known.entries.get(&Tokens::All).is_some_and(issued_before) {
            return true;
        }
        let of_user = known.entries.get(&Tokens::OfUser(user.clone()));
        if of_user.is_some_and(issued_before) {
            return true;
        }
        token.jti.as_ref().is_some_and(|jti| {
            let one = known.entries.get(&Tokens::One(user.clone(), jti.clone()));
            one.is_some_and(|times| now_s < times.ends_s)
        })
    }

    /// Adds a revocation. Returns whether it refuses more than what was known before, and then
    /// sessions must be looked at. When there are too many, the one that ends first goes.
    pub fn add(&self, new: Revocation) -> bool {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let times = Times {
            before_s: new.before_s,
            ends_s: new.ends_s,
        };
        let is_more = known.put(new.tokens, times);
        while known.entries.len() > REVOCATIONS_MAX {
            known.drop_first();
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        self.is_some.store(true, Ordering::Release);
        is_more
    }

    /// Drops those that have ended.
    pub fn forget_ended(&self, now_s: u64) {
        let has_ended = |known: &Known| known.by_end.first().is_some_and(|(end, _)| *end <= now_s);
        if !has_ended(&self.known.read().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        while has_ended(&known) {
            known.drop_first();
        }
        let is_some = !known.entries.is_empty();
        self.is_some.store(is_some, Ordering::Release);
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Revocation> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let entries = known.entries.iter().map(|(tokens, times)| Revocation {
            tokens: Tokens::clone(tokens),
            before_s: times.before_s,
            ends_s: times.ends_s,
        });
        entries.collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many were dropped because there were too many.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Whether those of other edges, from before this one started, are known, or given up.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.is_caught_up.load(Ordering::Relaxed)
    }

    /// They are.
    pub fn caught_up(&self) {
        self.is_caught_up.store(true, Ordering::Relaxed);
    }
}

impl Known {
    /// Of two revocations of the same tokens, what each refuses is refused. Says whether that is
    /// more than before.
    fn put(&mut self, tokens: Tokens, new: Times) -> bool {
        let tokens = Arc::new(tokens);
        let Some(times) = self.entries.get_mut(&tokens) else {
            self.by_end.insert((new.ends_s, tokens.clone()));
            self.entries.insert(tokens, new);
            return true;
        };
        if new.ends_s > times.ends_s {
            self.by_end.remove(&(times.ends_s, tokens.clone()));
            self.by_end.insert((new.ends_s, tokens));
            times.ends_s = new.ends_s;
        }
        let is_more = new.before_s > times.before_s;
        times.before_s = times.before_s.max(new.before_s);
        is_more
    }

    fn drop_first(&mut self) {
        if let Some((_, tokens)) = self.by_end.pop_first() {
            self.entries.remove(&tokens);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user(id: &str) -> UserId {
        UserId::new(id).unwrap()
    }

    fn token(jti: Option<&str>, issued_at_s: Option<u64>) -> TokenId {
        TokenId {
            jti: jti.and_then(Jti::new),
            issued_at_s,
        }
    }

    fn revocation(tokens: Tokens, before_s: u64, ends_s: u64) -> Revocation {
        Revocation {
            tokens,
            before_s,
            ends_s,
        }
    }

    fn one(id: &str, jti: &str) -> Tokens {
        Tokens::One(user(id), Jti::new(jti).unwrap())
    }

    #[test]
    fn each_kind_refuses_its_tokens_and_no_others() {
        let set = Revocations::default();
        let refused = |id: &str, jti, iat| set.refuse(&user(id), &token(jti, iat), 1000);
        assert!(!refused("alice", None, None));
        set.add(revocation(Tokens::OfUser(user("alice")), 500, 2000));
        assert!(refused("alice", Some("x"), Some(499)));
        assert!(refused("alice", None, None), "of no known age");
        assert!(!refused("alice", None, Some(500)));
        assert!(!refused("bob", None, Some(1)));
        set.add(revocation(one("bob", "b1"), 0, 2000));
        assert!(refused("bob", Some("b1"), Some(999)), "whenever issued");
        assert!(!refused("bob", Some("b2"), None));
        assert!(!refused("carol", Some("b1"), None), "another user's");
        set.add(revocation(Tokens::All, 300, 2000));
        assert!(refused("carol", None, Some(299)));
        assert!(!refused("carol", None, Some(300)));
        // At the end of each.
        assert!(!set.refuse(&user("alice"), &token(None, None), 2000));
        assert_eq!(set.len(), 3);
        set.forget_ended(1999);
        assert_eq!(set.len(), 3);
        set.forget_ended(2000);
        assert!(set.is_empty());
    }

    #[test]
    fn what_is_known_already_is_nothing_new() {
        let set = Revocations::default();
        let of_alice =
            |before_s, ends_s| revocation(Tokens::OfUser(user("alice")), before_s, ends_s);
        assert!(set.add(of_alice(100, 1000)));
        assert!(!set.add(of_alice(100, 1000)));
        assert!(!set.add(of_alice(50, 2000)), "it ends later");
        assert!(set.add(of_alice(101, 900)));
        assert_eq!(set.all(), [of_alice(101, 2000)]);
        assert!(set.add(revocation(one("alice", "x"), 0, 10)));
        assert!(!set.add(revocation(one("alice", "x"), 0, 10)));
    }

    #[test]
    fn when_there_are_too_many_the_one_that_ends_first_goes() {
        let set = Revocations::default();
        for number in 0..REVOCATIONS_MAX as u64 {
            let ends_s = 10_000 + (number * 7919) % 100_003;
            set.add(revocation(
                Tokens::OfUser(user(&number.to_string())),
                1,
                ends_s,
            ));
        }
        assert_eq!((set.len(), set.dropped()), (REVOCATIONS_MAX, 0));
        let first = set.all().into_iter().min_by_key(|one| one.ends_s).unwrap();
        set.add(revocation(Tokens::All, 1, u64::MAX));
        assert_eq!((set.len(), set.dropped()), (REVOCATIONS_MAX, 1));
        assert!(!set.all().contains(&first));
        // One that ends before all others makes no room for itself.
        set.add(revocation(one("new", "x"), 1, 1));
        assert_eq!((set.len(), set.dropped()), (REVOCATIONS_MAX, 2));
        assert!(!set.refuse(&user("new"), &token(Some("x"), Some(9)), 0));
    }

    #[test]
    fn identifiers_have_a_length() {
        assert_eq!(Jti::new(""), None);
        assert_eq!(Jti::new(&"x".repeat(JTI_BYTES_MAX + 1)), None);
        assert!(Jti::new(&"x".repeat(JTI_BYTES_MAX)).is_some());
    }

    fn any_tokens() -> impl Strategy<Value = Tokens> {
        let any_user = || "[ab]".prop_map(|id| user(&id));
        prop_oneof![
            Just(Tokens::All),
            any_user().prop_map(Tokens::OfUser),
            (any_user(), "[xy]").prop_map(|(user, jti)| Tokens::One(user, Jti::new(&jti).unwrap())),
        ]
    }

    fn any_revocation() -> impl Strategy<Value = Revocation> {
        (any_tokens(), 0..20u64, 0..20u64)
            .prop_map(|(tokens, before_s, ends_s)| revocation(tokens, before_s, ends_s))
    }

    proptest! {
        /// What a list of all of them would say, whatever their order; more is refused only where
        /// two of the same tokens have been made one.
        #[test]
        fn a_token_is_refused_where_any_of_them_refuses_it(
            added in prop::collection::vec(any_revocation(), 0..12),
            id in "[ab]",
            jti in prop::option::of("[xyz]"),
            issued_at_s in prop::option::of(0..20u64),
            now_s in 0..20u64,
        ) {
            let set = Revocations::default();
            for one in &added {
                set.add(one.clone());
            }
            set.forget_ended(now_s);
            let (user, token) = (user(&id), token(jti.as_deref(), issued_at_s));
            let concerns = |one: &&Revocation| match &one.tokens {
                Tokens::All => true,
                Tokens::OfUser(of) => *of == user,
                Tokens::One(of, jti) => *of == user && token.jti.as_ref() == Some(jti),
            };
            let refuses = |one: &Revocation| {
                let is_one = matches!(one.tokens, Tokens::One(..));
                let is_before = issued_at_s.is_none_or(|at| at < one.before_s);
                now_s < one.ends_s && (is_one || is_before)
            };
            let expected = added.iter().filter(concerns).any(refuses);
            let refused = set.refuse(&user, &token, now_s);
            prop_assert!(refused || !expected);
            let has_twins = (1..added.len())
                .any(|index| added[..index].iter().any(|one| one.tokens == added[index].tokens));
            prop_assert!(has_twins || refused == expected);
            // Nothing is left that has ended, and both tables agree.
            prop_assert!(set.all().iter().all(|one| one.ends_s > now_s));
            let known = set.known.read().unwrap();
            prop_assert_eq!(known.by_end.len(), known.entries.len());
            for (ends_s, tokens) in &known.by_end {
                prop_assert_eq!(known.entries[tokens].ends_s, *ends_s);
            }
        }
    }
}
