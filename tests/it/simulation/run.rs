//! A run: its fleet, and what is known of it.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use presenced_memcached::OnFailure;
use presenced_presence::UserId;
use presenced_testkit::fleet::{Edge, Fleet, Session, users_of_few_shards};
use presenced_testkit::simulation::Simulation;
use tokio::time::Instant;

use super::checks::Entries;
use super::excuses::{EVICTIONS_KNOWN_FOR, RETURN};
use super::faults::{Active, Fault, Outage, PAUSE_MAX, PAUSE_MAX_LONG};
use super::kind::Kind;
use super::{EDGES, LISTED, NODES};

pub(super) const USERS: usize = 20;

/// How long after each other edges start, so that they don't look at nodes at the same time.
const STARTS_APART: Duration = Duration::from_millis(310);

/// How long users stay away who leave for good, as far as a run goes: until nobody may take them for online.
const AWAY: Duration = Duration::from_secs(100);

/// When each edge has looked at each node.
const FIRST_LOOKS: Duration = Duration::from_secs(2);

/// How soon users come back after a drain has closed their session, at most, in ms.
const BACK_AFTER_MAX_MS: u64 = 2000;

/// Items of others that come between two questions to a node that is filled: entries are evicted after
/// some 10 s.
const FOREIGN_ITEMS: u64 = 3;

/// A user whose session a drain has closed.
pub(super) struct Returning {
    pub(super) session: Session,
    /// The node that has the entry.
    pub(super) node: u8,
    pub(super) back_at: Instant,
}

/// A run: its fleet, and what is known of it.
pub(super) struct Run<'a> {
    pub(super) kind: Kind<'a>,
    pub(super) fleet: Fleet,
    pub(super) started: Instant,
    /// Edges that were started.
    pub(super) starts: u64,
    pub(super) random: Rng,
    pub(super) users: Vec<UserId>,
    /// The nodes on the latest list.
    pub(super) list: Vec<u8>,
    pub(super) active: Vec<Active>,
    pub(super) outages: Vec<Outage>,
    /// When each node lost data last.
    pub(super) lost: BTreeMap<u8, Instant>,
    /// How many items each node has evicted, and when it did last.
    pub(super) evictions: BTreeMap<u8, (u64, Instant)>,
    /// When each node has begun to evict.
    pub(super) evicted: BTreeMap<u8, Instant>,
    /// When an edge was given another list last.
    pub(super) relisted: Option<Instant>,
    /// Edges that have not seen the latest list, and when they will.
    pub(super) unseen: Vec<(Instant, u64)>,
    /// Foreign items so far.
    pub(super) foreign: u64,
    /// When the last fault ended.
    pub(super) quiet_since: Instant,
    /// How long each user has had no device.
    pub(super) gone: BTreeMap<UserId, Instant>,
    /// When each user last had a session on an edge.
    pub(super) here: BTreeMap<(UserId, u64), Instant>,
    pub(super) returning: Vec<Returning>,
    /// Since when users who have left for good are away.
    away: BTreeMap<UserId, Instant>,
    /// Since when users on an edge are neither pending nor stored.
    pub(super) unwritten: BTreeMap<(UserId, u64), Instant>,
    /// What each node had at the last look.
    pub(super) stored: Vec<Entries>,
    /// What was wrong, and when.
    pub(super) wrong: Vec<String>,
}

impl<'a> Run<'a> {
    pub(super) async fn start(seed: u64, kind: Kind<'a>) -> Run<'a> {
        let simulation = Simulation::with_nodes(0);
        (0..NODES).for_each(|node| simulation.start_with(node, kind.node_bytes()));
        for (edge, node) in (0..EDGES).flat_map(|edge| (0..NODES).map(move |node| (edge, node))) {
            simulation.set_delay(edge, node, kind.link_delay);
        }
        let mut run = Run {
            kind,
            fleet: Fleet::new(simulation),
            started: Instant::now(),
            starts: 0,
            random: Rng::with_seed(seed),
            users: users_of_few_shards(USERS),
            list: (0..LISTED).collect(),
            active: Vec::new(),
            outages: Vec::new(),
            lost: BTreeMap::new(),
            evictions: BTreeMap::new(),
            evicted: BTreeMap::new(),
            relisted: None,
            unseen: Vec::new(),
            foreign: 0,
            quiet_since: Instant::now(),
            gone: BTreeMap::new(),
            here: BTreeMap::new(),
            returning: Vec::new(),
            away: BTreeMap::new(),
            unwritten: BTreeMap::new(),
            stored: Vec::new(),
            wrong: Vec::new(),
        };
        for number in 0..EDGES {
            run.start_edge(number).await;
            run.fleet.pass(STARTS_APART).await;
        }
        // Else a run is over before an answer can be believed. Nobody was there before.
        if !kind.faults.is_empty() {
            run.pass(FIRST_LOOKS).await;
            for node in 0..LISTED {
                run.fleet.simulation.make_whole(node).await;
            }
        }
        run
    }

    pub(super) async fn start_edge(&mut self, number: u64) {
        self.starts += 1;
        let seed = self.random.u64(..) ^ self.starts;
        let simulation = &self.fleet.simulation;
        let refill_rate = self.kind.refill_rate;
        let edge = Edge::start(
            simulation,
            number,
            seed,
            &self.list,
            OnFailure::Wait,
            refill_rate,
        );
        let edge = edge.await;
        self.fleet.edges.insert(number, edge);
        self.unseen.retain(|(_, edge)| *edge != number);
    }

    /// An edge that takes users. Faults leave at least one.
    pub(super) fn edge(&mut self) -> u64 {
        let edges = self.fleet.edges.iter();
        let has_users = |number: u64| !self.kind.has_observer || number != EDGES - 1;
        let open = edges.filter(|(number, edge)| edge.is_open() && has_users(**number));
        let open: Vec<_> = open.collect();
        *open[self.random.usize(..open.len())].0
    }

    /// A user comes, gets another device, moves, leaves or vanishes.
    pub(super) fn move_a_user(&mut self) {
        let user = self.users[self.random.usize(..self.users.len())].clone();
        if self
            .away
            .get(&user)
            .is_some_and(|since| since.elapsed() < AWAY)
        {
            return;
        }
        match self.random.u8(..9) {
            0..=2 => {
                let edge = self.edge();
                self.fleet.connect(&user, edge);
            }
            3..=4 => {
                self.fleet.disconnect(&user);
                let edge = self.edge();
                self.fleet.connect(&user, edge);
            }
            5 | 6 => self.fleet.disconnect(&user),
            7 => {
                (0..self.fleet.devices(&user)).for_each(|_| self.fleet.disconnect(&user));
                self.away.insert(user, Instant::now());
            }
            _ => self.fleet.vanish(&user),
        }
    }

    /// How long there has been no fault.
    pub(super) fn quiet_for(&self) -> Duration {
        match self.active.is_empty() {
            true => Instant::now().saturating_duration_since(self.quiet_since),
            false => Duration::ZERO,
        }
    }

    pub(super) async fn pass(&mut self, time: Duration) {
        self.fleet.pass(time).await;
        let now = Instant::now();
        let pause_max = match self.kind.are_long {
            true => PAUSE_MAX_LONG,
            false => PAUSE_MAX,
        };
        let is_over =
            |active: &Active| active.fault == Fault::Pause && active.began + pause_max < now;
        for active in self
            .active
            .extract_if(.., |active| is_over(active))
            .collect::<Vec<_>>()
        {
            self.end(active).await;
        }
        for index in 0..self.active.len() {
            let Active { fault, node, .. } = self.active[index];
            if fault == Fault::Evict {
                let items = self.foreign..self.foreign + FOREIGN_ITEMS;
                self.foreign = items.end;
                self.fleet.simulation.fill(node, items).await;
                self.note_evictions(node, now).await;
            }
        }
        self.outages
            .retain(|outage| outage.ended.is_none_or(|ended| ended + RETURN > now));
        self.show_lists(now);
        self.return_users(now);
        self.note_users(now);
    }

    /// Notes when a node begins to evict; as long as it goes on, edges know.
    async fn note_evictions(&mut self, node: u8, now: Instant) {
        let count = self.fleet.simulation.evictions(node).await;
        let (before, at) = self.evictions.get(&node).copied().unwrap_or((0, now));
        if count == before {
            return;
        }
        self.evictions.insert(node, (count, now));
        // It may have been started anew in between.
        if count > 0 && (before == 0 || at.elapsed() > EVICTIONS_KNOWN_FOR) {
            self.evicted.insert(node, now);
        }
    }

    /// Edges whose time has come see the latest list.
    pub(super) fn show_lists(&mut self, now: Instant) {
        let Run {
            fleet,
            unseen,
            list,
            ..
        } = self;
        let edges = &fleet.edges;
        let is_due = |(at, edge): &(Instant, u64)| {
            *at <= now && edges.get(edge).is_none_or(|edge| !edge.is_paused())
        };
        for (_, number) in unseen.extract_if(.., |unseen| is_due(unseen)) {
            fleet
                .simulation
                .note(&format!("edge {number} is given {list:?}"));
            if let Some(edge) = edges.get(&number) {
                edge.list(list);
            }
            self.relisted = Some(now);
        }
    }

    /// Users whose sessions were closed by a drain connect to other edges; an edge that has closed its last
    /// session ends.
    pub(super) fn return_users(&mut self, now: Instant) {
        for session in self.fleet.take_drained() {
            // It may have come and gone between two looks.
            self.gone.remove(&session.user);
            self.here.insert((session.user.clone(), session.edge), now);
            let node = self.fleet.edges[&session.edge].node_of(&session.user);
            let back_after = Duration::from_millis(self.random.u64(..BACK_AFTER_MAX_MS));
            self.returning.push(Returning {
                session,
                node,
                back_at: now + back_after,
            });
        }
        let is_back = |returning: &mut Returning| returning.back_at <= now;
        let back: Vec<_> = self.returning.extract_if(.., is_back).collect();
        for Returning { session, .. } in back {
            let edge = self.edge();
            self.fleet.connect(&session.user, edge);
        }
        let drained = self.fleet.edges.iter();
        let drained: Vec<_> = drained
            .filter(|(_, edge)| edge.is_drained())
            .map(|(&number, _)| number)
            .collect();
        for edge in drained {
            self.fleet.kill_edge(edge);
        }
    }

    /// Notes which users are where. A user who leaves an edge that stands still is gone when it goes on.
    pub(super) fn note_users(&mut self, now: Instant) {
        let edges = self.fleet.edges.values();
        let paused: Vec<_> = edges.filter(|edge| edge.is_paused()).collect();
        let is_unseen = |user: &UserId| {
            let mut users = paused.iter().map(|edge| edge.presence().users());
            users.any(|users| users.online_since(user).is_some())
        };
        let mut offline = self.fleet.offline(&self.users);
        offline.retain(|user| !is_unseen(user));
        self.gone.retain(|user, _| offline.contains(user));
        for user in offline {
            self.gone.entry(user).or_insert(now);
        }
        for (number, edge) in &self.fleet.edges {
            let users = edge.presence().users();
            for user in self
                .users
                .iter()
                .filter(|user| users.online_since(user).is_some())
            {
                self.here.insert((user.clone(), *number), now);
            }
        }
    }
}
