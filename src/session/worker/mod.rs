//! One worker: the owner of everything session-like on its core, and its loop.
//!
//! Sessions are registered in a poll of the worker's own, so that one wake of the tokio runtime
//! hands over all that became ready, with no task and no reactor entry a session. A ready session
//! is read once into the worker's scratch buffer; whole frames pass the gate and the one codec; a
//! session heard from is marked in the pending buffer. That is all a heartbeat costs: one `read`
//! and an atomic. What is rare (part of a frame, a fragmented message, an answer that the socket
//! did not take) is boxed beside the session and freed when done.
//!
//! This file has the loop and the begin of sessions; `input` reads, `output` writes, `life` has
//! pings, ends and the drain.

mod input;
mod life;
mod output;

use std::collections::VecDeque;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hashbrown::DefaultHashBuilder;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::{MissedTickBehavior, interval};

use super::Seats;
use super::assembly::Assembly;
use super::codec::Codec;
use super::ready::Ready;
use super::table::{Table, Token};
use super::wheel::Wheel;
use crate::clock::{Clock, unix_ms};
use crate::counters::WorkerMetrics;
use crate::end::End;
use crate::limits::{
    EVENTS_PER_POLL, FRAMES_BURST, FRAMES_PER_SECOND_MAX, MESSAGE_BYTES_MAX, MESSAGE_TIME_MAX,
    SCRATCH_BYTES, WHEEL_TICK,
};
use crate::presence::flush::{Flusher, Presence};
use crate::presence::users::Live;
use crate::presence::{Pending, SessionId, Slot, UserId};
use crate::pull::{Answer, Puller};

/// A handshake that succeeded; the session has its seat.
#[derive(Debug)]
pub struct NewSession {
    /// Nothing of it has been read but `read_ahead`.
    pub socket: TcpStream,
    /// What came behind the handshake.
    pub read_ahead: Bytes,
    /// Who the token says.
    pub user: UserId,
    /// When the token expires, by the [`Clock`].
    pub expires_at: Duration,
}

/// What others tell a worker.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// End this session, if it is there still.
    End(Token, End),
    /// Close everyone, spread evenly over a time, then end.
    Drain {
        /// The time.
        over: Duration,
    },
}

/// What a worker is made of that others share.
#[derive(Debug)]
pub struct Parts {
    /// This worker's number, the index of `peers`.
    pub number: u16,
    /// Orders to each worker.
    pub peers: Vec<Sender<Order>>,
    /// Users and pending heartbeats.
    pub presence: Arc<Presence>,
    /// The way to memcached.
    pub flusher: Flusher,
    /// The way to answers.
    pub puller: Puller,
    /// Time.
    pub clock: Clock,
    /// What this worker counts.
    pub metrics: Arc<WorkerMetrics>,
    /// Sessions that there may be.
    pub seats: Arc<Seats>,
    /// See [`crate::settings::Settings`].
    pub ping_interval: Duration,
    /// See [`crate::settings::Settings`].
    pub ping_timeout: Duration,
    /// See [`crate::settings::Settings`].
    pub coalesce: Duration,
}

/// A sleeping session is this and nothing else.
#[derive(Debug)]
struct Session {
    socket: TcpStream,
    slot: Slot,
    /// When the last ping was sent, µs of the clock's low 32 bits; also what the ping bears.
    pinged_us: u32,
    /// When the token expires, seconds of the clock.
    expires_s: u32,
    /// Frames since the last ping.
    frames: u16,
    /// Pulls without an answer.
    pulls: u8,
    /// The last ping has no pong yet.
    awaiting: bool,
    /// A close frame was sent; the rest of the input is ignored (RFC 6455 §1.4).
    closing: bool,
    rest: Option<Box<Rest>>,
}

// What "hundreds of bytes each" is made of.
const _: () = assert!(Table::<Session>::PLACE_BYTES <= 40);

/// What most sessions have nothing of.
#[derive(Debug, Default)]
struct Rest {
    /// The begin of a frame.
    partial: Vec<u8>,
    partial_since: Duration,
    /// The begin of a message.
    assembly: Option<Box<Assembly>>,
    /// What the socket did not take.
    outbox: Vec<u8>,
    /// Bytes of `outbox` that it has taken since.
    sent: usize,
}

impl Rest {
    fn is_empty(&self) -> bool {
        self.partial.is_empty() && self.assembly.is_none() && self.outbox.is_empty()
    }

    fn is_overdue(&self, now: Duration) -> bool {
        let partial =
            !self.partial.is_empty() && now.saturating_sub(self.partial_since) > MESSAGE_TIME_MAX;
        partial
            || self
                .assembly
                .as_ref()
                .is_some_and(|message| message.is_overdue(now))
    }
}

impl Session {
    fn has_outbox(&self) -> bool {
        self.rest
            .as_ref()
            .is_some_and(|rest| !rest.outbox.is_empty())
    }

    fn tidy(&mut self) {
        if self.rest.as_ref().is_some_and(|rest| rest.is_empty()) {
            self.rest = None;
        }
    }
}

type Answered = Pin<Box<dyn Future<Output = (Token, u64, Option<Answer>)>>>;

/// See the module's page.
#[derive(Debug)]
pub struct Worker {
    parts: Parts,
    pending: Arc<Pending>,
    poll: Poll,
    table: Table<Session>,
    wheel: Wheel,
    codec: Codec,
    scratch: Box<[u8]>,
    /// What one wake of one session has to say; kept to be used again.
    replies: Vec<u8>,
    /// The payload of the last ping of one wake: only the latest needs a pong (RFC 6455 §5.5.3).
    pinged_with: Option<([u8; 125], u8)>,
    /// Sessions with more to read than one wake takes, and those that the peer has ended.
    again: VecDeque<Token>,
    /// Sessions that wait for the peer's close frame, by the time that this ends.
    closing: VecDeque<(Duration, Token)>,
    /// Sessions that were replaced and whose worker could not be told yet.
    undelivered: VecDeque<SessionId>,
    pulls: FuturesUnordered<Answered>,
    /// Keys the tags of pings.
    tag: DefaultHashBuilder,
    frames_max: u16,
    drain: Option<Drain>,
}

#[derive(Debug)]
struct Drain {
    since: Duration,
    over: Duration,
    /// Steps of each chunk closed so far.
    step: u32,
}

impl Worker {
    /// A worker without sessions.
    pub fn new(parts: Parts) -> io::Result<Worker> {
        let round = parts.ping_interval.as_secs_f64();
        let frames_max = f64::from(FRAMES_PER_SECOND_MAX) * round + f64::from(FRAMES_BURST);
        Ok(Worker {
            pending: parts.presence.pending().clone(),
            poll: Poll::new()?,
            table: Table::default(),
            wheel: Wheel::new(parts.ping_interval, parts.ping_timeout, parts.clock.now()),
            codec: Codec::new(MESSAGE_BYTES_MAX),
            scratch: vec![0; SCRATCH_BYTES].into(),
            replies: Vec::new(),
            pinged_with: None,
            again: VecDeque::new(),
            closing: VecDeque::new(),
            undelivered: VecDeque::new(),
            pulls: FuturesUnordered::new(),
            tag: DefaultHashBuilder::default(),
            // One less than what the sessions' counters can hold, or they would never be over it.
            frames_max: (frames_max as u16).min(u16::MAX - 1),
            drain: None,
            parts,
        })
    }

    /// Runs until it has drained.
    pub async fn run(
        mut self,
        mut incoming: Receiver<NewSession>,
        mut orders: Receiver<Order>,
    ) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        let mut ready = Ready::new(self.poll.registry().as_fd(), self.parts.coalesce)?;
        let mut ticks = interval(WHEEL_TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let busy = !self.table.is_empty() || self.drain.is_some();
            // Not biased: a session that floods must not starve the wheel or newcomers.
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.order(order),
                    None => return Ok(()),
                },
                woken = ready.wait() => {
                    woken?;
                    let more = self.look(&mut events)?;
                    ready.looked(more);
                }
                _ = ticks.tick(), if busy => self.tick(),
                Some(answered) = self.pulls.next() => self.answered(answered),
                Some(new) = incoming.recv() => self.admit(new),
            }
            if self.is_drained() {
                return Ok(());
            }
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::End(token, end) => self.end(token, end),
            Order::Drain { over } => {
                self.drain = Some(Drain {
                    since: self.parts.clock.now(),
                    over,
                    step: 0,
                });
            }
        }
    }

    /// Begins a session.
    fn admit(&mut self, new: NewSession) {
        let NewSession {
            socket,
            read_ahead,
            user,
            expires_at,
        } = new;
        let (number, presence) = (self.parts.number, &self.parts.presence);
        let mut replaced = None;
        let token = self.table.insert(|token| {
            let live = Live {
                connected_at_ms: unix_ms(),
                session: session_id(number, token),
            };
            let connected = presence.connect(&user, live);
            replaced = connected.replaced;
            Session {
                socket,
                slot: connected.slot,
                pinged_us: 0,
                expires_s: expires_at.as_secs() as u32,
                frames: 0,
                pulls: 0,
                awaiting: false,
                closing: false,
                rest: None,
            }
        });
        self.parts.metrics.sessions.add_alone(1);
        if let Some(oldest) = replaced {
            self.replace(oldest);
        }
        let Some(session) = self.table.get_mut(token) else {
            return;
        };
        self.parts.flusher.write_now(session.slot);
        let fd = session.socket.as_raw_fd();
        let registered = self.poll.registry().register(
            &mut SourceFd(&fd),
            mio::Token(token.to_usize()),
            Interest::READABLE,
        );
        let now = self.parts.clock.now();
        let begun = match registered {
            Ok(()) if read_ahead.is_empty() => Ok(()),
            Ok(()) => self.take(token, &read_ahead, now),
            Err(error) => {
                tracing::error!(%error, "a session can't be polled");
                Err(End::Internal)
            }
        };
        if let Err(end) = begun {
            self.end(token, end);
        }
    }

    fn replace(&mut self, oldest: SessionId) {
        let token = Token {
            index: oldest.index,
            generation: oldest.generation,
        };
        if oldest.worker == self.parts.number {
            return self.end(token, End::Replaced);
        }
        if let Some(peer) = self.parts.peers.get(usize::from(oldest.worker))
            && let Err(TrySendError::Full(_)) = peer.try_send(Order::End(token, End::Replaced))
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

fn session_id(worker: u16, token: Token) -> SessionId {
    SessionId {
        worker,
        index: token.index,
        generation: token.generation,
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
