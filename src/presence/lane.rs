//! A lane: the task that owns one connection to one node, and what is in flight on it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::Slot;
use super::flush::{Flight, Presence, RENDER_RUN};
use super::record::Scratch;
use crate::limits::MEMCACHED_STABLE;
use crate::memcached::pipeline::Outcome;
use crate::memcached::{Backoff, Connection, MemcachedError, Node};

/// How long replies are left to gather: reading in bulk is nearly free, and memcached needs longer
/// for half a window.
const REPLY_PAUSE: Duration = Duration::from_millis(1);

/// With fewer commands in flight replies are read as they come: those who have just connected.
const GATHERED_MIN: usize = 256;

/// What a lane is given.
#[derive(Debug)]
pub(super) enum Work {
    /// A user who has just connected.
    Connect(Slot, Flight),
    /// What was pending in a shard.
    Shard(Batch),
    /// Answered when all work before it is settled.
    Barrier(oneshot::Sender<()>),
}

#[derive(Debug)]
pub(super) struct Batch {
    pub(super) shard: usize,
    pub(super) places: Vec<u32>,
    /// Places that are rendered.
    pub(super) done: usize,
    pub(super) drained_at: Instant,
    pub(super) flight: Flight,
}

impl Batch {
    pub(super) fn rest(&self) -> impl Iterator<Item = Slot> {
        let places = &self.places[self.done..];
        places.iter().map(|&place| Slot::new(self.shard, place))
    }
}

/// The task that owns one connection to one node.
#[derive(Debug)]
pub(super) struct Lane {
    queue: Receiver<Work>,
    node: Arc<Node>,
    ledger: Ledger,
    /// The batch that is being rendered.
    current: Option<Batch>,
    scratch: Scratch,
}

/// What is in flight on a lane, and what an answer means.
#[derive(Debug)]
struct Ledger {
    presence: Arc<Presence>,
    node: Arc<Node>,
    /// In the order of the commands; the sum of `left` is what is in flight.
    marks: VecDeque<Mark>,
}

/// A piece of work that is in flight.
#[derive(Debug)]
struct Mark {
    /// Commands without an answer.
    left: usize,
    /// More commands may come.
    open: bool,
    purpose: Purpose,
    _flight: Option<Flight>,
}

#[derive(Debug)]
enum Purpose {
    Connect,
    Flush { drained_at: Instant },
    Barrier(oneshot::Sender<()>),
}

impl Lane {
    /// A lane to `node` that works off `queue`.
    pub(super) fn new(presence: &Arc<Presence>, node: &Arc<Node>, queue: Receiver<Work>) -> Lane {
        Lane {
            queue,
            node: node.clone(),
            ledger: Ledger {
                presence: presence.clone(),
                node: node.clone(),
                marks: VecDeque::new(),
            },
            current: None,
            scratch: Scratch::default(),
        }
    }

    /// Works until the flusher is gone.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let error = match self.dial().await {
                None => return,
                Some(Err(error)) => error,
                Some(Ok(mut connection)) => {
                    let dialled_at = Instant::now();
                    let ended = self.carry(&mut connection).await;
                    self.give_back_all(connection);
                    if dialled_at.elapsed() >= MEMCACHED_STABLE {
                        backoff.reset();
                    }
                    match ended {
                        Ok(()) => return,
                        Err(error) => error,
                    }
                }
            };
            self.node.failed(&error);
            if self.refuse_for(backoff.pause()).await.is_none() {
                return;
            }
        }
    }

    /// Dials. Meanwhile work goes back to pending at once. Nothing when the flusher is gone.
    async fn dial(&mut self) -> Option<Result<Connection<Slot>, MemcachedError>> {
        let dial = Connection::dial(&self.node);
        tokio::pin!(dial);
        loop {
            tokio::select! {
                dialled = &mut dial => return Some(dialled),
                work = self.queue.recv() => self.ledger.refuse(work?),
            }
        }
    }

    /// Gives work back for `time`. Nothing when the flusher is gone.
    async fn refuse_for(&mut self, time: Duration) -> Option<()> {
        let pause = sleep(time);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return Some(()),
                work = self.queue.recv() => self.ledger.refuse(work?),
            }
        }
    }

    /// Works until the connection fails, or the flusher is gone and all is settled.
    async fn carry(&mut self, connection: &mut Connection<Slot>) -> Result<(), MemcachedError> {
        let mut flusher_gone = false;
        // Filled to the whole and emptied to the half in turn: in small bites both sides would
        // do little else than wake each other.
        let mut filling = true;
        loop {
            filling |= connection.is_half_free();
            if filling {
                self.fill(connection);
                filling = !connection.is_full();
            }
            if flusher_gone && connection.in_flight() == 0 {
                return Ok(());
            }
            let has_more = filling && self.current.is_some();
            if connection.in_flight() > GATHERED_MIN && !has_more {
                connection.write().await?;
                sleep(REPLY_PAUSE).await;
            }
            let idle = filling && self.current.is_none() && !flusher_gone;
            let ledger = &mut self.ledger;
            tokio::select! {
                step = connection.progress(|slot, outcome| ledger.settle(slot, outcome)) => step?,
                work = self.queue.recv(), if idle => match work {
                    Some(work) => self.begin(work, connection),
                    None => flusher_gone = true,
                },
            }
        }
    }

    /// Renders what there is while there is room.
    fn fill(&mut self, connection: &mut Connection<Slot>) {
        while connection.room() > 0 {
            if let Some(batch) = self.current.take() {
                self.render_run(batch, connection);
            } else if let Ok(work) = self.queue.try_recv() {
                self.begin(work, connection);
            } else {
                return;
            }
        }
    }

    fn begin(&mut self, work: Work, connection: &mut Connection<Slot>) {
        let (purpose, flight) = match work {
            Work::Connect(slot, flight) => {
                self.ledger.open(Purpose::Connect, Some(flight));
                self.render(slot.shard(), &[slot.place()], connection);
                return self.ledger.close();
            }
            Work::Shard(batch) => {
                let purpose = Purpose::Flush {
                    drained_at: batch.drained_at,
                };
                let flight = batch.flight.clone();
                self.current = Some(batch);
                return self.ledger.open(purpose, Some(flight));
            }
            Work::Barrier(settled) => (Purpose::Barrier(settled), None),
        };
        self.ledger.open(purpose, flight);
        self.ledger.close();
    }

    /// Renders the next users of a batch and puts it back if there are more.
    fn render_run(&mut self, mut batch: Batch, connection: &mut Connection<Slot>) {
        let rest = &batch.places[batch.done..];
        let run = &rest[..rest.len().min(RENDER_RUN).min(connection.room())];
        self.render(batch.shard, run, connection);
        batch.done += run.len();
        if batch.done < batch.places.len() {
            self.current = Some(batch);
        } else {
            self.ledger.close();
        }
    }

    fn render(&mut self, shard: usize, places: &[u32], connection: &mut Connection<Slot>) {
        let presence = &self.ledger.presence;
        let (now_s, ttl_s) = (presence.now_s(), presence.ttl_s());
        let scratch = &mut self.scratch;
        let pushed = presence
            .users()
            .render(shard, places, now_s, ttl_s, |place, due| {
                connection.push(Slot::new(shard, place), |out| {
                    presence
                        .record()
                        .set(out, scratch, due.user, due.live, due.ttl_s);
                });
            });
        self.ledger.pushed(pushed);
    }

    fn give_back_all(&mut self, connection: Connection<Slot>) {
        let presence = self.ledger.presence.clone();
        presence.give_back(connection.into_unanswered());
        if let Some(batch) = self.current.take() {
            presence.give_back(batch.rest());
        }
        // Only now: the marks hold the flights that keep the slots.
        self.ledger.marks.clear();
    }
}

impl Ledger {
    fn open(&mut self, purpose: Purpose, flight: Option<Flight>) {
        self.marks.push_back(Mark {
            left: 0,
            open: true,
            purpose,
            _flight: flight,
        });
    }

    fn pushed(&mut self, commands: usize) {
        if let Some(mark) = self.marks.back_mut() {
            mark.left += commands;
        }
    }

    fn close(&mut self) {
        if let Some(mark) = self.marks.back_mut() {
            mark.open = false;
        }
        self.finish();
    }

    fn settle(&mut self, slot: Slot, outcome: Outcome) {
        match outcome {
            Outcome::Stored => self.presence.metrics().flushed.add(1),
            Outcome::Refused => {
                self.node.refused();
                self.presence.give_back([slot]);
            }
        }
        // Commands of a closed mark are all answered before those of the next.
        if let Some(mark) = self.marks.iter_mut().find(|mark| mark.left > 0) {
            mark.left -= 1;
            if mark.left == 0 {
                self.finish();
            }
        }
    }

    /// Takes leave of what is settled.
    fn finish(&mut self) {
        while let Some(mark) = self.marks.pop_front_if(|mark| !mark.open && mark.left == 0) {
            match mark.purpose {
                Purpose::Connect => {}
                Purpose::Flush { drained_at } => {
                    self.presence
                        .metrics()
                        .seconds
                        .observe(drained_at.elapsed());
                }
                // No one may be waiting any more.
                Purpose::Barrier(settled) => drop(settled.send(())),
            }
        }
    }

    /// There is no connection: everything goes back.
    fn refuse(&self, work: Work) {
        match work {
            Work::Connect(slot, _flight) => self.presence.give_back([slot]),
            Work::Shard(batch) => self.presence.give_back(batch.rest()),
            Work::Barrier(_) => {}
        }
    }
}
