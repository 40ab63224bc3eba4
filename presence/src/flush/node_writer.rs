//! A node writer: the task that owns one connection to one node, and what is in flight on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use presenced_memcached::node::Up;
use presenced_memcached::{MemcachedError, Node, Writer};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until};

use super::in_flight::{InFlight, Sent};
use super::node_flush::NodeFlush;
use super::queues::{Wanted, WorkQueues};
use super::state::Presence;
use super::work::{Batch, BatchGuard, Purpose, Work};
use crate::limits::{
    CONNECT_GATHER_TIME, CONNECT_LATE_AFTER, GATHERED_MIN, IDLE_END_AFTER, RENDER_RUN, REPLY_PAUSE,
};
use crate::slot::Slot;

/// The task that owns one connection to one node.
#[derive(Debug)]
pub(super) struct NodeWriter {
    queues: WorkQueues,
    node: Arc<Node>,
    in_flight: InFlight,
    /// Instead of a connection that has ended in order, while it was idle, until another is made or
    /// is not to be had: the node does not fail, and is not to seem to.
    idle_end: Option<Up>,
    /// Since when there is no connection, if there is none.
    away_since: Instant,
    /// When the last work was begun.
    begun_at: Instant,
    /// The same for others.
    connected: Arc<AtomicBool>,
    _needed: Up,
}

impl NodeWriter {
    /// A node writer to `node` that works off `queues`.
    pub(super) fn new(
        presence: &Arc<Presence>,
        node: &Arc<Node>,
        flush: &Arc<NodeFlush>,
        queues: WorkQueues,
        connected: Arc<AtomicBool>,
    ) -> NodeWriter {
        NodeWriter {
            queues,
            node: node.clone(),
            in_flight: InFlight::new(presence, node, flush),
            idle_end: None,
            away_since: Instant::now(),
            begun_at: Instant::now(),
            connected,
            _needed: node.needs_connection(),
        }
    }

    /// Works until the flusher is gone.
    pub(super) async fn run(mut self) {
        let mut backoff = self.node.backoff();
        loop {
            let mut held = Duration::ZERO;
            let dialled = self.dial().await;
            self.idle_end = None;
            let error = match dialled {
                None => return,
                Some(Err(error)) => error,
                Some(Ok(mut connection)) => {
                    let dialled_at = Instant::now();
                    self.connected.store(true, Ordering::Relaxed);
                    let ended = self.carry(&mut connection).await;
                    self.connected.store(false, Ordering::Relaxed);
                    held = dialled_at.elapsed();
                    // An orderly end with nothing in flight (memcached's `-o idle_timeout`) is no
                    // failure: users who connect now need not wait.
                    let is_idle_end = connection.in_flight() == 0
                        && held >= IDLE_END_AFTER
                        && matches!(ended, Err(MemcachedError::Closed));
                    self.idle_end = is_idle_end.then(|| self.node.writer_is_up());
                    self.give_back_all(connection);
                    self.away_since = Instant::now();
                    match ended {
                        Ok(()) => return,
                        Err(_) if is_idle_end => continue,
                        Err(error) => error,
                    }
                }
            };
            self.node.failed(&error);
            if let MemcachedError::OutOfStep(_) = error {
                // Replies before it were taken for what they seemed.
                self.in_flight.presence.cluster().mark_suspect(&self.node);
            }
            if self.refuse_for(backoff.pause(held)).await.is_none() {
                return;
            }
        }
    }

    /// Dials. Meanwhile work goes back to pending, if this takes long. Nothing when the flusher is
    /// gone.
    async fn dial(&mut self) -> Option<Result<Writer<Sent>, MemcachedError>> {
        let node = self.node.clone();
        let dial = Writer::dial(&node);
        tokio::pin!(dial);
        loop {
            tokio::select! {
                biased;
                dialled = &mut dial => return Some(dialled),
                work = self.next_to_refuse() => self.in_flight.refuse(work?),
            }
        }
    }

    /// Work that is to go back to pending. It waits for a connection first: those who connect while
    /// there is none for a moment are written as soon as there is one.
    async fn next_to_refuse(&mut self) -> Option<Work> {
        sleep_until(self.away_since + CONNECT_LATE_AFTER).await;
        self.queues.next(Wanted::All).await
    }

    /// Gives work back for `time`, or until the node answers its probe again. Nothing when the
    /// flusher is gone.
    async fn refuse_for(&mut self, time: Duration) -> Option<()> {
        let pause = sleep(time);
        tokio::pin!(pause);
        let mut answering = self.node.answering();
        loop {
            tokio::select! {
                biased;
                () = &mut pause => return Some(()),
                Ok(()) = answering.changed() => if *answering.borrow_and_update() {
                    return Some(());
                },
                work = self.next_to_refuse() => self.in_flight.refuse(work?),
            }
        }
    }

    /// Works until the connection fails, or the flusher is gone and all is settled.
    async fn carry(&mut self, connection: &mut Writer<Sent>) -> Result<(), MemcachedError> {
        let mut flusher_gone = false;
        // Filled to the whole and emptied to the half in turn: in small bites both sides would
        // do little else than wake each other. Users who connect don't wait for that.
        let mut filling = true;
        loop {
            filling |= connection.is_half_free();
            // Users who connect wait for a moment after a write, to be written together.
            let gathers_until = self.begun_at + CONNECT_GATHER_TIME;
            let gathers = connection.in_flight() <= GATHERED_MIN
                && !flusher_gone
                && Instant::now() < gathers_until;
            let wanted = match (filling, gathers) {
                (true, false) => Wanted::All,
                (true, true) => Wanted::Batches,
                (false, false) => Wanted::Connects,
                (false, true) => Wanted::Nothing,
            };
            self.fill(wanted, connection);
            filling &= !connection.is_full();
            if flusher_gone && connection.in_flight() == 0 {
                return Ok(());
            }
            let in_flight = &mut self.in_flight;
            if connection.in_flight() > GATHERED_MIN {
                connection.set_watched(false)?;
                let step = connection.step(|sent, outcome| in_flight.settle(sent, outcome));
                let moved = step.await;
                in_flight.note_written();
                if moved? && filling && self.queues.has_begun() {
                    // There is more to render: others of this worker first.
                    yield_now().await;
                } else {
                    sleep(REPLY_PAUSE).await;
                }
                continue;
            }
            connection.set_watched(true)?;
            let unchecked = connection.unchecked();
            let is_idle = connection.in_flight() == 0;
            // With room left, what is wanted has all been begun.
            let may_begin = connection.room() > 0 && wanted != Wanted::Nothing && !flusher_gone;
            tokio::select! {
                biased;
                step = connection.progress(|sent, outcome| in_flight.settle(sent, outcome)) => {
                    in_flight.note_written();
                    step?;
                }
                // As if it had ended while it was idle: the next one is checked.
                () = unchecked, if is_idle => return Err(MemcachedError::Closed),
                () = sleep_until(gathers_until), if gathers => {}
                work = self.queues.next(wanted), if may_begin => match work {
                    Some(work) => self.begin(work, connection),
                    None => flusher_gone = true,
                },
            }
        }
    }

    /// Renders what is wanted while there is room.
    fn fill(&mut self, wanted: Wanted, connection: &mut Writer<Sent>) {
        while connection.room() > 0
            && let Some(work) = self.queues.try_next(wanted)
        {
            self.begin(work, connection);
        }
    }

    /// Renders a user who has connected, or a run of a batch: before the next, others may come
    /// first.
    fn begin(&mut self, work: Work, connection: &mut Writer<Sent>) {
        match work {
            Work::Connect(slot, guard, waiting) => {
                self.in_flight.open(Purpose::Connect {
                    slot,
                    _guard: guard,
                    _waiting: waiting,
                });
                self.render(slot.shard(), &[slot.index()], connection);
            }
            Work::Shard(batch) => self.render_run(batch, connection),
            Work::Barrier(settled) => self.in_flight.open(Purpose::Barrier(settled)),
        }
        self.in_flight.close();
        self.begun_at = Instant::now();
    }

    /// Renders the next users of a batch and puts it back if there are more.
    fn render_run(&mut self, mut batch: Box<Batch>, connection: &mut Writer<Sent>) {
        let guard = batch.guard.clone();
        self.in_flight.open(Purpose::Flush(guard.clone()));
        let shard = batch.shard;
        let run = batch.take(RENDER_RUN.min(connection.room()));
        if let BatchGuard::Refill { since_s, .. } = *guard {
            let presence = &self.in_flight.presence;
            let run = presence.users().unwritten(shard, run, since_s);
            // A heartbeat that waits for its flush is done with this.
            let slots = run.iter().map(|&index| Slot::new(shard, index));
            slots.for_each(|slot| presence.pending().forget(slot));
            self.render(shard, &run, connection);
        } else {
            self.render(shard, run, connection);
        }
        if batch.done < batch.indexes.len() {
            self.queues.put_back(batch);
        }
    }

    fn render(&mut self, shard: usize, indexes: &[u32], connection: &mut Writer<Sent>) {
        let presence = &self.in_flight.presence;
        let (now_s, ttl_s) = (presence.now_s(), presence.ttl_s());
        let pushed = presence
            .users()
            .render(shard, indexes, now_s, |index, due| {
                let sent = Sent {
                    slot: Slot::new(shard, index),
                    written_at_s: due.written_at_s,
                };
                let record = presence.record();
                connection.push(sent, record.set_room(due.user), |out| {
                    record.set_into(out, due.user, due.live, ttl_s)
                });
            });
        self.in_flight.pushed(pushed);
    }

    fn give_back_all(&mut self, connection: Writer<Sent>) {
        let presence = self.in_flight.presence.clone();
        self.in_flight.note_written();
        let unanswered = connection.into_unanswered();
        presence.give_back(unanswered.map(|sent| sent.take_back(&presence)));
        for batch in self.queues.take_begun() {
            batch.give_back(&presence);
        }
        // Only now: the replies hold the guards that keep the slots.
        self.in_flight.abandon();
    }
}
