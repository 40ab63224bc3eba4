//! One look-up for all questions that came in while the last was under way.
//!
//! A worker has one batcher: a task with a connection to each node, apart from the flush's. A user
//! with a session here is answered from the directory; each other user is looked up once, however
//! many ask.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hashbrown::HashMap;
use presenced_memcached::cluster::Topology;
use presenced_memcached::limits::{BACKOFF_MAX, STABLE_AFTER};
use presenced_memcached::marker::{self, Marker, RingHash};
use presenced_memcached::node::Up;
use presenced_memcached::{Backoff, MemcachedError, Node, PerNode, Reader};
use presenced_presence::UserId;
use presenced_presence::flush::Presence;
use presenced_presence::record::connected_at;
use presenced_presence::users::Hasher;
use presenced_protocol::Key;
use presenced_tasks::{Pauses, Task, catch};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::Answer;
use crate::limits::{
    BATCH_USERS_MAX, ELSEWHERE_AFTER, LOOKUP_TIMEOUT, MISS_AGE_MAX, PULLS_WAITING_MAX,
};
use crate::pull::metrics::PullMetrics;

/// Asks questions of one worker's batcher.
#[derive(Clone, Debug)]
pub struct Puller {
    questions: Sender<Question>,
    presence: Arc<Presence>,
    metrics: Arc<PullMetrics>,
}

#[derive(Debug)]
struct Question {
    users: Vec<UserId>,
    reply: oneshot::Sender<Answer>,
}

impl Puller {
    /// Starts a batcher, one of `tasks`; it ends with the last clone of its puller.
    pub fn start(
        presence: &Arc<Presence>,
        metrics: &Arc<PullMetrics>,
        tasks: &mut JoinSet<()>,
    ) -> Puller {
        let (sender, questions) = mpsc::channel(PULLS_WAITING_MAX);
        let mut batcher = Batcher {
            questions,
            presence: presence.clone(),
            metrics: metrics.clone(),
            topology: presence.cluster().topology(),
            nodes: PerNode::default(),
        };
        batcher.nodes.follow(&batcher.topology, NodeLookup::new);
        tasks.spawn(batcher.run());
        Puller {
            questions: sender,
            presence: presence.clone(),
            metrics: metrics.clone(),
        }
    }

    /// Asks who of `users` is online. With too many questions waiting it answers from what is known
    /// here alone; nothing only when the batcher is gone, as the server stops.
    pub fn ask(&self, users: Vec<UserId>) -> impl Future<Output = Option<Answer>> + Send + 'static {
        let asked_at = Instant::now();
        self.metrics.pulls.add(1);
        self.metrics.users.add(users.len() as u64);
        let (reply, answer) = oneshot::channel();
        let refused = self.questions.try_send(Question { users, reply }).err();
        let (presence, metrics) = (self.presence.clone(), self.metrics.clone());
        async move {
            let answer = match refused {
                None => answer.await.ok()?,
                Some(refused) => known_here(&presence, refused.into_inner().users),
            };
            metrics.unknown.add(answer.unknown.len() as u64);
            metrics.seconds.observe(asked_at.elapsed());
            Some(answer)
        }
    }
}

fn known_here(presence: &Presence, users: Vec<UserId>) -> Answer {
    let mut answer = Answer::default();
    for user in users {
        match presence.users().online_since(&user) {
            Some(since) => answer.online.push((user, since)),
            None => answer.unknown.push(user),
        }
    }
    answer
}

type States = HashMap<UserId, State, Hasher>;

/// What a look-up said of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Online(u64),
    /// When the command was sent that did not find the user.
    Offline {
        asked_at: Instant,
    },
    Unknown,
}

#[derive(Debug)]
struct Batcher {
    questions: Receiver<Question>,
    presence: Arc<Presence>,
    metrics: Arc<PullMetrics>,
    topology: Arc<Topology>,
    nodes: PerNode<NodeLookup>,
}

impl Batcher {
    async fn run(mut self) {
        let mut pauses = Pauses::default();
        while let Some(first) = self.questions.recv().await {
            let began_at = Instant::now();
            let mut count = first.users.len();
            let mut questions = vec![first];
            while count < BATCH_USERS_MAX
                && let Ok(question) = self.questions.try_recv()
            {
                count += question.users.len();
                questions.push(question);
            }
            let states = catch(Task::LookUp, self.states(&questions)).await;
            let has_failed = states.is_none();
            for Question { users, reply } in questions {
                let answer = match &states {
                    Some(states) => answer(users, states),
                    None => known_here(&self.presence, users),
                };
                // Whoever asked may be gone.
                let _ = reply.send(answer);
            }
            if has_failed {
                // What its connections have still to say is not known.
                self.nodes = PerNode::default();
                self.nodes.follow(&self.topology, NodeLookup::new);
                sleep(pauses.next(began_at.elapsed())).await;
            }
        }
    }

    /// Every user asked for, and what is known of them.
    async fn states(&mut self, questions: &[Question]) -> States {
        let mut states = self.known(questions);
        self.look_up(&mut states).await;
        // Who has come meanwhile is not offline.
        for (user, state) in &mut states {
            if !matches!(state, State::Online(_))
                && let Some(since) = self.presence.users().online_since(user)
            {
                *state = State::Online(since);
            }
        }
        states
    }

    /// Every user asked for, once: online here, or not known yet.
    fn known(&self, questions: &[Question]) -> States {
        let mut states = States::with_hasher(self.presence.users().hasher().clone());
        for user in questions.iter().flat_map(|question| &question.users) {
            if !states.contains_key(user) {
                let since = self.presence.users().online_since(user);
                states.insert(user.clone(), since.map_or(State::Unknown, State::Online));
            }
        }
        states
    }

    async fn look_up(&mut self, states: &mut States) {
        let topology = self.presence.cluster().topology();
        if !Arc::ptr_eq(&topology, &self.topology) {
            self.topology = topology;
            self.nodes.follow(&self.topology, NodeLookup::new);
        }
        let (record, topology) = (self.presence.record(), &*self.topology);
        let mut wanted: Vec<Vec<(Vec<u8>, &mut State)>> = Vec::new();
        wanted.resize_with(self.nodes.ids_end(), Vec::new);
        for (user, state) in states
            .iter_mut()
            .filter(|(_, state)| **state == State::Unknown)
        {
            let mut key = Vec::new();
            record.key(&mut key, user);
            let node = usize::from(topology.node_of(&key));
            if let Some(wanted) = wanted.get_mut(node) {
                wanted.push((key, state));
            }
        }
        let marker = &self.presence.cluster().config().marker;
        let belief = Belief {
            marker,
            ring: topology.ring_hash(),
        };
        let metrics = &self.metrics;
        let lookups = self.nodes.iter_mut().map(|(node, lookup)| {
            let wanted = std::mem::take(&mut wanted[usize::from(node.id())]);
            lookup.look_up(wanted, metrics, belief)
        });
        join_all(lookups).await;
    }
}

fn answer(users: Vec<UserId>, states: &States) -> Answer {
    let mut answer = Answer::default();
    for user in users {
        match states.get(&user) {
            Some(State::Online(since)) => answer.online.push((user, *since)),
            Some(State::Offline { asked_at }) if asked_at.elapsed() < MISS_AGE_MAX => {}
            Some(State::Offline { .. } | State::Unknown) | None => answer.unknown.push(user),
        }
    }
    answer
}

/// What it takes to believe that a user who is not found is offline.
#[derive(Clone, Copy)]
struct Belief<'a> {
    marker: &'a marker::Config,
    /// By which the look-up was routed.
    ring: RingHash,
}

impl Belief<'_> {
    /// Whether what a command has not found is not there, by the marker that it found last.
    fn in_misses(&self, marker: Option<&[u8]>) -> bool {
        let marker = marker.and_then(Marker::parse);
        marker.is_some_and(|marker| marker.is_whole && marker.ring == self.ring)
    }
}

/// What a node said, by the index of the key.
struct Found {
    /// Keys with a value, and since when the user is online if the value is ours.
    values: Vec<(usize, Option<u64>)>,
    /// Of the others, those that are known not to have been there, and when they were asked for.
    told: Vec<(Range<usize>, Instant)>,
    /// The probe's sentinel should be there, and is not.
    is_elsewhere: bool,
}

/// The batcher's connection to one node.
#[derive(Debug)]
struct NodeLookup {
    node: Arc<Node>,
    connection: Option<Connection>,
    /// Delivers the next one.
    dialled: oneshot::Receiver<Connection>,
    /// Since when look-ups don't find the sentinel.
    elsewhere_since: Option<Instant>,
    _needed: Up,
}

#[derive(Debug)]
struct Connection {
    reader: Reader,
    made_at: Instant,
    /// The pauses before the next one.
    backoff: Backoff,
}

impl NodeLookup {
    fn new(node: &Arc<Node>) -> NodeLookup {
        NodeLookup {
            node: node.clone(),
            connection: None,
            dialled: dial(node, node.backoff(), Duration::ZERO),
            elsewhere_since: None,
            _needed: node.needs_connection(),
        }
    }

    /// Looks for the keys of `wanted`; their states stay unknown if the node can't be asked, or is not
    /// known to have been told of every user.
    async fn look_up(
        &mut self,
        mut wanted: Vec<(Vec<u8>, &mut State)>,
        metrics: &PullMetrics,
        belief: Belief<'_>,
    ) {
        if wanted.is_empty() {
            return;
        }
        let keys: Vec<_> = wanted.iter().flat_map(|(key, _)| Key::new(key)).collect();
        debug_assert_eq!(keys.len(), wanted.len(), "user ids make legal keys");
        let Some(found) = self.get(&keys, belief).await else {
            return;
        };
        if !self.node.may_have_evicted(belief.marker.entry_ttl) {
            for (range, asked_at) in found.told {
                for (_, state) in &mut wanted[range] {
                    **state = State::Offline { asked_at };
                }
            }
        }
        self.note_elsewhere(found.is_elsewhere);
        for (index, since) in found.values {
            *wanted[index].1 = match since {
                Some(since) => State::Online(since),
                None => {
                    metrics.foreign.add(1);
                    State::Unknown
                }
            };
        }
    }

    /// Tells the node when look-ups have led to another server than the probe's for longer than a loss takes to be
    /// noticed.
    fn note_elsewhere(&mut self, is_elsewhere: bool) {
        if !is_elsewhere {
            self.elsewhere_since = None;
        } else if self
            .elsewhere_since
            .get_or_insert_with(Instant::now)
            .elapsed()
            > ELSEWHERE_AFTER
        {
            self.elsewhere_since = Some(Instant::now());
            self.node.note_several_servers();
        }
    }

    /// Asks for `keys`, once more on a new connection if the old one has ended since the last question,
    /// which is noticed only now, or is out of step.
    async fn get(&mut self, keys: &[Key<'_>], belief: Belief<'_>) -> Option<Found> {
        let deadline = Instant::now() + LOOKUP_TIMEOUT;
        let node = self.node.clone();
        let keys_at_the_end = node.sentinel_key().into_iter().chain([&*belief.marker.key]);
        let marks: Vec<_> = keys_at_the_end
            .flat_map(|key| Key::new(key.as_bytes()))
            .collect();
        for _ in 0..2 {
            let connection = timeout_at(deadline, self.connection()).await.ok()??;
            let mut values = Vec::with_capacity(keys.len());
            let (mut told, mut is_elsewhere) = (Vec::new(), false);
            // Without it, the server is another than the probe's, or has lost what it had.
            let wanted = node.wanted_sentinel();
            let get = connection.reader.get(
                keys,
                &marks,
                |index, value| values.push((index, value.and_then(connected_at))),
                |range, asked_at, marks| {
                    let is_the_probes = match &wanted {
                        Ok(Some(wanted)) => marks
                            .first()
                            .is_some_and(|mark| mark.as_ref() == Some(wanted)),
                        Ok(None) => true,
                        Err(_) => false,
                    };
                    is_elsewhere |= wanted.is_ok() && !is_the_probes;
                    if is_the_probes && belief.in_misses(marks.last().and_then(Option::as_deref)) {
                        told.push((range, asked_at));
                    }
                },
            );
            let got = timeout_at(deadline, get).await;
            let error = match got.unwrap_or(Err(MemcachedError::Timeout(LOOKUP_TIMEOUT))) {
                Ok(()) => {
                    return Some(Found {
                        values,
                        told,
                        is_elsewhere,
                    });
                }
                Err(error) => error,
            };
            self.redial(&error);
            if matches!(error, MemcachedError::Timeout(_)) {
                return None;
            }
        }
        None
    }

    /// At once if the connection had held; one that did not is made again after a pause.
    fn redial(&mut self, error: &MemcachedError) {
        let Some(mut ended) = self.connection.take() else {
            return;
        };
        let held = ended.made_at.elapsed();
        let has_held = held >= STABLE_AFTER;
        // The orderly end of one that was idle (memcached's `-o idle_timeout`) is no failure.
        if !(has_held && matches!(error, MemcachedError::Closed)) {
            self.node.failed(error);
        }
        let pause = match has_held {
            true => Duration::ZERO,
            false => ended.backoff.pause(held),
        };
        self.dialled = dial(&self.node, ended.backoff, pause);
    }

    /// The connection, if there is one. While it is being made and the node is known to answer,
    /// waiting for it is better than an "unknown".
    async fn connection(&mut self) -> Option<&mut Connection> {
        if self.connection.is_none() {
            // With a channel that is closed the dial has panicked, or what it brought was taken.
            let (dialled, is_over) = if self.node.is_up() {
                match timeout(self.node.timeout(), &mut self.dialled).await {
                    Ok(dialled) => (dialled.ok(), true),
                    Err(_) => (None, false),
                }
            } else {
                let dialled = self.dialled.try_recv();
                let is_over = !matches!(dialled, Err(TryRecvError::Empty));
                (dialled.ok(), is_over)
            };
            if dialled.is_none() && is_over {
                self.dialled = dial(&self.node, self.node.backoff(), BACKOFF_MAX);
            }
            self.connection = dialled;
        }
        self.connection.as_mut()
    }
}

/// Dials in the background after a pause, for as long as it takes and someone waits.
fn dial(
    node: &Arc<Node>,
    mut backoff: Backoff,
    mut pause: Duration,
) -> oneshot::Receiver<Connection> {
    let (mut dialled, receiver) = oneshot::channel();
    let node = node.clone();
    let dialling = async move {
        loop {
            sleep(pause).await;
            let made = tokio::select! {
                biased;
                made = Reader::dial(&node) => made,
                () = dialled.closed() => return,
            };
            match made {
                Ok(reader) => {
                    let made_at = Instant::now();
                    let _ = dialled.send(Connection {
                        reader,
                        made_at,
                        backoff,
                    });
                    return;
                }
                Err(error) => node.failed(&error),
            }
            pause = backoff.pause(Duration::ZERO);
        }
    };
    tokio::spawn(catch(Task::LookUp, dialling));
    receiver
}
