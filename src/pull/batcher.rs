//! Look-ups for all pulls of a worker.
//!
//! A worker has one batcher: a task with a connection to each node, apart from the flush's. A user
//! with a session here is answered from the directory. All others wait in a [`FairQueue`] of their
//! node, and whenever a node has answered, it is asked for the next [`Round`]. Nodes are independent
//! of each other: a slow one delays pulls of its own users only, and these for no longer than
//! [`PULL_TIMEOUT`].

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use presenced_memcached::cluster::Topology;
use presenced_memcached::marker::RingHash;
use presenced_memcached::{Node, PerNode};
use presenced_presence::UserId;
use presenced_presence::flush::Presence;
use presenced_tasks::{Pauses, Task, catch, caught};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep, sleep_until};

use super::fair_queue::{FairQueue, Part};
use super::near_cache::NearCache;
use super::node_lookup::{Belief, NodeLookup, State};
use super::question::Question;
use super::round::{Keys, Round, Waiter};
use super::{Answer, NoAnswer, PullError, Pulls};
use crate::limits::{MISS_AGE_MAX, OPEN_USERS_MAX, PULL_TIMEOUT, ROUND_USERS_MAX};

/// What one worker's pulls wait for.
pub(super) struct Batcher {
    presence: Arc<Presence>,
    pulls: Arc<Pulls>,
    topology: Arc<Topology>,
    cache: NearCache,
    nodes: PerNode<NodeQueue>,
    /// One for each node that is being asked.
    rounds: FuturesUnordered<BoxFuture<'static, Done>>,
    open: OpenPulls,
}

/// What waits for one node.
struct NodeQueue {
    queue: FairQueue,
    /// Not there while the node is being asked.
    lookup: Option<NodeLookup>,
}

/// A node has been asked.
struct Done {
    node: Arc<Node>,
    /// By which its users were found to be there.
    ring: RingHash,
    asked_at: Instant,
    waiters: Vec<Waiter>,
    /// By key; nothing after a panic.
    states: Vec<State>,
    /// Nothing after a panic: what its connection has still to say is not known.
    lookup: Option<NodeLookup>,
}

/// A pull without an answer.
struct OpenPull {
    question: Question,
    /// What is known of each of its users.
    states: Vec<Option<State>>,
    /// Users of whom nothing is known.
    left: usize,
}

/// Those that have no answer yet, by the order in which they came, which is that of their deadlines.
#[derive(Default)]
struct OpenPulls {
    pulls: VecDeque<Option<OpenPull>>,
    /// The number of the first.
    first: u64,
    /// Users of all of them.
    users: usize,
}

impl OpenPulls {
    fn add(&mut self, pull: OpenPull) -> u64 {
        self.users += pull.question.users.len();
        self.pulls.push_back(Some(pull));
        self.first + self.pulls.len() as u64 - 1
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut OpenPull> {
        let place = number.checked_sub(self.first)?;
        self.pulls.get_mut(usize::try_from(place).ok()?)?.as_mut()
    }

    fn take(&mut self, number: u64) -> Option<OpenPull> {
        let place = number.checked_sub(self.first)?;
        let pull = self.pulls.get_mut(usize::try_from(place).ok()?)?.take();
        while let Some(None) = self.pulls.front() {
            self.pulls.pop_front();
            self.first += 1;
        }
        if let Some(pull) = &pull {
            self.users -= pull.question.users.len();
        }
        pull
    }

    /// The one that has waited longest, and since when.
    fn oldest(&self) -> Option<(u64, Instant)> {
        let oldest = self.pulls.front()?.as_ref()?;
        Some((self.first, oldest.question.asked_at))
    }

    fn numbers(&self) -> std::ops::Range<u64> {
        self.first..self.first + self.pulls.len() as u64
    }
}

impl OpenPull {
    /// Something is known of a user; whether nothing is left to be known.
    fn settle(&mut self, user: u16, state: State) -> bool {
        // Users are asked for twice when the ring changes.
        if let Some(known @ None) = self.states.get_mut(usize::from(user)) {
            *known = Some(state);
            self.left -= 1;
        }
        self.left == 0
    }
}

impl Batcher {
    pub(super) fn new(presence: &Arc<Presence>, pulls: &Arc<Pulls>) -> Batcher {
        let topology = presence.cluster().topology();
        let mut nodes = PerNode::default();
        nodes.follow(&topology, NodeQueue::new);
        Batcher {
            presence: presence.clone(),
            pulls: pulls.clone(),
            cache: NearCache::new(pulls.cache, topology.ring_hash(), presence.users().hasher()),
            topology,
            nodes,
            rounds: FuturesUnordered::new(),
            open: OpenPulls::default(),
        }
    }

    pub(super) async fn run(mut self, mut questions: UnboundedReceiver<Question>) {
        let mut pauses = Pauses::default();
        let mut began_at = Instant::now();
        loop {
            let deadline = self
                .open
                .oldest()
                .map(|(_, asked_at)| asked_at + PULL_TIMEOUT);
            let step = tokio::select! {
                biased;
                Some(done) = self.rounds.next() => caught(Task::LookUp, || self.done(done)),
                question = questions.recv() => {
                    let Some(question) = question else { return };
                    caught(Task::LookUp, || {
                        self.ask(question);
                        while let Ok(question) = questions.try_recv() {
                            self.ask(question);
                        }
                    })
                }
                () = until(deadline) => caught(Task::LookUp, || self.expire()),
            };
            let step = step.and_then(|()| caught(Task::LookUp, || self.begin_rounds()));
            if step.is_none() {
                self.give_up();
                sleep(pauses.next(began_at.elapsed())).await;
                began_at = Instant::now();
            }
        }
    }

    /// Notes a question, and answers it if all is known.
    fn ask(&mut self, question: Question) {
        self.follow();
        let asker = question.asker;
        let (directory, now) = (self.presence.users(), Instant::now());
        let hashes: Vec<_> = question
            .users
            .iter()
            .map(|user| directory.hash(user))
            .collect();
        self.cache.fetch(&hashes);
        let hashed = || question.users.iter().zip(hashes.iter().copied());
        let is_here = |(user, hash)| directory.online_since_by(hash, user).map(State::Online);
        let mut states: Vec<_> = hashed().map(is_here).collect();
        // In a loop of its own: between two locks of the directory, the processor could not load several entries of
        // the cache at once, and each is a miss in its own caches.
        let mut hits = 0;
        for ((user, hash), state) in hashed().zip(&mut states) {
            if let Some(State::Online(since)) = *state {
                self.cache.came(hash, user, since, now);
            } else {
                *state = self.cache.get(hash, user, now);
                hits += u64::from(state.is_some());
            }
        }
        self.pulls.metrics.cache_hits.add(hits);
        let left = states.iter().filter(|state| state.is_none()).count();
        let number = self.open.add(OpenPull {
            question,
            states,
            left,
        });
        match left {
            0 => self.answer(number),
            _ => self.route(number, asker.id),
        }
    }

    /// Lets those users of a pull wait of whom nothing is known, each at their node.
    fn route(&mut self, number: u64, asker: u64) {
        let Some(pull) = self.open.get_mut(number) else {
            return;
        };
        let mut parts: Vec<Vec<u16>> = Vec::new();
        parts.resize_with(self.nodes.ids_end(), Vec::new);
        let is_one = self.topology.nodes().len() == 1;
        let only = self.topology.nodes().first().map(|node| node.id());
        let mut key = Vec::new();
        for (index, user) in pull.question.users.iter().enumerate().rev() {
            if pull.states[index].is_some() {
                continue;
            }
            let node = match only.filter(|_| is_one) {
                Some(only) => only,
                None => {
                    self.presence.record().key(&mut key, user);
                    self.topology.node_of(&key)
                }
            };
            if let Some(part) = parts.get_mut(usize::from(node)) {
                part.push(index as u16);
            }
        }
        for (node, waiting) in self.nodes.iter_mut() {
            let users = std::mem::take(&mut parts[usize::from(node.id())]);
            waiting.queue.add(
                asker,
                Part {
                    question: number,
                    users,
                },
            );
        }
        self.shed();
    }

    /// Refuses what those who ask for most have asked last, while too much waits.
    fn shed(&mut self) {
        while self.open.users > OPEN_USERS_MAX {
            let fullest = self.nodes.iter().map(|(_, node)| &node.queue);
            let fullest = fullest.max_by_key(|queue| queue.users_of_greediest());
            let Some(number) = fullest.and_then(FairQueue::last_of_greediest) else {
                return;
            };
            if let Some(pull) = self.take(number) {
                // Whoever asked may be gone, here and below.
                let refused = NoAnswer::Refused(PullError::Overloaded);
                let _ = pull.question.reply.send(Err(refused));
            }
        }
    }

    /// Takes a pull out, and what of it still waits.
    fn take(&mut self, number: u64) -> Option<OpenPull> {
        let pull = self.open.take(number)?;
        if pull.left > 0 {
            for (_, waiting) in self.nodes.iter_mut() {
                waiting.queue.remove(pull.question.asker.id, number);
            }
        }
        Some(pull)
    }

    /// Takes up a new list of nodes.
    fn follow(&mut self) {
        let topology = self.presence.cluster().topology();
        if Arc::ptr_eq(&topology, &self.topology) {
            return;
        }
        self.topology = topology;
        self.nodes.follow(&self.topology, NodeQueue::new);
        self.cache.follow(self.topology.ring_hash());
        // Users may be elsewhere now.
        for (_, node) in self.nodes.iter_mut() {
            node.queue = FairQueue::default();
        }
        for number in self.open.numbers() {
            if let Some(pull) = self.open.get_mut(number) {
                let asker = pull.question.asker.id;
                self.route(number, asker);
            }
        }
    }

    /// Asks each node that is not being asked for the next of its users.
    fn begin_rounds(&mut self) {
        self.follow();
        let ring = self.topology.ring_hash();
        let mut settled = Vec::new();
        for (node, waiting) in self.nodes.iter_mut() {
            if waiting.queue.users() == 0 {
                continue;
            }
            let Some(lookup) = waiting.lookup.take() else {
                continue;
            };
            let now = Instant::now();
            let round = next_round(
                &mut waiting.queue,
                &mut self.open,
                |user| {
                    let hash = self.presence.users().hash(user);
                    let state = self.cache.get(hash, user, now)?;
                    self.pulls.metrics.cache_hits.add(1);
                    Some(state)
                },
                &self.presence,
                &mut settled,
            );
            let Round { keys, waiters, .. } = round;
            if keys.len() == 0 {
                waiting.lookup = Some(lookup);
                continue;
            }
            self.pulls.metrics.cache_misses.add(waiters.len() as u64);
            let asked = look_up(
                lookup,
                keys,
                ring,
                self.presence.clone(),
                self.pulls.clone(),
            );
            let node = node.clone();
            self.rounds.push(Box::pin(async move {
                let (lookup, states) = catch(Task::LookUp, asked).await.unzip();
                Done {
                    node,
                    ring,
                    asked_at: now,
                    waiters,
                    states: states.unwrap_or_default(),
                    lookup,
                }
            }));
        }
        for number in settled {
            self.answer(number);
        }
    }

    /// Answers the pulls of which all is known now that a node has been asked.
    fn done(&mut self, done: Done) {
        let Done {
            node,
            ring,
            asked_at,
            waiters,
            states,
            lookup,
        } = done;
        let waiting = self
            .nodes
            .iter_mut()
            .find(|(known, _)| Arc::ptr_eq(known, &node));
        // A node that is off the list is asked no more.
        if let Some((_, waiting)) = waiting {
            waiting.lookup = Some(lookup.unwrap_or_else(|| NodeLookup::new(&node)));
        }
        for waiter in waiters {
            let state = states.get(waiter.key as usize).copied();
            let state = state.unwrap_or(State::Unknown);
            // Pulls that have expired have no answer any more.
            let Some(pull) = self.open.get_mut(waiter.question) else {
                continue;
            };
            let user = &pull.question.users[usize::from(waiter.user)];
            self.cache.keep(user, state, ring, asked_at);
            if pull.settle(waiter.user, state) {
                self.answer(waiter.question);
            }
        }
    }

    /// Answers the pulls that have waited for long enough.
    fn expire(&mut self) {
        while let Some((number, asked_at)) = self.open.oldest()
            && asked_at.elapsed() >= PULL_TIMEOUT
        {
            self.answer(number);
        }
    }

    /// Answers a pull with what is known.
    fn answer(&mut self, number: u64) {
        if let Some(pull) = self.take(number) {
            let answer = answer(&self.presence, pull.question.users, &pull.states);
            let _ = pull.question.reply.send(Ok(answer));
        }
    }

    /// After a panic: what waits may be half done.
    fn give_up(&mut self) {
        let open = OpenPulls {
            first: self.open.numbers().end,
            ..OpenPulls::default()
        };
        let given_up = std::mem::replace(&mut self.open, open);
        for pull in given_up.pulls.into_iter().flatten() {
            let answer = answer(&self.presence, pull.question.users, &[]);
            let _ = pull.question.reply.send(Ok(answer));
        }
        self.rounds = FuturesUnordered::new();
        self.nodes = PerNode::default();
        self.nodes.follow(&self.topology, NodeQueue::new);
        self.cache = NearCache::new(
            self.pulls.cache,
            self.topology.ring_hash(),
            self.presence.users().hasher(),
        );
    }
}

impl NodeQueue {
    fn new(node: &Arc<Node>) -> NodeQueue {
        NodeQueue {
            queue: FairQueue::default(),
            lookup: Some(NodeLookup::new(node)),
        }
    }
}

/// Takes from a queue what its node is asked for next. Users who are `known` by now need no question;
/// the pulls of which nothing is left to be known are added to `settled`.
fn next_round(
    queue: &mut FairQueue,
    open: &mut OpenPulls,
    known: impl Fn(&UserId) -> Option<State>,
    presence: &Presence,
    settled: &mut Vec<u64>,
) -> Round {
    let mut round = Round::default();
    let (record, hasher) = (presence.record(), presence.users().hasher());
    queue.take(ROUND_USERS_MAX, |number, index| {
        let place = usize::from(index);
        // It may have been asked for elsewhere, or be asked by somebody who has hung up.
        let pull = open.get_mut(number);
        let is_wanted =
            |pull: &&mut OpenPull| pull.states[place].is_none() && !pull.question.reply.is_closed();
        let Some(pull) = pull.filter(is_wanted) else {
            return false;
        };
        let user = &pull.question.users[place];
        let Some(state) = known(user) else {
            round.add(record, hasher, user, (number, index));
            return true;
        };
        if pull.settle(index, state) {
            settled.push(number);
        }
        false
    });
    round
}

/// Asks one node for `keys`, which a ring has there.
async fn look_up(
    mut lookup: NodeLookup,
    keys: Keys,
    ring: RingHash,
    presence: Arc<Presence>,
    pulls: Arc<Pulls>,
) -> (NodeLookup, Vec<State>) {
    let marker = &presence.cluster().config().marker;
    let states = lookup
        .look_up(&keys, &pulls.metrics, Belief { marker, ring })
        .await;
    (lookup, states)
}

/// Never if there is none.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

/// Whoever has come meanwhile is not offline.
fn answer(presence: &Presence, users: Vec<UserId>, states: &[Option<State>]) -> Answer {
    let mut answer = Answer::default();
    let is_online = |state: &&Option<State>| matches!(state, Some(State::Online(_)));
    answer
        .online
        .reserve(states.iter().filter(is_online).count());
    let states = states.iter().copied().chain(std::iter::repeat(None));
    for (user, state) in users.into_iter().zip(states) {
        let since = match state {
            Some(State::Online(since)) => Some(since),
            _ => presence.users().online_since(&user),
        };
        match (since, state) {
            (Some(since), _) => answer.online.push((user, since)),
            (None, Some(State::Offline { asked_at })) if asked_at.elapsed() < MISS_AGE_MAX => {}
            (None, _) => answer.unknown.push(user),
        }
    }
    answer
}
