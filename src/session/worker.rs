//! One worker: the owner of everything session-like on its core, and its loop.
//!
//! Sessions are registered in a poll of the worker's own, so that one wake of the tokio runtime
//! hands over all that became ready, with no task and no reactor entry a session. A ready session
//! is read once into the worker's scratch buffer; whole frames pass the gate and the one codec; a
//! session heard from is marked in the pending buffer. That is all a heartbeat costs: one `read`
//! and an atomic. What is rare (part of a frame, a fragmented message, an answer that the socket
//! did not take) is boxed beside the session and freed when done.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastwebsockets::OpCode;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hashbrown::DefaultHashBuilder;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::{MissedTickBehavior, interval};
use tracing::Level;

use super::Seats;
use super::assembly::{self, Assembly};
use super::codec::{self, Codec};
use super::gate::{self, Gate, Opcode};
use super::message::{self, Fault, Pull};
use super::ready::Ready;
use super::table::{Table, Token};
use super::wheel::{CHUNK, Wheel, in_chunk};
use crate::clock::{Clock, unix_ms};
use crate::counters::WorkerMetrics;
use crate::end::End;
use crate::limits::{
    CLOSE_TIMEOUT, EVENTS_PER_POLL, FRAMES_BURST, FRAMES_PER_SECOND_MAX, MESSAGE_BYTES_MAX,
    MESSAGE_TIME_MAX, OUTBOX_BYTES_MAX, POLLS_PER_LOOK, PULLS_PER_SESSION_MAX, SCRATCH_BYTES,
    WHEEL_CATCH_UP, WHEEL_TICK,
};
use crate::presence::flush::{Flusher, Presence};
use crate::presence::users::Live;
use crate::presence::{Pending, SessionId, Slot, UserId};
use crate::pull::{Answer, PullError, Puller};

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

// What "hundreds of bytes each" is made of: 32 here, and 8 in the table.
const _: () = assert!(size_of::<Session>() <= 32);

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

    /// Handles the sessions that became ready. True if there is more to do than one look may take.
    fn look(&mut self, events: &mut Events) -> io::Result<bool> {
        self.parts.metrics.wakes.add_alone(1);
        let now = self.parts.clock.now();
        for _ in 0..self.again.len() {
            if let Some(token) = self.again.pop_front() {
                self.readable(token, now);
            }
        }
        for _ in 0..POLLS_PER_LOOK {
            match self.poll.poll(events, Some(Duration::ZERO)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            let mut count = 0;
            for event in &*events {
                count += 1;
                let token = Token::from_usize(event.token().0);
                // The end may stand behind data that a short read leaves no trace of.
                if event.is_read_closed() {
                    self.again.push_back(token);
                }
                self.readable(token, now);
            }
            if count < EVENTS_PER_POLL {
                return Ok(!self.again.is_empty());
            }
        }
        Ok(true)
    }

    fn readable(&mut self, token: Token, now: Duration) {
        // A fault met by one session's bytes must not take the others with it.
        let served = catch_unwind(AssertUnwindSafe(|| self.serve(token, now)));
        let served = served.unwrap_or_else(|_| {
            self.renew();
            Err(End::Internal)
        });
        if let Err(end) = served {
            self.end(token, end);
        }
    }

    /// Nothing of a session that panicked may reach the next.
    fn renew(&mut self) {
        self.codec = Codec::new(MESSAGE_BYTES_MAX);
        self.scratch = vec![0; SCRATCH_BYTES].into();
        self.replies.clear();
        self.pinged_with = None;
    }

    /// Writes what waits, then reads once.
    fn serve(&mut self, token: Token, now: Duration) -> Result<(), End> {
        let Some(session) = self.table.get_mut(token) else {
            return Ok(());
        };
        if session.has_outbox() && !self.write_outbox(token)? {
            return Ok(());
        }
        let Some(session) = self.table.get_mut(token) else {
            return Ok(());
        };
        let count = match session.socket.read(&mut self.scratch) {
            Ok(0) => return Err(End::Gone),
            Ok(count) => count,
            Err(error) if is_transient(&error) => return Ok(()),
            Err(_) => return Err(End::Gone),
        };
        if count == self.scratch.len() {
            self.again.push_back(token);
        }
        if session.closing {
            return Ok(());
        }
        let scratch = std::mem::take(&mut self.scratch);
        let taken = self.take(token, &scratch[..count], now);
        self.scratch = scratch;
        taken
    }

    /// Handles what was read from a session: its frames, then what they ask for.
    fn take(&mut self, token: Token, bytes: &[u8], now: Duration) -> Result<(), End> {
        let Some(session) = self.table.get_mut(token) else {
            return Ok(());
        };
        let slot = session.slot;
        let mut joined = match &mut session.rest {
            Some(rest) if !rest.partial.is_empty() => std::mem::take(&mut rest.partial),
            _ => Vec::new(),
        };
        let since = session.rest.as_ref().map_or(now, |rest| rest.partial_since);
        let began_before = !joined.is_empty();
        let input = if began_before {
            joined.extend_from_slice(bytes);
            &joined
        } else {
            bytes
        };
        let (taken, result) = self.frames(token, input, now);
        if taken > 0 && result.is_ok() {
            // Any whole frame proves that the user is there, but for one that ends the session:
            // a disconnect writes nothing.
            self.pending.record(slot);
        }
        if result.is_ok() && taken < input.len() {
            let since = if taken == 0 && began_before {
                since
            } else {
                now
            };
            let partial = if began_before {
                joined.drain(..taken);
                joined
            } else {
                bytes[taken..].to_vec()
            };
            self.keep_partial(token, partial, since);
        } else if began_before && let Some(session) = self.table.get_mut(token) {
            session.tidy();
        }
        self.reply(token)?;
        result
    }

    /// Handles the whole frames at the start of `input`; returns the bytes they took.
    fn frames(&mut self, token: Token, input: &[u8], now: Duration) -> (usize, Result<(), End>) {
        let mut taken = 0;
        loop {
            match gate::admit(&input[taken..], MESSAGE_BYTES_MAX) {
                Gate::Partial => return (taken, Ok(())),
                Gate::Refused(end) => return (taken, Err(end)),
                Gate::Frame {
                    opcode,
                    fin,
                    length,
                } => {
                    let frame = &input[taken..taken + length];
                    taken += length;
                    if let Err(end) = self.frame(token, opcode, fin, frame, now) {
                        return (taken, Err(end));
                    }
                }
            }
        }
    }

    fn frame(
        &mut self,
        token: Token,
        opcode: Opcode,
        fin: bool,
        frame: &[u8],
        now: Duration,
    ) -> Result<(), End> {
        let Some(session) = self.table.get_mut(token) else {
            return Ok(());
        };
        self.parts.metrics.frames.add_alone(1);
        session.frames = session.frames.saturating_add(1);
        if session.frames > self.frames_max {
            return Err(End::Flood);
        }
        match opcode {
            Opcode::Pong => {
                let expected = ping_payload(&self.tag, token, session.pinged_us);
                let answers = self.codec.decode(frame, |payload| payload == expected)?;
                if answers && session.awaiting {
                    session.awaiting = false;
                    self.parts.metrics.pongs.add_alone(1);
                    let rtt_us = (now.as_micros() as u32).wrapping_sub(session.pinged_us);
                    self.parts
                        .metrics
                        .rtt
                        .observe_alone(Duration::from_micros(rtt_us.into()));
                }
                Ok(())
            }
            Opcode::Ping => {
                self.pinged_with = self.codec.decode(frame, |payload| {
                    let mut kept = [0; 125];
                    kept[..payload.len()].copy_from_slice(payload);
                    Some((kept, payload.len() as u8))
                })?;
                Ok(())
            }
            Opcode::Close => {
                let code = self.codec.decode(frame, codec::close_code)??;
                // Nothing may follow a close frame (§5.5.1), which bears the code that it answers.
                self.encode_pong();
                codec::encode_close_echo(&mut self.replies, code);
                Err(End::Closed)
            }
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                self.data(token, opcode, fin, frame, now)
            }
        }
    }

    fn data(
        &mut self,
        token: Token,
        opcode: Opcode,
        fin: bool,
        frame: &[u8],
        now: Duration,
    ) -> Result<(), End> {
        let Some(session) = self.table.get_mut(token) else {
            return Ok(());
        };
        let mut begun = session.rest.as_mut().and_then(|rest| rest.assembly.take());
        let parsed = self.codec.decode(frame, |payload| {
            assembly::take(&mut begun, opcode, fin, payload, now, message::parse)
        })??;
        if begun.is_some() {
            session.rest.get_or_insert_default().assembly = begun;
        } else {
            session.tidy();
        }
        match parsed {
            None => {}
            Some(Ok(pull)) => self.pull(token, pull),
            Some(Err(fault)) => self.say(&fault.json()),
        }
        Ok(())
    }

    fn pull(&mut self, token: Token, pull: Pull) {
        let Some(session) = self.table.get_mut(token) else {
            return;
        };
        if session.pulls == PULLS_PER_SESSION_MAX {
            let fault = Fault {
                number: Some(pull.number),
                error: PullError::TooManyPulls,
            };
            return self.say(&fault.json());
        }
        session.pulls += 1;
        let asked = self.parts.puller.ask(pull.users);
        let number = pull.number;
        self.pulls
            .push(Box::pin(async move { (token, number, asked.await) }));
    }

    fn answered(&mut self, (token, number, answer): (Token, u64, Option<Answer>)) {
        let Some(session) = self.table.get_mut(token) else {
            return;
        };
        session.pulls -= 1;
        if let Some(answer) = answer
            && !session.closing
        {
            self.say(&answer.json(Some(number)));
            if let Err(end) = self.reply(token) {
                self.end(token, end);
            }
        }
    }

    /// Adds a text message to what this wake has to say.
    fn say(&mut self, text: &[u8]) {
        codec::encode(&mut self.replies, OpCode::Text, text);
    }

    /// Sends what this wake has to say.
    fn reply(&mut self, token: Token) -> Result<(), End> {
        self.encode_pong();
        if self.replies.is_empty() {
            return Ok(());
        }
        let mut replies = std::mem::take(&mut self.replies);
        let sent = self.send(token, &replies);
        replies.clear();
        // A large answer is rare; its buffer need not stay.
        replies.shrink_to(SCRATCH_BYTES);
        self.replies = replies;
        sent
    }

    /// Adds the answer to the last ping, if there was one.
    fn encode_pong(&mut self) {
        if let Some((payload, length)) = self.pinged_with.take() {
            let payload = &payload[..usize::from(length)];
            codec::encode(&mut self.replies, OpCode::Pong, payload);
        }
    }

    /// Writes `bytes`, and keeps what the socket does not take.
    fn send(&mut self, token: Token, bytes: &[u8]) -> Result<(), End> {
        let Some(session) = self.table.get_mut(token) else {
            return Ok(());
        };
        let written = if session.has_outbox() {
            0
        } else {
            match session.socket.write(bytes) {
                Ok(written) => written,
                Err(error) if is_transient(&error) => 0,
                Err(_) => return Err(End::Gone),
            }
        };
        if written == bytes.len() {
            return Ok(());
        }
        let first = !session.has_outbox();
        let rest = session.rest.get_or_insert_default();
        if rest.outbox.len() + bytes.len() - written > OUTBOX_BYTES_MAX {
            return Err(End::NotReading);
        }
        rest.outbox.extend_from_slice(&bytes[written..]);
        if first {
            self.set_interest(token, Interest::READABLE | Interest::WRITABLE)?;
        }
        Ok(())
    }

    /// Writes what waits for a session; true when nothing waits any more.
    fn write_outbox(&mut self, token: Token) -> Result<bool, End> {
        let Some(session) = self.table.get_mut(token) else {
            return Ok(false);
        };
        let Some(rest) = &mut session.rest else {
            return Ok(true);
        };
        while rest.sent < rest.outbox.len() {
            match session.socket.write(&rest.outbox[rest.sent..]) {
                Ok(written) => rest.sent += written,
                Err(error) if is_transient(&error) => return Ok(false),
                Err(_) => return Err(End::Gone),
            }
        }
        rest.outbox = Vec::new();
        rest.sent = 0;
        session.tidy();
        if session.closing {
            let _ = session.socket.shutdown(Shutdown::Write);
        }
        self.set_interest(token, Interest::READABLE)?;
        Ok(true)
    }

    fn set_interest(&mut self, token: Token, interest: Interest) -> Result<(), End> {
        let Some(session) = self.table.get_mut(token) else {
            return Ok(());
        };
        let fd = session.socket.as_raw_fd();
        let poll_token = mio::Token(token.to_usize());
        let registry = self.poll.registry();
        registry
            .reregister(&mut SourceFd(&fd), poll_token, interest)
            .map_err(|_| End::Internal)
    }

    fn keep_partial(&mut self, token: Token, partial: Vec<u8>, since: Duration) {
        if let Some(session) = self.table.get_mut(token) {
            let rest = session.rest.get_or_insert_default();
            rest.partial = partial;
            rest.partial_since = since;
        }
    }

    /// Moves the wheel on: pings, judges, and lets go of those who do not answer a close.
    fn tick(&mut self) {
        let now = self.parts.clock.now();
        let turn = self.wheel.turn(now);
        let chunks = self.table.chunks();
        for index in turn.to_judge(chunks) {
            self.judge(index, now);
        }
        for index in turn.to_ping(chunks) {
            self.ping(index, now);
        }
        while let Some((_, token)) = self.closing.pop_front_if(|(until, _)| *until <= now) {
            self.remove(token);
        }
        self.deliver();
        self.drain_some(now);
    }

    fn ping(&mut self, index: u32, now: Duration) {
        let Some((token, session)) = self.table.at(index) else {
            return;
        };
        if session.closing {
            return;
        }
        session.frames = 0;
        if let Some(end) = overdue(session, now, self.parts.ping_timeout) {
            return self.end(token, end);
        }
        if session.awaiting {
            return;
        }
        session.awaiting = true;
        session.pinged_us = now.as_micros() as u32;
        if session.has_outbox() {
            // A socket that can't take a ping counts as one that does not answer.
            return;
        }
        let payload = ping_payload(&self.tag, token, session.pinged_us);
        let mut ping = [
            0x80 | OpCode::Ping as u8,
            payload.len() as u8,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ];
        ping[2..].copy_from_slice(&payload);
        self.parts.metrics.pings.add_alone(1);
        if let Err(end) = self.send(token, &ping) {
            self.end(token, end);
        }
    }

    fn judge(&mut self, index: u32, now: Duration) {
        if let Some((token, session)) = self.table.at(index)
            && !session.closing
            && let Some(end) = overdue(session, now, self.parts.ping_timeout)
        {
            self.end(token, end);
        }
    }

    /// Ends a session: the close frame, if its reason has one, and a moment for the answer.
    fn end(&mut self, token: Token, end: End) {
        let now = self.parts.clock.now();
        let Some(session) = self.table.get_mut(token) else {
            return;
        };
        if session.closing {
            // It only waited for the peer's end of it.
            return self.remove(token);
        }
        session.closing = true;
        let slot = session.slot;
        let facts = end.facts();
        self.parts.metrics.ends[end as usize].add_alone(1);
        if end == End::Deaf {
            self.parts.metrics.missed_pongs.add_alone(1);
        }
        let id = session_id(self.parts.number, token);
        self.parts
            .presence
            .users()
            .disconnect(slot, id, now.as_secs() as u32);
        match facts.level {
            Level::ERROR => tracing::error!(session = ?id, reason = facts.label, "session ended"),
            _ => tracing::debug!(session = ?id, reason = facts.label, "session ended"),
        }
        if matches!(end, End::Gone | End::NotReading) {
            return self.remove(token);
        }
        if let Some(code) = facts.close_code {
            codec::encode_close(&mut self.replies, code);
            if self.reply(token).is_err() {
                return self.remove(token);
            }
        }
        if let Some(session) = self.table.get_mut(token)
            && !session.has_outbox()
        {
            // §7.1.1: the server's end of TCP is closed first; the peer's end follows or times out.
            let _ = session.socket.shutdown(Shutdown::Write);
        }
        self.closing.push_back((now + CLOSE_TIMEOUT, token));
    }

    fn remove(&mut self, token: Token) {
        if self.table.remove(token).is_some() {
            self.parts.seats.free();
        }
    }

    /// Closes as many sessions as the drain is due.
    fn drain_some(&mut self, now: Duration) {
        let Some(drain) = &mut self.drain else {
            return;
        };
        let passed = now.saturating_sub(drain.since);
        let share = passed.as_secs_f64() / drain.over.as_secs_f64().max(f64::EPSILON);
        // At the end once more from the first: sessions may have come since into freed places.
        let from = if share >= 1.0 { 0 } else { drain.step };
        let to = (f64::from(CHUNK) * share.min(1.0)) as u32;
        drain.step = to;
        // In the wheel's order: a table fills up from its first places.
        for step in from..to {
            for chunk in 0..self.table.chunks() {
                if let Some((token, session)) = self.table.at(chunk * CHUNK + in_chunk(step.into()))
                    && !session.closing
                {
                    self.end(token, End::Restart);
                }
            }
        }
    }

    fn is_drained(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| {
            let passed = self.parts.clock.now().saturating_sub(drain.since);
            passed >= drain.over && (self.table.is_empty() || passed >= drain.over + CLOSE_TIMEOUT)
        })
    }
}

fn session_id(worker: u16, token: Token) -> SessionId {
    SessionId {
        worker,
        index: token.index,
        generation: token.generation,
    }
}

/// Why the session must end now, if it must.
fn overdue(session: &Session, now: Duration, ping_timeout: Duration) -> Option<End> {
    if u64::from(session.expires_s) <= now.as_secs() {
        return Some(End::TokenExpired);
    }
    if session
        .rest
        .as_ref()
        .is_some_and(|rest| rest.is_overdue(now))
    {
        return Some(End::TooSlow);
    }
    let waited_us = (now.as_micros() as u32).wrapping_sub(session.pinged_us);
    // A ping may be sent late in its turn of the wheel, by at most one turn.
    let patience = ping_timeout - WHEEL_CATCH_UP.min(ping_timeout / 2);
    let waited = Duration::from_micros(waited_us.into());
    (session.awaiting && waited >= patience).then_some(End::Deaf)
}

/// What a ping bears: when it was sent, and a tag that only this worker can make, so that a pong
/// with it answers this ping of this session.
fn ping_payload(tag: &DefaultHashBuilder, token: Token, pinged_us: u32) -> [u8; 8] {
    let tag = tag.hash_one((token, pinged_us)) as u32;
    (u64::from(pinged_us) << 32 | u64::from(tag)).to_be_bytes()
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
