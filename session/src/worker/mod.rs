//! One worker: the owner of everything session-like on its core, and its loop.
//!
//! Sessions are registered in a poll of the worker's own, so that one wake of the tokio runtime
//! hands over all that became ready, with no task and no reactor entry a session. A ready session
//! is read once into the worker's scratch buffer; its frames pass the gate and are decoded where
//! they stand; the service hears of it, which marks its user in the pending buffer. That is all a
//! heartbeat costs: one `read` and an atomic. What is rare (part of a frame, a fragmented message,
//! an answer that the socket did not take) is kept beside the slab and freed when done.
//!
//! What sessions are for is the [`Service`]'s business, what their frames mean the
//! [`Dialect`](crate::dialect::Dialect)'s, and what carries them the [`Transport`]'s: presence over
//! TCP in the server, an echo in `examples/echo.rs`, memory in tests and benches, which drive a
//! worker by [`Worker::open`], [`Worker::readable`] and [`Worker::tick`], with a time of their own.
//!
//! This file has the loop; `open` begins sessions, `input` reads, `output` writes, `heartbeat`
//! pings, `expiry` ends sessions whose time is over, `close` ends them for any reason, and `drain`
//! all of them.

mod close;
mod drain;
mod expiry;
mod heartbeat;
mod input;
mod open;
mod output;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::{self, Context};
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use mio::{Events, Poll};
use presenced_tasks::{Task, caught};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::{MissedTickBehavior, interval};

use super::awaiting_pong::AwaitingPong;
use super::buffers::SessionBuffers;
use super::coalesce::{Coalescer, Found};
use super::dialect::Plain;
use super::expiry::{Expiring, Quarters, Stage};
use super::first_pings::FirstPings;
use super::rate_limit::{Rate, TokenBucket};
use super::record_layers::RecordLayers;
use super::service::Service;
use super::slab::{SessionId, SessionKey, Slab};
use super::transport::Transport;
use super::wheel::Wheel;
use super::{Seat, Seats};
use crate::Config;
use crate::clock::{Clock, WallStep};
use crate::close_reason::CloseReason;
use crate::limits::{EVENTS_PER_POLL, OPENED_PER_TURN, SCRATCH_BYTES, WHEEL_CATCH_UP, WHEEL_TICK};
use crate::metrics::WorkerMetrics;
use crate::relay::{Carrier, NoRelay, Relay};

/// A handshake that succeeded.
#[derive(Debug)]
pub struct NewSession<P, D = Plain<false>, T = TcpStream, R = NoRelay> {
    /// Nothing of a connection has been read but `read_ahead`, and what TLS has of a record.
    pub socket: Carrier<T, R>,
    /// What came behind the handshake; with TLS, what was in its records.
    pub read_ahead: Bytes,
    /// The client, as the service knows it.
    pub peer: P,
    /// What its frames mean.
    pub dialect: D,
    /// When it may stay no longer, by [`Clock::wall`]; [`Duration::MAX`] where it may stay for ever.
    pub expires_at: Duration,
    /// Of the worker's [`WorkerConfig::seats`]; the session keeps it until it ends.
    pub seat: Seat,
}

/// What others tell a worker.
#[derive(Clone, Copy, Debug)]
pub enum WorkerCommand {
    /// Ends this session, if it is still there.
    End(SessionKey, CloseReason),
    /// Close everyone, spread evenly over a time, then end.
    Drain {
        /// The time.
        over: Duration,
        /// How much longer the service may want to keep sessions ([`Service::try_close`]); the
        /// worker ends when their close frames have had time to be answered, too.
        grace: Duration,
    },
}

/// What a worker is made of that others share.
#[derive(Debug)]
pub struct WorkerConfig {
    /// This worker's number, the index of `peers`.
    pub number: u16,
    /// Orders to each worker.
    pub peers: Vec<Sender<WorkerCommand>>,
    /// Time.
    pub clock: Clock,
    /// What this worker counts.
    pub metrics: Arc<WorkerMetrics>,
    /// Sessions that there may be.
    pub seats: Arc<Seats>,
    /// What an operator may set.
    pub config: Config,
    /// Keys the tags of pings, and says at which moments clients are told that their time is over
    /// soon. Nobody else may know it.
    pub seed: u64,
}

impl WorkerConfig {
    /// For a worker on its own, with the server's usual times and limits, no bound on sessions, and a
    /// random seed.
    pub fn alone() -> WorkerConfig {
        WorkerConfig {
            number: 0,
            peers: Vec::new(),
            clock: Clock::start(),
            metrics: Arc::default(),
            seats: Arc::new(Seats::new(usize::MAX)),
            config: Config::default(),
            seed: fastrand::u64(..),
        }
    }
}

/// A sleeping session is this and nothing else.
#[derive(Debug)]
struct Session<H, D, T> {
    /// None of a session that has a relay.
    socket: Option<T>,
    handle: H,
    dialect: D,
    /// When the last ping was sent, µs of the clock's low 32 bits; also what the ping bears.
    pinged_us: u32,
    /// When it may stay no longer.
    ends_at: Quarters,
    bucket: TokenBucket,
    stage: Stage,
    /// There is more of it in [`SessionBuffers`].
    has_buffers: bool,
    pinged: Pinged,
}

/// How far a session is with its pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pinged {
    /// The first one waits its time, apart from the wheel.
    NotYet,
    /// The pong of the last ping has not come: the round-trip time is taken when it does.
    AwaitsPong,
    /// There is no ping, or its pong has come.
    Answered,
}

// What "hundreds of bytes each" is made of. There is room for a dialect of one byte.
const _: () = assert!(Slab::<Session<u32, Plain<false>, TcpStream>>::ENTRY_BYTES <= 28);
const _: () = assert!(Slab::<Session<u32, u8, TcpStream>>::ENTRY_BYTES <= 28);

/// Owns the sessions of one thread, and serves them.
#[derive(Debug)]
pub struct Worker<S: Service, T = TcpStream, R = NoRelay> {
    service: S,
    parts: WorkerConfig,
    rate: Rate,
    /// The time of this wake.
    now: Duration,
    poll: Poll,
    /// Taken while it is in use.
    events: Option<Events>,
    slab: Slab<Session<S::Handle, S::Dialect, T>>,
    /// Of the few sessions without a connection, by their index in the slab.
    relays: HashMap<u32, R>,
    records: RecordLayers,
    buffers: SessionBuffers,
    wheel: Wheel,
    awaiting_pong: AwaitingPong,
    first_pings: FirstPings,
    expiring: Expiring,
    wall_step: WallStep,
    /// How far the wheel was behind when all sessions were looked at last.
    looked_behind: Duration,
    /// Groups that this turn of the wheel has found due; kept to be used again.
    due: Vec<u32>,
    /// Sessions of a group that were not simply pinged: something of the ping is still to be sent, or it must
    /// end; kept to be used again.
    odd: Vec<(SessionKey, Result<Vec<u8>, CloseReason>)>,
    scratch: Box<[u8]>,
    /// Frames that one wake of one session has to say; kept to be used again.
    out: Vec<u8>,
    /// Records that are to be sent at once: no nonce is used twice, so what is sealed goes out in its order, or the
    /// session ends. Kept to be used again.
    sealed: Vec<u8>,
    /// Sessions with more to read than one wake takes, and those that the peer has ended.
    again: VecDeque<SessionKey>,
    /// Sessions that wait for the peer's close frame, by the time that this ends.
    closing: VecDeque<(Duration, SessionKey)>,
    /// Sessions that were replaced and whose worker could not be told yet.
    undelivered: VecDeque<SessionId>,
    /// Keys the tags of pings.
    tag: FixedState,
    drain: Option<Drain>,
}

#[derive(Debug)]
struct Drain {
    since: Duration,
    over: Duration,
    grace: Duration,
    /// Steps of each chunk that were due so far.
    step: u32,
    /// Sessions that were due and may not be closed yet.
    due: Vec<SessionKey>,
}

impl<S: Service, T: Transport> Worker<S, T> {
    /// A worker without sessions, each of which has a connection of its own.
    ///
    /// # Errors
    ///
    /// If the poll can't be made, or watched by the runtime: there are too many open files.
    pub fn new(service: S, parts: WorkerConfig) -> io::Result<Worker<S, T>> {
        Worker::with_relays(service, parts)
    }
}

impl<S: Service, T: Transport, R: Relay<T>> Worker<S, T, R> {
    /// A worker without sessions, some of which have a relay.
    ///
    /// # Errors
    ///
    /// As [`Worker::new`].
    pub fn with_relays(service: S, parts: WorkerConfig) -> io::Result<Worker<S, T, R>> {
        let config = &parts.config;
        let keyed = FixedState::with_seed(parts.seed);
        Ok(Worker {
            service,
            rate: Rate::per_second(config.frames_per_second_max),
            now: parts.clock.now(),
            poll: Poll::new()?,
            events: Some(Events::with_capacity(EVENTS_PER_POLL)),
            slab: Slab::default(),
            relays: HashMap::new(),
            records: RecordLayers::default(),
            buffers: SessionBuffers::default(),
            wheel: Wheel::new(config.ping_interval, config.ping_timeout, parts.clock.now()),
            awaiting_pong: AwaitingPong::default(),
            first_pings: FirstPings::default(),
            expiring: Expiring::new(config.ping_interval, keyed.clone()),
            wall_step: WallStep::default(),
            looked_behind: Duration::ZERO,
            due: Vec::new(),
            odd: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES].into(),
            out: Vec::new(),
            sealed: Vec::new(),
            again: VecDeque::new(),
            closing: VecDeque::new(),
            undelivered: VecDeque::new(),
            tag: keyed,
            drain: None,
            parts,
        })
    }

    /// Runs until it has drained.
    ///
    /// # Errors
    ///
    /// If the poll fails.
    pub async fn run(
        mut self,
        mut incoming: Receiver<NewSession<S::Peer, S::Dialect, T, R>>,
        mut orders: Receiver<WorkerCommand>,
    ) -> io::Result<()> {
        let mut ready = Coalescer::new(self.poll.registry().as_fd(), self.parts.config.coalesce)?;
        let mut ticks = interval(WHEEL_TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let busy = !self.slab.is_empty() || self.drain.is_some();
            // Not biased: a session that floods must not starve the wheel or newcomers.
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.order(order),
                    None => return Ok(()),
                },
                woken = ready.wait() => {
                    woken?;
                    let found = self.guarded(Task::Session, Worker::look);
                    ready.looked(found.unwrap_or(Ok(Found::More))?)?;
                }
                _ = ticks.tick(), if busy => {
                    let now = self.parts.clock.now();
                    self.set_wall(WallStep::at(now, self.parts.clock.wall()));
                    match self.guarded(Task::Tick, |worker| worker.tick(now)) {
                        Some(ticked) => ticked?,
                        // The wheel makes up for the time.
                        None => ticks.reset_after(WHEEL_CATCH_UP / 2),
                    }
                    // It looks between two groups, and may leave something.
                    if !self.again.is_empty() {
                        ready.looked(Found::More)?;
                    }
                }
                (key, answer) = poll_fn(|context| self.poll_answer(context)) => {
                    self.now = self.parts.clock.now();
                    self.answer(key, answer);
                    ready.answered();
                    // A relay may have more than one read takes.
                    if !self.again.is_empty() {
                        ready.looked(Found::More)?;
                    }
                }
                Some(new) = incoming.recv() => {
                    self.open(new, self.parts.clock.now());
                    for _ in 1..OPENED_PER_TURN {
                        let Ok(new) = incoming.try_recv() else { break };
                        self.open(new, self.now);
                    }
                }
            }
            if self.is_drained() {
                return Ok(());
            }
        }
    }

    /// The next answer of the service. After a panic there is none until the worker asks again.
    fn poll_answer(&mut self, context: &mut Context<'_>) -> task::Poll<(SessionKey, S::Answer)> {
        let polled = caught(Task::Session, || self.service.poll_answer(context));
        polled.unwrap_or(task::Poll::Pending)
    }

    /// Does what others tell it; a drain then goes on with each [`Worker::tick`].
    pub fn order(&mut self, order: WorkerCommand) {
        self.now = self.parts.clock.now();
        match order {
            WorkerCommand::End(key, end) => self.end(key, end),
            WorkerCommand::Drain { over, grace } => {
                self.drain = Some(Drain {
                    since: self.now,
                    over,
                    grace,
                    step: 0,
                    due: Vec::new(),
                });
            }
        }
    }

    /// Does `work`; `None` if it panicked, and nothing that it has left may reach the next session.
    fn guarded<D>(&mut self, task: Task, work: impl FnOnce(&mut Self) -> D) -> Option<D> {
        let done = caught(task, || work(self));
        if done.is_none() {
            self.scratch = vec![0; SCRATCH_BYTES].into();
            self.out = Vec::new();
            self.sealed = Vec::new();
            self.events
                .get_or_insert_with(|| Events::with_capacity(EVENTS_PER_POLL));
        }
        done
    }

    fn id(&self, key: SessionKey) -> SessionId {
        let worker = self.parts.number;
        SessionId { worker, key }
    }

    /// Sessions that there are, those that are closing included.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// The seats that its sessions have.
    pub fn seats(&self) -> &Arc<Seats> {
        &self.parts.seats
    }

    /// What it counts.
    pub fn metrics(&self) -> &Arc<WorkerMetrics> {
        &self.parts.metrics
    }

    /// What the sessions are for.
    pub fn service(&mut self) -> &mut S {
        &mut self.service
    }

    /// Ends a session that another one of its user has replaced.
    fn replace(&mut self, oldest: SessionId) {
        debug_assert!(self.out.is_empty(), "bytes of another session are unsent");
        let key = oldest.key;
        if oldest.worker == self.parts.number {
            return self.end(key, CloseReason::Replaced);
        }
        if let Some(peer) = self.parts.peers.get(usize::from(oldest.worker))
            && let Err(TrySendError::Full(_)) =
                peer.try_send(WorkerCommand::End(key, CloseReason::Replaced))
        {
            self.undelivered.push_back(oldest);
        }
    }

    /// Tells other workers again of sessions that were replaced. At most once a session.
    fn deliver(&mut self) {
        for _ in 0..self.undelivered.len() {
            if let Some(oldest) = self.undelivered.pop_front() {
                self.replace(oldest);
            }
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
