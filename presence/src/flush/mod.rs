//! Pending users written to memcached.
//!
//! Each worker flushes its share of the shards, one after another through the flush interval, so
//! that memcached sees a steady stream. A drained shard goes to the *lane* of each node: a task
//! that owns one connection, renders as the window allows, and settles with each answer: stored,
//! or pending again. What was not answered when a connection ends is pending again too.
//!
//! A lane has at most one batch of a shard at once: what comes on top stays pending, so a memcached
//! that is too slow costs no memory. When the ring has changed, a shard's users are given their nodes
//! anew before its turn, and who has moved is pending.

mod lane;
mod lanes;
mod ledger;
mod pace;
mod refill;
mod state;
mod work;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use self::lanes::{LaneHandle, Lanes};
use self::pace::Pace;
pub use self::state::Presence;
use self::state::Round;
use self::work::{Batch, Ticket, Work};
use crate::limits::{BEHIND_WARNING_PAUSE, RENDER_RUN, SHARDS};
use crate::slot::Slot;

/// One worker's way to memcached.
#[derive(Clone, Debug)]
pub struct Flusher {
    presence: Arc<Presence>,
    lanes: Arc<Lanes>,
    worker: usize,
    workers: usize,
}

impl Flusher {
    /// Starts the lanes of worker number `worker` of `workers`; one of `tasks` keeps them, as nodes come
    /// and go.
    pub fn start(
        presence: &Arc<Presence>,
        worker: usize,
        workers: usize,
        tasks: &mut JoinSet<()>,
    ) -> Flusher {
        let (lanes, keeper) = Lanes::start(presence);
        tasks.spawn(keeper);
        Flusher {
            presence: presence.clone(),
            lanes,
            worker,
            workers: workers.max(1),
        }
    }

    /// Shards that this worker flushes.
    pub(super) fn shards(&self) -> impl Iterator<Item = usize> + use<> {
        (self.worker..SHARDS).step_by(self.workers)
    }

    pub(super) fn presence(&self) -> &Arc<Presence> {
        &self.presence
    }

    fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// Writes the `set` of a user who has just connected. If it can't be written now, the next
    /// flush does it.
    pub fn write_now(&self, slot: Slot) {
        let node = self.presence.users().node(slot).unwrap_or_default();
        let flight = self.presence.users().flight(slot.shard());
        let lanes = self.lanes.all();
        let lane = lanes.get(usize::from(node)).and_then(Option::as_ref);
        let sent = lane.is_some_and(|lane| lane.try_send(Work::Connect(slot, flight)).is_ok());
        if !sent {
            self.presence.give_back([slot]);
        }
    }

    /// Flushes this worker's shards one after another, each once in `period`, until the last flush begins;
    /// never returns.
    pub async fn run(self, period: Duration) {
        let last_flush = self.presence.last_flush().clone();
        last_flush
            .run_until_cancelled(self.flush_regularly(period))
            .await;
        pending::<()>().await;
    }

    async fn flush_regularly(&self, period: Duration) {
        let clock = self.presence.clock();
        let mut pace = Pace::new(period, self.worker, self.workers, clock.now());
        let mut warned_at = None;
        loop {
            for shard in self.shards() {
                sleep(pace.due().saturating_sub(clock.now())).await;
                pace.had(clock.now());
                self.flush_shard(shard).await;
            }
            if self.worker == 0 {
                self.warn_if_behind(period, &mut warned_at);
            }
        }
    }

    fn warn_if_behind(&self, period: Duration, warned_at: &mut Option<Instant>) {
        let lag = self.presence.flush_lag();
        let recent = |at: Instant| at.elapsed() < BEHIND_WARNING_PAUSE;
        if lag > 3 * period && !warned_at.is_some_and(recent) {
            *warned_at = Some(Instant::now());
            let pending = self.presence.pending().len();
            tracing::warn!(
                ?lag,
                pending,
                "the flush is behind: memcached is too slow, away, or refuses entries"
            );
        }
    }

    /// Writes what is pending in a shard, as far as the lanes take it now.
    pub(super) async fn flush_shard(&self, shard: usize) {
        self.presence.remap(shard).await;
        let (_, batches) = self.drain(shard);
        for (lane, batch) in batches {
            // A lane that can't keep up must not hold up the others.
            if let Err(Work::Shard(batch)) = lane.try_send(Work::Shard(Box::new(batch))) {
                batch.give_back(&self.presence);
            }
        }
    }

    /// Flushes this worker's shards now and waits for the answers. False if a node did not take
    /// all of it; that is pending still.
    pub async fn flush_all(&self) -> bool {
        // What a lane was just carrying is left out by the first, and written by the second.
        self.try_flush_all().await || self.try_flush_all().await
    }

    async fn try_flush_all(&self) -> bool {
        let mut rounds = Vec::new();
        for shard in self.shards() {
            self.presence.remap(shard).await;
            let (round, batches) = self.drain(shard);
            rounds.push(round);
            for (lane, batch) in batches {
                if let Err(Work::Shard(batch)) = lane.send(Work::Shard(Box::new(batch))).await {
                    batch.give_back(&self.presence);
                }
            }
        }
        self.barrier(None).await && !rounds.iter().any(|round| round.has_failed())
    }

    /// Waits until all work that the lanes, or that of one node, have now is settled. False if a
    /// connection failed.
    pub(super) async fn barrier(&self, node: Option<u8>) -> bool {
        let mut barriers = Vec::new();
        for lane in self.lanes.all().iter().flatten() {
            if node.is_none_or(|node| lane.node().id() == node) {
                let (settled, barrier) = oneshot::channel();
                // A lane that is gone drops the barrier, which then says so.
                let _ = lane.send(Work::Barrier(settled)).await;
                barriers.push(barrier);
            }
        }
        let mut all = true;
        for barrier in barriers {
            all &= barrier.await.is_ok();
        }
        all
    }

    /// Takes what is pending in a shard, split by node.
    fn drain(&self, shard: usize) -> (Arc<Round>, Vec<(LaneHandle, Batch)>) {
        let (round, places) = self.presence.begin(shard);
        let batches = self.split(shard, places).into_iter();
        let batches = batches.filter_map(|(lane, places)| {
            let ticket = lane.and_then(|lane| Some((lane.carry(shard)?, lane)));
            let Some((carrying, lane)) = ticket else {
                // Its last batch is under way still, or there is no such node any more.
                round.fail();
                let slots = places.iter().map(|&place| Slot::new(shard, place));
                self.presence.give_back(slots);
                return None;
            };
            let ticket = Arc::new(Ticket::new(round.clone(), carrying));
            Some((lane, Batch::new(shard, places, ticket)))
        });
        let batches = batches.collect();
        (round, batches)
    }

    fn split(&self, shard: usize, places: Vec<u32>) -> Vec<(Option<LaneHandle>, Vec<u32>)> {
        let lanes = self.lanes.all();
        let mut by_node = vec![Vec::new(); lanes.len()];
        if let ([only], true) = (&mut by_node[..], lanes.len() == 1) {
            *only = places;
        } else {
            for run in places.chunks(RENDER_RUN) {
                self.presence.users().by_node(shard, run, |node, place| {
                    // No lane yet for a node that has just come.
                    if usize::from(node) >= by_node.len() {
                        by_node.resize(usize::from(node) + 1, Vec::new());
                    }
                    by_node[usize::from(node)].push(place);
                });
            }
        }
        let some = by_node.into_iter().enumerate();
        some.filter(|(_, places)| !places.is_empty())
            .map(|(node, places)| (lanes.get(node).cloned().flatten(), places))
            .collect()
    }
}
