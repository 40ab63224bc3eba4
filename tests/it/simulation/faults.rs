//! What happens to a fleet beside users who come and go.

use std::time::Duration;

use presenced_testkit::simulation::Garble;
use tokio::time::Instant;

use super::run::Run;
use super::{EDGES, NODES};

/// The edges may see a change of their lists this much apart.
const LISTS_APART: Duration = Duration::from_secs(20);

/// The same where faults are long.
const LISTS_APART_LONG: Duration = Duration::from_secs(60);

/// Over which the sessions of an edge are closed that is drained.
pub(super) const DRAIN_TIME: Duration = Duration::from_secs(5);

/// How long an edge stands still at most.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(20);

/// The same where faults are long.
pub(super) const PAUSE_MAX_LONG: Duration = Duration::from_secs(100);

/// How far a wall clock is set at once, at most, in ms.
const CLOCK_JUMP_MAX_MS: i64 = 3_600_000;

/// What happens to a fleet beside users who come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A link is cut for some seconds.
    Cut,
    /// An edge is cut off from all nodes.
    CutEdge,
    /// A node is cut off from all edges.
    CutNode,
    /// A link is slow for some seconds.
    Slow,
    /// Entries that an edge writes to a node don't arrive, while its probe and its look-ups are answered.
    HoldWrites,
    /// Connections over which an edge writes to a node end, and new ones are refused; the others stay.
    Refuse,
    /// What an edge asks a node is answered twice, the second time a little later.
    Stale,
    /// A reply is lost, or comes twice.
    Garble,
    /// An edge stands still for some seconds.
    Pause,
    /// The wall clock of an edge is set.
    ClockJump,
    /// A node is killed, and is back after some seconds, empty.
    Restart,
    /// An operator clears a node.
    FlushAll,
    /// An operator clears a node some seconds from now.
    DelayedFlush,
    /// Others fill a node, which evicts what it was not asked for.
    Evict,
    /// A node is added to the edges' lists or taken off; they see it one after the other.
    RingChange,
    /// The list becomes one of other nodes altogether; edges see it one after the other.
    ListSwap,
    /// An edge is killed; a new one is there after some seconds.
    EdgeRestart,
    /// An edge is drained; a new one is there after some seconds.
    Drain,
}

/// All of them.
pub(super) const FAULTS: [Fault; 18] = [
    Fault::Cut,
    Fault::CutEdge,
    Fault::CutNode,
    Fault::Slow,
    Fault::HoldWrites,
    Fault::Refuse,
    Fault::Stale,
    Fault::Garble,
    Fault::Pause,
    Fault::ClockJump,
    Fault::Restart,
    Fault::FlushAll,
    Fault::DelayedFlush,
    Fault::Evict,
    Fault::RingChange,
    Fault::ListSwap,
    Fault::EdgeRestart,
    Fault::Drain,
];

/// Where a fault is: no two are at once in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// An edge, or its way to nodes.
    Edge,
    Node,
    /// The list of nodes.
    List,
}

impl Fault {
    fn place(self) -> Place {
        match self {
            Fault::Restart | Fault::FlushAll | Fault::DelayedFlush | Fault::Evict => Place::Node,
            Fault::RingChange | Fault::ListSwap => Place::List,
            _ => Place::Edge,
        }
    }
}

/// A fault that has begun and not ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Active {
    pub(super) fault: Fault,
    pub(super) edge: u64,
    pub(super) node: u8,
    pub(super) began: Instant,
}

/// An edge and a node could not speak to each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outage {
    pub(super) edge: u64,
    pub(super) node: u8,
    pub(super) began: Instant,
    pub(super) ended: Option<Instant>,
}

impl Run<'_> {
    /// Begins a fault, or ends the one that has lasted longest.
    pub(super) async fn begin_or_end(&mut self) {
        let is_full = self.active.len() == self.kind.at_once;
        if is_full || !self.active.is_empty() && self.random.bool() {
            let active = self.active.remove(0);
            return self.end(active).await;
        }
        let active = Active {
            fault: self.kind.faults[self.random.usize(..self.kind.faults.len())],
            edge: self.edge(),
            node: self.list[self.random.usize(..self.list.len())],
            began: Instant::now(),
        };
        let overlaps = |other: &Active| match (active.fault.place(), other.fault.place()) {
            (Place::Edge, Place::Edge) => other.edge == active.edge || other.node == active.node,
            (Place::Node, Place::Node) => other.node == active.node,
            (place, other) => place == other,
        };
        if !self.active.iter().any(overlaps) {
            self.begin(active).await;
            self.active.push(active);
        }
    }

    pub(super) async fn begin(
        &mut self,
        Active {
            fault, edge, node, ..
        }: Active,
    ) {
        let simulation = self.fleet.simulation.clone();
        match fault {
            Fault::Cut | Fault::CutEdge | Fault::CutNode => {
                for (edge, node) in pairs(fault, edge, node) {
                    simulation.set_cut(edge, node, true);
                    self.begin_outage(edge, node);
                }
            }
            Fault::Slow => {
                let delay = Duration::from_millis(self.random.u64(5..150));
                simulation.set_delay(edge, node, delay);
            }
            Fault::HoldWrites => simulation.hold_writes(edge, node, true),
            Fault::Refuse => simulation.refuse(edge, node, true),
            Fault::Stale => simulation.repeat_answers(edge, node, true),
            Fault::Garble => {
                let garble = [Garble::Lose, Garble::Repeat][self.random.usize(..2)];
                simulation.garble(edge, node, garble);
            }
            Fault::Pause => {
                self.fleet.pause_edge(edge, 0..NODES);
                (0..NODES).for_each(|node| self.begin_outage(edge, node));
            }
            Fault::ClockJump => {
                let jump_ms = self.random.i64(-CLOCK_JUMP_MAX_MS..=CLOCK_JUMP_MAX_MS);
                simulation.note(&format!(
                    "the wall clock of edge {edge} jumps by {jump_ms} ms"
                ));
                self.fleet.edges[&edge].set_wall_clock(jump_ms);
            }
            Fault::Restart => simulation.kill(node),
            Fault::FlushAll => self.flush(node, "flush_all", 0).await,
            Fault::DelayedFlush => {
                let delay_s = self.random.u64(1..=10);
                let command = format!("flush_all {delay_s}");
                self.flush(node, &command, delay_s).await;
            }
            Fault::Evict => simulation.note(&format!("others fill node {node}")),
            Fault::RingChange => self.change_list(),
            Fault::ListSwap => self.swap_list(),
            Fault::EdgeRestart => self.fleet.kill_edge(edge),
            Fault::Drain => self.fleet.drain_edge(edge, DRAIN_TIME),
        }
    }

    /// Ends a fault; what can't end yet stays.
    pub(super) async fn end(&mut self, active: Active) {
        let Active {
            fault, edge, node, ..
        } = active;
        let simulation = self.fleet.simulation.clone();
        match fault {
            Fault::Cut | Fault::CutEdge | Fault::CutNode => {
                for (edge, node) in pairs(fault, edge, node) {
                    simulation.set_cut(edge, node, false);
                    self.end_outage(edge, node);
                }
            }
            Fault::Slow => simulation.set_delay(edge, node, self.kind.link_delay),
            Fault::HoldWrites => simulation.hold_writes(edge, node, false),
            Fault::Refuse => simulation.refuse(edge, node, false),
            Fault::Stale => simulation.repeat_answers(edge, node, false),
            Fault::Pause => {
                self.fleet.resume_edge(edge, 0..NODES);
                (0..NODES).for_each(|node| self.end_outage(edge, node));
            }
            Fault::Restart => {
                simulation.start_with(node, self.kind.node_bytes());
                self.lost.insert(node, Instant::now());
            }
            Fault::RingChange | Fault::ListSwap if !self.unseen.is_empty() => {
                return self.active.push(active);
            }
            Fault::Drain if self.fleet.edges.contains_key(&edge) => {
                return self.active.push(active);
            }
            Fault::EdgeRestart | Fault::Drain => self.start_edge(edge).await,
            Fault::Garble
            | Fault::ClockJump
            | Fault::FlushAll
            | Fault::DelayedFlush
            | Fault::Evict
            | Fault::RingChange
            | Fault::ListSwap => {}
        }
        self.quiet_since = self.quiet_since.max(Instant::now());
    }

    pub(super) async fn end_all(&mut self) {
        for active in std::mem::take(&mut self.active) {
            self.end(active).await;
        }
    }

    /// One that begins before the edge has recovered from the last is the same.
    pub(super) fn begin_outage(&mut self, edge: u64, node: u8) {
        let is_it = |outage: &&mut Outage| {
            (outage.edge, outage.node) == (edge, node) && outage.ended.is_some()
        };
        match self.outages.iter_mut().find(is_it) {
            Some(outage) => outage.ended = None,
            None => self.outages.push(Outage {
                edge,
                node,
                began: Instant::now(),
                ended: None,
            }),
        }
    }

    pub(super) fn end_outage(&mut self, edge: u64, node: u8) {
        let is_it = |outage: &&mut Outage| {
            (outage.edge, outage.node) == (edge, node) && outage.ended.is_none()
        };
        let outage = self.outages.iter_mut().find(is_it);
        outage.unwrap().ended = Some(Instant::now());
    }

    pub(super) async fn flush(&mut self, node: u8, command: &str, delay_s: u64) {
        // It does not run while it restarts.
        let said = self.fleet.simulation.command(node, command).await;
        assert!(said.is_none_or(|said| said == "OK\r\n"));
        let at = Instant::now() + Duration::from_secs(delay_s);
        self.lost.insert(node, at);
        self.quiet_since = self.quiet_since.max(at);
    }

    /// Adds a node to the list or takes one off, but for the last two: so two lists share one at least.
    pub(super) fn change_list(&mut self) {
        let node = self.random.u8(..NODES);
        match self.list.iter().position(|listed| *listed == node) {
            Some(index) if self.list.len() > 2 => drop(self.list.remove(index)),
            Some(_) => return,
            None => self.list.push(node),
        }
        self.publish_list();
    }

    /// Replaces all nodes of the list by those that are not on it.
    fn swap_list(&mut self) {
        let list = std::mem::take(&mut self.list);
        self.list = (0..NODES).filter(|node| !list.contains(node)).collect();
        self.publish_list();
    }

    /// Decides when each edge sees the list.
    fn publish_list(&mut self) {
        let list = format!("the list is {:?} now", self.list);
        self.fleet.simulation.note(&list);
        for edge in 0..EDGES {
            let apart = match self.kind.are_long {
                true => LISTS_APART_LONG,
                false => LISTS_APART,
            };
            let after = apart.mul_f64(self.random.f64());
            self.unseen.push((Instant::now() + after, edge));
        }
    }
}

/// The pairs of an edge and a node that a cut is between.
fn pairs(fault: Fault, edge: u64, node: u8) -> Vec<(u64, u8)> {
    match fault {
        Fault::CutEdge => (0..NODES).map(|node| (edge, node)).collect(),
        Fault::CutNode => (0..EDGES).map(|edge| (edge, node)).collect(),
        _ => vec![(edge, node)],
    }
}
