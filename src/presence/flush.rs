//! Pending users written to memcached.
//!
//! Each worker flushes its share of the shards, one after another through the flush interval, so
//! that memcached sees a steady stream. A drained shard goes to the *lane* of each node: a task
//! that owns one connection, renders as the window allows, and settles with each answer: stored,
//! or pending again. What was not answered when a connection ends is pending again too.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};

use super::record::Scratch;
use super::users::{Connected, Live};
use super::{Pending, Record, Slot, UserId, Users};
use crate::clock::Clock;
use crate::counters::FlushMetrics;
use crate::limits::{LANE_QUEUE, MEMCACHED_STABLE, SHARDS};
use crate::memcached::pipeline::Outcome;
use crate::memcached::{Backoff, Cluster, Connection, MemcachedError, Node};

/// Users rendered under one lock of their shard: some microseconds.
const RENDER_RUN: usize = 128;

/// While more than half a window is in flight, how long replies are left to gather: memcached
/// needs longer for the other half, and reading in bulk is nearly free.
const REPLY_PAUSE: Duration = Duration::from_millis(1);

/// Who is here and what is to be written of them; shared by all workers.
#[derive(Debug)]
pub struct Presence {
    users: Users,
    pending: Arc<Pending>,
    record: Record,
    cluster: Arc<Cluster>,
    clock: Clock,
    ttl_s: AtomicU32,
    /// Cloned by each flush of a shard until it is settled.
    flights: Box<[Flight]>,
    metrics: Arc<FlushMetrics>,
}

type Flight = Arc<()>;

impl Presence {
    /// No one yet. Entries are written to `cluster` as `record` renders them, with a TTL of
    /// `ttl_s` seconds.
    pub fn new(
        record: Record,
        cluster: Arc<Cluster>,
        clock: Clock,
        ttl_s: u32,
        sessions_per_user_max: usize,
        metrics: Arc<FlushMetrics>,
    ) -> Presence {
        let pending = Arc::new(Pending::new());
        Presence {
            users: Users::new(pending.clone(), sessions_per_user_max),
            pending,
            record,
            cluster,
            clock,
            ttl_s: AtomicU32::new(ttl_s),
            flights: (0..SHARDS).map(|_| Flight::default()).collect(),
            metrics,
        }
    }

    /// The directory of users with a session here.
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// The set of users heard from since their last flush.
    pub fn pending(&self) -> &Arc<Pending> {
        &self.pending
    }

    /// Keys and values.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The memcached nodes.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Enters a session; [`Flusher::write_now`] makes it known to others.
    pub fn connect(&self, user: &UserId, live: Live) -> Connected {
        self.users.connect(user, live, |user| {
            let mut key = Vec::new();
            self.record.key(&mut key, user);
            self.cluster.node_of(&key)
        })
    }

    /// Lengthens the TTL of everything written from now on: the server is about to stop.
    pub fn lengthen_ttl(&self, by_s: u32) {
        self.ttl_s.fetch_add(by_s, Ordering::Relaxed);
    }

    fn ttl_s(&self) -> u32 {
        self.ttl_s.load(Ordering::Relaxed)
    }

    fn give_back(&self, slots: impl IntoIterator<Item = Slot>) {
        self.pending.restore(slots.into_iter().inspect(|_| {
            self.metrics.restored.add(1);
        }));
    }
}

/// One worker's way to memcached.
#[derive(Clone, Debug)]
pub struct Flusher {
    presence: Arc<Presence>,
    /// By node.
    lanes: Arc<[Sender<Work>]>,
    /// Shards that this worker flushes.
    shards: Arc<[usize]>,
}

/// What a lane is given.
#[derive(Debug)]
enum Work {
    /// A user who has just connected.
    Connect(Slot, Flight),
    /// What was pending in a shard.
    Shard(Batch),
    /// Answered when all work before it is settled.
    Barrier(oneshot::Sender<()>),
}

#[derive(Debug)]
struct Batch {
    shard: usize,
    places: Vec<u32>,
    /// Places that are rendered.
    done: usize,
    drained_at: Instant,
    flight: Flight,
}

impl Batch {
    fn rest(&self) -> impl Iterator<Item = Slot> {
        let places = &self.places[self.done..];
        places.iter().map(|&place| Slot::new(self.shard, place))
    }
}

impl Flusher {
    /// Starts the lanes of worker number `worker` of `workers`, one of `tasks` each. They end with
    /// the last clone of the flusher.
    pub fn start(
        presence: &Arc<Presence>,
        worker: usize,
        workers: usize,
        tasks: &mut JoinSet<()>,
    ) -> Flusher {
        let mut start_lane = |node: &Arc<Node>| {
            let (sender, queue) = mpsc::channel(LANE_QUEUE);
            let lane = Lane {
                queue,
                node: node.clone(),
                ledger: Ledger {
                    presence: presence.clone(),
                    node: node.clone(),
                    marks: VecDeque::new(),
                },
                current: None,
                scratch: Scratch::default(),
            };
            tasks.spawn(lane.run());
            sender
        };
        Flusher {
            lanes: presence
                .cluster
                .nodes()
                .iter()
                .map(&mut start_lane)
                .collect(),
            shards: (worker..SHARDS).step_by(workers.max(1)).collect(),
            presence: presence.clone(),
        }
    }

    /// Writes the `set` of a user who has just connected. If it can't be written now, the next
    /// flush does it.
    pub fn write_now(&self, slot: Slot) {
        let node = self.presence.users.node(slot).unwrap_or_default();
        let flight = self.presence.flights[slot.shard()].clone();
        let sent = self.lanes[usize::from(node)].try_send(Work::Connect(slot, flight));
        if sent.is_err() {
            self.presence.give_back([slot]);
        }
    }

    /// Flushes this worker's shards one after another, each once in `period`, for ever.
    pub async fn run(self, period: Duration) {
        // Late ticks are made up for, so that a round takes no longer than the period.
        let mut ticks = interval(period / self.shards.len().max(1) as u32);
        loop {
            for &shard in &*self.shards {
                ticks.tick().await;
                for (lane, batch) in self.drain(shard) {
                    // A lane that can't keep up must not hold up the others.
                    if let Err(error) = lane.try_send(Work::Shard(batch))
                        && let Work::Shard(batch) = error.into_inner()
                    {
                        self.presence.give_back(batch.rest());
                    }
                }
            }
        }
    }

    /// Flushes this worker's shards now and waits for the answers. False if a node did not take
    /// all of it; that is pending still.
    pub async fn flush_all(&self) -> bool {
        let mut barriers = Vec::new();
        for &shard in &*self.shards {
            for (lane, batch) in self.drain(shard) {
                if let Err(error) = lane.send(Work::Shard(batch)).await
                    && let Work::Shard(batch) = error.0
                {
                    self.presence.give_back(batch.rest());
                }
            }
        }
        for lane in &*self.lanes {
            let (settled, barrier) = oneshot::channel();
            // A lane that is gone drops the barrier, which then says so.
            let _ = lane.send(Work::Barrier(settled)).await;
            barriers.push(barrier);
        }
        let mut all = true;
        for barrier in barriers {
            all &= barrier.await.is_ok();
        }
        all
    }

    /// Takes what is pending in a shard, split by node.
    fn drain(&self, shard: usize) -> impl Iterator<Item = (&Sender<Work>, Batch)> {
        let Presence {
            users,
            pending,
            flights,
            clock,
            ..
        } = &*self.presence;
        if Arc::strong_count(&flights[shard]) == 1 {
            users.reap(shard, clock.now_s(), self.presence.ttl_s());
        }
        // Taken before the bits, so that no slot is freed in between.
        let flight = flights[shard].clone();
        let mut places = Vec::new();
        pending.drain(shard, |slot| places.push(slot.place()));
        let mut by_node = vec![Vec::new(); self.lanes.len()];
        if let [only] = &mut by_node[..] {
            *only = places;
        } else {
            for run in places.chunks(RENDER_RUN) {
                users.by_node(shard, run, |node, place| {
                    by_node[usize::from(node)].push(place);
                });
            }
        }
        let drained_at = Instant::now();
        let batches = self.lanes.iter().zip(by_node);
        batches
            .filter(|(_, places)| !places.is_empty())
            .map(move |(lane, places)| {
                let batch = Batch {
                    shard,
                    places,
                    done: 0,
                    drained_at,
                    flight: flight.clone(),
                };
                (lane, batch)
            })
    }
}

/// The task that owns one connection to one node.
#[derive(Debug)]
struct Lane {
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
    async fn run(mut self) {
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
        loop {
            self.fill(connection);
            if flusher_gone && connection.in_flight() == 0 {
                return Ok(());
            }
            if connection.is_busy() {
                connection.write().await?;
                sleep(REPLY_PAUSE).await;
            }
            let idle = self.current.is_none() && connection.room() > 0 && !flusher_gone;
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
        let (now_s, ttl_s) = (presence.clock.now_s(), presence.ttl_s());
        let scratch = &mut self.scratch;
        let pushed = presence
            .users
            .render(shard, places, now_s, ttl_s, |place, due| {
                connection.push(Slot::new(shard, place), |out| {
                    presence
                        .record
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
            Outcome::Stored => self.presence.metrics.flushed.add(1),
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
                    self.presence.metrics.seconds.observe(drained_at.elapsed());
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
