//! Reads the log that edges share, and keeps in it what this edge knows.
//!
//! At each look the last number is asked for, and what is new is read. The whole log is read at
//! first, and again now and then, after a loss of data, after a change of the ring, and when it was
//! begun anew. What is known and not found in it then is *owed*: some edge writes it again. Each
//! waits for a random time before it does, and reads what others have written meanwhile, so that
//! mostly one does it for all. Entries that are there twice do no harm.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use presenced_memcached::limits::LOG_BATCH;
use presenced_memcached::shared_log::{Last, RUN_BITS, new_run};
use presenced_memcached::{LogThrottle, MemcachedError, SharedLog};
use presenced_session::clock::Clock;
use presenced_tasks::{Pauses, Task, catch};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use super::entry;
use super::follower::{Follower, Seen};
use super::metrics::RevocationMetrics;
use super::sessions::RevokedSessions;
use crate::limits::{
    REFUSALS_LOG_PAUSE, REVOCATIONS_CHECK_INTERVAL, REVOCATIONS_LOOK_MAX, REVOCATIONS_START_LOOK,
    REVOCATIONS_START_TIME, RUN_AHEAD_MAX_S,
};
use crate::tokens::{Revocation, Revocations, Tokens};

/// A revocation that an operator has asked this edge for. It is in force here.
#[derive(Debug)]
pub struct Posted {
    /// What to write.
    pub revocation: Revocation,
    /// Told its number, or that memcached has not taken it.
    pub written: oneshot::Sender<Option<u64>>,
}

/// See the module.
#[derive(Debug)]
pub struct Keeper {
    log: SharedLog,
    revocations: Arc<Revocations>,
    sessions: Arc<RevokedSessions>,
    metrics: Arc<RevocationMetrics>,
    clock: Clock,
    /// Between two looks.
    interval: Duration,
    follower: Follower,
    /// What was posted here and is not written yet.
    posted: HashMap<Tokens, Revocation>,
    /// Of what was known when the whole log was last read, what was not found.
    owed: HashMap<Tokens, Revocation>,
    /// When what is owed is written.
    write_at: Instant,
    /// The log went back: it is begun anew when it is read.
    is_back: bool,
    /// As what the whole log was last read, and when.
    read_whole: Option<(NodesSeen, Instant)>,
    /// Since when some node has answered, before the log was read.
    up_since: Option<Instant>,
    logged: LogThrottle,
}

/// Whatever of the nodes may have taken entries away: the version of the ring, and losses.
type NodesSeen = (u64, u64);

impl Keeper {
    /// Keeps `log`, looking at it each `interval`.
    pub fn new(
        log: SharedLog,
        revocations: Arc<Revocations>,
        sessions: Arc<RevokedSessions>,
        metrics: Arc<RevocationMetrics>,
        clock: Clock,
        interval: Duration,
    ) -> Keeper {
        Keeper {
            log,
            revocations,
            sessions,
            metrics,
            clock,
            interval: interval.min(REVOCATIONS_LOOK_MAX),
            follower: Follower::default(),
            posted: HashMap::new(),
            owed: HashMap::new(),
            write_at: Instant::now(),
            is_back: false,
            read_whole: None,
            up_since: None,
            logged: LogThrottle::default(),
        }
    }

    /// Looks at the log, and writes what is posted; never returns.
    pub async fn run(mut self, mut posts: mpsc::Receiver<Posted>) {
        let mut pauses = Pauses::default();
        loop {
            let began_at = Instant::now();
            if catch(Task::Revocations, self.turns(&mut posts))
                .await
                .is_none()
            {
                // Whatever it was about to do is done when all is read again.
                self.read_whole = None;
                sleep(pauses.next(began_at.elapsed())).await;
            }
        }
    }

    async fn turns(&mut self, posts: &mut mpsc::Receiver<Posted>) {
        loop {
            let looked_at = Instant::now();
            self.turn(Vec::new()).await;
            let next_at = looked_at
                + match self.revocations.is_caught_up() {
                    true => self.interval,
                    false => self.interval.min(REVOCATIONS_START_LOOK),
                };
            loop {
                let post = tokio::select! {
                    biased;
                    () = sleep_until(next_at) => break,
                    Some(post) = posts.recv() => post,
                };
                let mut batch = vec![post];
                while batch.len() < LOG_BATCH
                    && let Ok(post) = posts.try_recv()
                {
                    batch.push(post);
                }
                self.turn(batch).await;
            }
        }
    }

    /// One look, and what has come since the last.
    async fn turn(&mut self, posts: Vec<Posted>) {
        for post in &posts {
            let new = &post.revocation;
            let posted = self.posted.entry(new.tokens.clone());
            posted
                .and_modify(|known| known.add(new))
                .or_insert_with(|| new.clone());
        }
        let mut numbers = HashMap::new();
        if let Err(error) = self.look(&mut numbers).await {
            tracing::debug!(%error, "the log of revocations can't be reached");
        }
        for post in posts {
            let number = numbers.get(&post.revocation.tokens).copied();
            // Nobody waits where it has taken too long.
            let _ = post.written.send(number);
        }
        let unwritten = self.posted.len() + self.owed.len();
        self.metrics.unwritten.set(unwritten as u64);
        self.note_start();
    }

    /// Reads what is new, and writes what is posted and owed. `numbers` are of what was written.
    async fn look(&mut self, numbers: &mut HashMap<Tokens, u64>) -> Result<(), MemcachedError> {
        let now_s = self.now_s();
        self.revocations.forget_ended(now_s);
        self.posted
            .retain(|_, revocation| revocation.ends_s > now_s);
        self.owed.retain(|_, revocation| revocation.ends_s > now_s);
        let last = self.last(now_s).await?;
        self.see(last);
        let is_read = self.read(numbers).await;
        if is_read {
            self.metrics.read();
            self.revocations.caught_up();
        }
        if self.is_back && is_read {
            let new = new_run(self.follower.greatest(), now_s);
            let is_ours = self.log.begin(last, new).await?;
            // Whoever did it, the next look reads what is there.
            self.is_back = false;
            self.follower.begun(if is_ours { new } else { 0 });
            let last = self.last(now_s).await?;
            let posted: Vec<_> = self.posted.values().cloned().collect();
            return self.write(last, &posted, numbers).await;
        }
        let mut due: Vec<_> = self.posted.values().cloned().collect();
        if is_read && Instant::now() >= self.write_at {
            let owed = self.owed.values();
            due.extend(
                owed.filter(|one| !self.posted.contains_key(&one.tokens))
                    .cloned(),
            );
        }
        self.write(last, &due, numbers).await
    }

    async fn last(&self, now_s: u64) -> Result<Last, MemcachedError> {
        Ok(match self.log.last().await? {
            // Whoever has put that there: no number after it would be left.
            Last::Number(last) if last >> RUN_BITS > now_s + RUN_AHEAD_MAX_S => Last::Foreign,
            last => last,
        })
    }

    /// Decides what is to be read.
    fn see(&mut self, last: Last) {
        let number = match last {
            Last::Number(number) => Some(number),
            Last::Missing | Last::Foreign => None,
        };
        let seen = self.follower.see(number);
        if matches!(seen, Seen::Lost | Seen::Back) {
            self.metrics.resets.add(1);
            if self.logged.is_due_for("lost", REFUSALS_LOG_PAUSE) {
                tracing::warn!(
                    known = self.revocations.len(),
                    "memcached has lost the log of revocations, or an older one is back: what is known \
                     here is written again"
                );
            }
        }
        self.is_back |= seen == Seen::Back;
        let nodes = self.nodes();
        let is_checked = self
            .read_whole
            .is_some_and(|(seen, at)| seen == nodes && at.elapsed() < REVOCATIONS_CHECK_INTERVAL);
        if seen == Seen::Goes && is_checked {
            return;
        }
        self.read_whole = Some((nodes, Instant::now()));
        self.follower.read_again();
        let known = self.revocations.all().into_iter();
        self.owed = known.map(|one| (one.tokens.clone(), one)).collect();
        // Somebody else may be faster.
        self.write_at = Instant::now() + self.interval.mul_f64(2.0 * random_share());
    }

    fn nodes(&self) -> NodesSeen {
        let topology = self.log.cluster().topology();
        let losses = topology.nodes().iter().map(|node| node.losses());
        (topology.version(), losses.sum())
    }

    /// Reads what is wanted. Says whether all of it was asked for. `numbers` are of what was posted
    /// and is there already.
    async fn read(&mut self, numbers: &mut HashMap<Tokens, u64>) -> bool {
        let entries = self.log.read(self.follower.wanted()).await;
        let now_s = self.now_s();
        let mut bad = 0;
        for (number, text) in &entries.found {
            match entry::read(text, now_s) {
                Some(revocation) if revocation.ends_s > now_s => {
                    if self.is_told(&revocation) {
                        numbers.insert(revocation.tokens.clone(), *number);
                    }
                    self.learn(revocation);
                }
                Some(_) => {}
                None => bad += 1,
            }
        }
        let found = entries.found.iter().map(|(number, _)| *number);
        let gaps = self
            .follower
            .answered(found, &entries.away, self.clock.now());
        self.metrics.bad.add(bad);
        if bad > 0 && self.logged.is_due_for("bad", REFUSALS_LOG_PAUSE) {
            tracing::warn!(
                count = bad,
                "entries of the log of revocations can't be read"
            );
        }
        self.metrics.gaps.add(gaps);
        if gaps > 0 && self.logged.is_due_for("gaps", REFUSALS_LOG_PAUSE) {
            tracing::warn!(
                count = gaps,
                "entries of the log of revocations are missing: another server could not write \
                 them, or memcached has dropped them"
            );
        }
        entries.away.is_empty()
    }

    /// The log has this: whether that is all that was posted of these tokens. It is owed no more.
    fn is_told(&mut self, revocation: &Revocation) -> bool {
        let is_there = |kept: &Revocation| revocation.covers(kept);
        if self.owed.get(&revocation.tokens).is_some_and(is_there) {
            self.owed.remove(&revocation.tokens);
        }
        let is_told = self.posted.get(&revocation.tokens).is_some_and(is_there);
        if is_told {
            self.posted.remove(&revocation.tokens);
        }
        is_told
    }

    fn learn(&mut self, revocation: Revocation) {
        let tokens = revocation.tokens.clone();
        if self.revocations.add(revocation) {
            let sessions = self.sessions.end(&tokens);
            tracing::debug!(sessions, "tokens were revoked on another server");
        }
    }

    /// Writes what is due, in batches.
    async fn write(
        &mut self,
        mut last: Last,
        due: &[Revocation],
        numbers: &mut HashMap<Tokens, u64>,
    ) -> Result<(), MemcachedError> {
        let now_s = self.now_s();
        for batch in due.chunks(LOG_BATCH) {
            if !matches!(last, Last::Number(_)) {
                let new = new_run(self.follower.greatest(), now_s);
                last = match self.log.begin(last, new).await? {
                    true => {
                        self.follower.begun(new);
                        Last::Number(new)
                    }
                    // Another edge was faster.
                    false => self.last(now_s).await?,
                };
            }
            let entries = batch.iter().map(|one| {
                // At most what memcached takes for a time from now.
                let ttl_s = one.ends_s.saturating_sub(now_s).max(1);
                (entry::text(one), u32::try_from(ttl_s).unwrap_or(u32::MAX))
            });
            let entries: Vec<_> = entries.collect();
            let Some(written) = self.log.append(&entries).await? else {
                return Ok(());
            };
            for (one, number) in batch.iter().zip(written) {
                if let Some(number) = number {
                    self.posted.remove(&one.tokens);
                    self.owed.remove(&one.tokens);
                    numbers.insert(one.tokens.clone(), number);
                }
            }
        }
        Ok(())
    }

    /// A server that can't read the log of others is not kept from starting for ever.
    fn note_start(&mut self) {
        if self.revocations.is_caught_up() {
            return;
        }
        if !self.log.cluster().is_up() {
            self.up_since = None;
            return;
        }
        let since = *self.up_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= REVOCATIONS_START_TIME {
            tracing::warn!(
                "the log of revocations could not be read: tokens that were revoked before this \
                 server started are accepted until it is"
            );
            self.revocations.caught_up();
        }
    }

    fn now_s(&self) -> u64 {
        self.clock.unix_ms() / 1000
    }
}

/// A random number from 0 to 1.
fn random_share() -> f64 {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(random) / f64::from(u32::MAX)
}
