//! One look-up for all questions that came in while the last was under way.
//!
//! A worker has one batcher: a task with a connection to each node, apart from the flush's. A user
//! with a session here is answered from the directory; each other user is looked up once, however
//! many ask.

use std::sync::Arc;

use futures_util::future::join_all;
use hashbrown::HashMap;
use presenced_memcached::PerNode;
use presenced_memcached::cluster::Topology;
use presenced_presence::UserId;
use presenced_presence::flush::Presence;
use presenced_presence::users::Hasher;
use presenced_tasks::{Pauses, Task, catch};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::Answer;
use super::metrics::PullMetrics;
use super::node_lookup::{Belief, NodeLookup, State};
use crate::limits::{BATCH_USERS_MAX, MISS_AGE_MAX, PULLS_WAITING_MAX};

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
