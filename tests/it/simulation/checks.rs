//! What is checked of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use futures_util::future::join_all;
use presenced::pull::Answer;
use presenced_presence::UserId;
use presenced_testkit::fleet::{Session, TICK};
use tokio::time::Instant;

use super::NODES;
use super::excuses::SETTLED_AGE;
use super::faults::Fault;
use super::run::{Run, USERS};

/// How long a user may be neither pending nor stored, and be written who has left: as long as a command may be in
/// flight, and wait for a connection.
const IN_FLIGHT_MAX: Duration = Duration::from_secs(3);

/// After how long a fleet that just starts calls nobody unknown.
const KNOWN_AFTER_START: Duration = Duration::from_secs(68);

/// After how long without a fault nobody is unknown any more: a TTL, a flush interval and some looks at the
/// nodes.
const KNOWN_AFTER_FAULTS: Duration = Duration::from_secs(75);

/// The same where items were evicted: what others have stored is evicted for a TTL more, and edges can't tell it
/// from entries.
const KNOWN_AFTER_EVICTIONS: Duration = Duration::from_secs(135);

/// Connections of an edge to a node: of the flush, the look-ups and the probe's two, and one more to a node
/// that has left the list.
const CONNECTIONS_MAX: usize = 5;

/// What a node has of the users: the values of their entries.
pub(super) type Entries = BTreeMap<UserId, String>;

/// The number of the edge that has written an entry.
fn owner(value: &str) -> u64 {
    let value: serde_json::Value = serde_json::from_str(value).unwrap();
    let owner = value["serverId"].as_str().unwrap();
    owner.strip_prefix("edge-").unwrap().parse().unwrap()
}

impl Run<'_> {
    /// Sessions whose users no edge may call offline, for longer than [`SETTLED_AGE`] here.
    pub(super) fn settled(&self) -> Vec<Session> {
        let sessions = self.fleet.sessions();
        sessions
            .filter(|session| session.connected.elapsed() > SETTLED_AGE)
            .collect()
    }

    /// Users whom an edge may not call offline.
    pub(super) fn known(&self, observer: u64, settled: &[Session]) -> BTreeSet<UserId> {
        let observer = &self.fleet.edges[&observer];
        let stored = settled.iter().filter(|session| {
            let node = self.fleet.edges[&session.edge].node_of(&session.user);
            let asked = observer.node_of(&session.user);
            !self.may_be_missing(session, node) && !self.has_just_moved(session, node, asked)
        });
        let returning = self.returning.iter();
        let returning = returning.filter(|returning| {
            let session = &returning.session;
            let is_settled = session.connected.elapsed() > SETTLED_AGE;
            is_settled && !self.may_be_missing(session, returning.node)
        });
        stored
            .chain(returning.map(|returning| &returning.session))
            .map(|session| session.user.clone())
            .collect()
    }

    /// The users to ask for: all, or a few, so that an answer could be taken for that to another question.
    fn asked(&mut self) -> Vec<UserId> {
        if self.kind.faults != [Fault::Stale] {
            return self.users.clone();
        }
        let two = [self.random.usize(..USERS), self.random.usize(..USERS)];
        let two = BTreeSet::from(two).into_iter();
        two.map(|index| self.users[index].clone()).collect()
    }

    /// Asks every edge for `users`, as time goes on.
    pub(super) async fn ask(&mut self, users: &[UserId]) -> Vec<(u64, Answer)> {
        let edges = self.fleet.edges.iter();
        let asks = edges.filter(|(_, edge)| !edge.is_paused());
        let asks = asks.map(|(&number, edge)| {
            let asked = edge.ask(users);
            async move { (number, asked.await) }
        });
        let mut asks = pin!(join_all(asks.collect::<Vec<_>>()));
        loop {
            tokio::select! {
                biased;
                answers = &mut asks => return answers,
                () = self.fleet.pass(TICK) => {}
            }
        }
    }

    /// Asks, and checks the answers.
    pub(super) async fn judge(&mut self) {
        let asked = self.asked();
        let mut settled = self.settled();
        settled.retain(|session| asked.contains(&session.user));
        let observers = self.fleet.edges.keys();
        let known: BTreeMap<_, _> = observers
            .map(|&observer| (observer, self.known(observer, &settled)))
            .collect();
        let gone = self.gone.iter();
        let ghosts = gone.filter(|(_, since)| since.elapsed() > self.ghost_age());
        let ghosts: Vec<_> = ghosts.map(|(user, _)| user.clone()).collect();
        let nobody_is_unknown = match self.kind.faults {
            [] => self.started.elapsed() > KNOWN_AFTER_START,
            faults if faults.contains(&Fault::Evict) => self.quiet_for() > KNOWN_AFTER_EVICTIONS,
            _ => self.quiet_for() > KNOWN_AFTER_FAULTS + self.kind.refill_time(),
        };
        let mut wrong = Vec::new();
        for (number, answer) in self.ask(&asked).await {
            let users = self.fleet.edges[&number].presence().users();
            let online: BTreeMap<_, _> = answer.online.iter().cloned().collect();
            for user in &known[&number] {
                if asked.contains(user)
                    && !online.contains_key(user)
                    && !answer.unknown.contains(user)
                {
                    wrong.push(format!("edge {number} calls {user} offline"));
                }
            }
            for user in ghosts.iter().filter(|user| online.contains_key(user)) {
                wrong.push(format!("edge {number} calls {user} online"));
            }
            for Session { user, .. } in settled.iter().filter(|session| session.edge == number) {
                if users.online_since(user).is_some() && !online.contains_key(user) {
                    wrong.push(format!("edge {number} does not know {user}, who is here"));
                }
            }
            for (user, since) in online {
                if !self.fleet.has_connected_at(&user, since) {
                    wrong.push(format!("edge {number} says {user} connected at {since}"));
                }
            }
            if nobody_is_unknown && !answer.unknown.is_empty() {
                let unknown = &answer.unknown;
                wrong.push(format!("edge {number} does not know {unknown:?}"));
            }
        }
        self.fail(wrong);
    }

    /// What each node has of the users.
    pub(super) async fn entries(&self) -> Vec<Entries> {
        let key = |user: &UserId| format!("user:{user}:online");
        let keys: Vec<_> = self.users.iter().map(key).collect();
        let mut entries = Vec::new();
        for node in 0..NODES {
            let mut values = self.fleet.simulation.values(node, &keys).await;
            let users = self.users.iter();
            let stored = users.filter_map(|user| Some((user.clone(), values.remove(&key(user))?)));
            entries.push(stored.collect());
        }
        entries
    }

    /// Checks that whatever is stored anew is of an edge that has the user, but for what was in flight: a late
    /// `set` would replace the entry of the edge where the user is by now.
    pub(super) fn look_at_writes(&mut self, entries: &[Entries]) {
        let mut wrong = Vec::new();
        for (node, entries) in entries.iter().enumerate() {
            let before = self.stored.get(node);
            for (user, value) in entries {
                let is_new = before.and_then(|before| before.get(user)) != Some(value);
                let edge = owner(value);
                if is_new && !self.was_here(user, edge, IN_FLIGHT_MAX) {
                    wrong.push(format!(
                        "edge {edge} writes {user}, who has left it, to node {node}"
                    ));
                }
            }
        }
        self.stored = entries.to_vec();
        self.fail(wrong);
    }

    /// Whether `user` had a session on an edge at some time of the last `time`.
    fn was_here(&self, user: &UserId, edge: u64, time: Duration) -> bool {
        let here = self.here.get(&(user.clone(), edge));
        here.is_some_and(|here| here.elapsed() <= time)
    }

    /// Checks what is stored: each entry is of an edge that has the user, or had a TTL ago; after a quiet
    /// time each user has one.
    pub(super) fn look_at_entries(&mut self, entries: &[Entries]) {
        let mut wrong = Vec::new();
        for (node, entries) in entries.iter().enumerate() {
            for (user, value) in entries {
                let edge = owner(value);
                if !self.was_here(user, edge, self.ghost_age()) {
                    wrong.push(format!("node {node} has {user} at edge {edge}"));
                }
            }
        }
        if self.quiet_for() > self.stored_after() {
            for Session { user, edge, .. } in self.settled() {
                let node = self.fleet.edges[&edge].node_of(&user);
                if !entries[usize::from(node)].contains_key(&user) {
                    wrong.push(format!("node {node} has no entry of {user} at edge {edge}"));
                }
            }
        }
        self.fail(wrong);
    }

    /// Checks that each user is stored, or pending, or in flight, which can't be seen but does not take long.
    pub(super) fn look_at_debts(&mut self, entries: &[Entries]) {
        if self.kind.faults.contains(&Fault::Evict) {
            return;
        }
        let edges = self.fleet.edges.iter();
        let pending: BTreeMap<_, _> = edges.map(|(edge, at)| (*edge, at.pending())).collect();
        let now = Instant::now();
        let before = std::mem::take(&mut self.unwritten);
        for session in self.settled() {
            let Session { user, edge, .. } = &session;
            let at = &self.fleet.edges[edge];
            let node = at.node_of(user);
            let is_stored = entries[usize::from(node)].contains_key(user);
            if !is_stored
                && !pending[edge].contains(user)
                && !at.is_paused()
                && !self.is_recovering(*edge, node)
            {
                let id = (user.clone(), *edge);
                let since = before.get(&id).copied().unwrap_or(now);
                self.unwritten.insert(id, since);
            }
        }
        let late = self.unwritten.iter();
        let late = late.filter(|(_, since)| since.elapsed() > IN_FLIGHT_MAX);
        let wrong = late.map(|((user, edge), _)| {
            format!("{user} of edge {edge} is neither stored nor pending")
        });
        self.fail(wrong.collect());
    }

    /// Checks what must not grow.
    pub(super) fn look_at_bounds(&mut self) {
        let mut wrong = Vec::new();
        for (number, edge) in &self.fleet.edges {
            let pending = edge.presence().pending().len();
            if pending > USERS as u64 {
                wrong.push(format!("edge {number} has {pending} users pending"));
            }
            let sessions = edge.sessions();
            let per_user = presenced_presence::limits::SESSIONS_PER_USER_MAX;
            if sessions > USERS * usize::from(per_user) {
                wrong.push(format!("edge {number} has {sessions} sessions"));
            }
            for node in 0..NODES {
                let connections = self.fleet.simulation.connections(*number, node);
                if connections > CONNECTIONS_MAX {
                    wrong.push(format!(
                        "edge {number} has {connections} connections to node {node}"
                    ));
                }
            }
        }
        self.fail(wrong);
    }

    pub(super) fn fail(&mut self, wrong: Vec<String>) {
        wrong
            .iter()
            .for_each(|wrong| self.fleet.simulation.note(wrong));
        self.wrong.extend(wrong);
    }
}
