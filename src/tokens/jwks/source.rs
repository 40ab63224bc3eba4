//! Keys of one provider, as last fetched: kept for those who check tokens, and fetched again by a task
//! of its own.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use presenced_session::metrics::Counter;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::discovery::Issuer;
use super::fetch::{FetchError, FetchFault, get};
use super::network::Network;
use super::schedule::Schedule;
use super::url::Url;
use crate::limits::{KEYS_WAIT, KEYS_WAITERS_MAX};

/// Where a provider has its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// Here.
    Keys(Url),
    /// Where the issuer says, each time they are fetched.
    Issuer(Issuer),
}

/// What keys are fetched, and how.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whose they are: `iss` of the tokens that they sign.
    pub issuer: String,
    /// Where they are.
    pub location: Location,
    /// How they are reached.
    pub network: Network,
    /// Time between two fetches that tokens with unknown keys cause.
    pub ask_pause: Duration,
}

/// Reads keys from what was fetched. It says for people why it can't.
pub type Parse<K> = fn(&[u8]) -> Result<K, String>;

/// The keys of one provider. They are taken by any thread; one task fetches them ([`Source::follow`]).
#[derive(Debug)]
pub struct Source<K> {
    config: Config,
    parse: Parse<K>,
    state: watch::Sender<State<K>>,
    /// For the task: somebody has seen a token whose key is not among them.
    asked: Notify,
    waiting: Semaphore,
    metrics: Metrics,
}

#[derive(Debug)]
struct State<K> {
    keys: Option<Arc<K>>,
    /// When they came.
    kept_since: Option<Instant>,
    /// When the last fetch has begun.
    begun_at: Option<Instant>,
    is_under_way: bool,
    /// How many fetches are over.
    ended: u64,
}

#[derive(Debug, Default)]
struct Metrics {
    good: Counter,
    /// As [`FetchFault::LABELS`].
    bad: [Counter; FetchFault::LABELS.len()],
}

impl<K> Source<K> {
    /// Without keys, until [`Source::follow`] has fetched some that `parse` can read.
    pub fn new(config: Config, parse: Parse<K>) -> Source<K> {
        Source {
            config,
            parse,
            state: watch::Sender::new(State {
                keys: None,
                kept_since: None,
                begun_at: None,
                is_under_way: false,
                ended: 0,
            }),
            asked: Notify::new(),
            waiting: Semaphore::new(KEYS_WAITERS_MAX),
            metrics: Metrics::default(),
        }
    }

    /// Whose keys they are. Several issuers may have the same provider.
    pub fn issuer(&self) -> &str {
        &self.config.issuer
    }

    /// The provider, as the operator has named it.
    pub fn name(&self) -> String {
        match &self.config.location {
            Location::Keys(url) => url.to_string(),
            Location::Issuer(issuer) => issuer.name().to_owned(),
        }
    }

    /// Whether `other` fetches the same: from the same place, with trust in the same authorities.
    pub fn is_like(&self, other: &Source<K>) -> bool {
        let (own, other) = (&self.config, &other.config);
        own.location == other.location && own.network.tls == other.network.tls
    }

    /// The keys that were fetched last; `None` before there were any, and then no token can be
    /// checked. Cheap: a lock is held while a pointer is copied.
    pub fn keys(&self) -> Option<Arc<K>> {
        self.state.borrow().keys.clone()
    }

    /// Whether there are keys.
    pub fn is_ready(&self) -> bool {
        self.state.borrow().keys.is_some()
    }

    /// Returns when there are keys.
    pub async fn ready(&self) {
        let mut state = self.state.subscribe();
        // The sender lives as long as `self`.
        let _ = state.wait_for(|state| state.keys.is_some()).await;
    }

    /// How long the provider has not been heard of: the time since the keys were fetched. `None` if
    /// there are none.
    pub fn age(&self) -> Option<Duration> {
        let since = self.state.borrow().kept_since;
        since.map(|since| since.elapsed())
    }

    /// Fetches so far, by how they ended: a label and how many.
    pub fn fetches(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let bad = FetchFault::LABELS.iter().zip(&self.metrics.bad);
        let bad = bad.map(|(label, count)| (*label, count.value()));
        [("ok", self.metrics.good.value())].into_iter().chain(bad)
    }

    /// For whoever has a token whose key is not among the keys that it has `seen`: newer ones, if
    /// there are any within two seconds. Anyone can send such a token, so keys are fetched for them
    /// once in each `ask_pause` at most, and only so many wait: the rest is told at once that there are none.
    pub async fn newer(&self, seen: &Arc<K>) -> Option<Arc<K>> {
        let mut state = self.state.subscribe();
        let ended = {
            let now = state.borrow_and_update();
            if !now.has(seen) {
                return now.keys.clone();
            }
            if !now.is_under_way && !now.may_be_asked(self.config.ask_pause) {
                return None;
            }
            now.ended
        };
        let _waits = self.waiting.try_acquire().ok()?;
        self.asked.notify_one();
        let fetched = state.wait_for(|state| state.ended > ended);
        let state = timeout(KEYS_WAIT, fetched).await.ok()?.ok()?;
        state.keys.clone().filter(|_| !state.has(seen))
    }

    /// Fetches the keys now, and again and again. It never returns.
    pub async fn follow(&self, random: Rng) {
        let mut schedule = Schedule::new(random);
        let mut outcome = None;
        loop {
            let fetched = self.fetch().await;
            self.log_change(&mut outcome, fetched.as_ref().err());
            let pause = match fetched {
                Ok(fresh_for) => schedule.after_success(fresh_for),
                Err(_) => schedule.after_failure(),
            };
            self.rest_until(Instant::now() + pause).await;
        }
    }

    /// Fetches the keys now, and once: for whoever does not follow them.
    ///
    /// # Errors
    ///
    /// What happened instead.
    pub async fn fetch_once(&self) -> Result<(), FetchError> {
        self.fetch().await.map(drop)
    }

    /// Returns earlier if somebody asks who may.
    async fn rest_until(&self, end: Instant) {
        loop {
            tokio::select! {
                biased;
                () = sleep_until(end) => return,
                () = self.asked.notified() => if self.state.borrow().may_be_asked(self.config.ask_pause) {
                    return;
                },
            }
        }
    }

    /// Fetches the keys once, and keeps them. Says for how long they are good, if the provider does.
    async fn fetch(&self) -> Result<Option<Duration>, FetchError> {
        let _under_way = UnderWay::new(&self.state);
        match self.fetch_keys().await {
            Ok((keys, fresh_for)) => {
                self.metrics.good.add(1);
                // Those who wait are woken when it is over.
                self.state.send_if_modified(|state| {
                    state.keys = Some(Arc::new(keys));
                    state.kept_since = Some(Instant::now());
                    false
                });
                Ok(fresh_for)
            }
            Err(error) => {
                self.metrics.count(error.fault.label());
                Err(error)
            }
        }
    }

    async fn fetch_keys(&self) -> Result<(K, Option<Duration>), FetchError> {
        let network = &self.config.network;
        let found;
        let url = match &self.config.location {
            Location::Keys(url) => url,
            Location::Issuer(issuer) => {
                let document = issuer.document();
                let fetched = get(network, document).await?;
                let keys = fetched.parsed(|body| issuer.keys(body));
                found = keys.map_err(|fault| document.fault(fault))?;
                &found
            }
        };
        let fetched = get(network, url).await?;
        let keys = fetched.parsed(self.parse);
        Ok((keys.map_err(|fault| url.fault(fault))?, fetched.fresh_for))
    }

    /// One line when the provider is away or has become so for another reason, and one when it is
    /// back.
    fn log_change(&self, before: &mut Option<&'static str>, error: Option<&FetchError>) {
        let now = error.map_or("ok", |error| error.fault.label());
        let was = before.replace(now);
        if was == Some(now) {
            return;
        }
        let (issuer, provider) = (self.issuer(), self.name());
        match (error, self.age()) {
            (None, _) if was.is_none() => tracing::info!(issuer, provider, "fetched its keys"),
            (None, _) => tracing::info!(issuer, provider, "its keys can be fetched again"),
            (Some(error), Some(age)) => {
                let age_s = age.as_secs();
                tracing::warn!(issuer, provider, %error, age_s, "cannot fetch its keys; the last ones are used");
            }
            (Some(error), None) => {
                tracing::warn!(issuer, provider, %error, "cannot fetch its keys; without them nobody can connect");
            }
        }
    }
}

impl<K> State<K> {
    fn has(&self, keys: &Arc<K>) -> bool {
        self.keys.as_ref().is_some_and(|own| Arc::ptr_eq(own, keys))
    }

    /// Whether a token with an unknown key is a reason to fetch.
    fn may_be_asked(&self, pause: Duration) -> bool {
        let since = self.begun_at.map(|begun_at| begun_at.elapsed());
        since.is_none_or(|since| since >= pause)
    }
}

impl Metrics {
    fn count(&self, label: &'static str) {
        let mut bad = FetchFault::LABELS.iter().zip(&self.bad);
        if let Some((_, count)) = bad.find(|(known, _)| **known == label) {
            count.add(1);
        }
    }
}

/// A fetch from its begin to its end, however it ends.
struct UnderWay<'a, K>(&'a watch::Sender<State<K>>);

impl<'a, K> UnderWay<'a, K> {
    fn new(state: &'a watch::Sender<State<K>>) -> UnderWay<'a, K> {
        state.send_if_modified(|state| {
            state.begun_at = Some(Instant::now());
            state.is_under_way = true;
            false
        });
        UnderWay(state)
    }
}

impl<K> Drop for UnderWay<'_, K> {
    fn drop(&mut self) {
        self.0.send_modify(|state| {
            state.is_under_way = false;
            state.ended += 1;
        });
    }
}
