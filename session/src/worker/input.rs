//! From the sockets: what became ready, its records if the client speaks TLS, its frames, what they ask for.

use std::io;
use std::time::Duration;

use foldhash::fast::FixedState;
use presenced_tasks::Task;
use presenced_tls::End;

use super::heartbeat::nonce;
use super::{Pinged, Session, Worker, is_transient};
use crate::awaiting_pong::AwaitingPong;
use crate::buffers::Buffers;
use crate::clock::WallStep;
use crate::close_reason::CloseReason;
use crate::coalesce::Found;
use crate::connection::Connection;
use crate::dialect::{Dialect, Meaning, Nonce};
use crate::expiry::Expiring;
use crate::frame_header::{Header, HeaderCheck, Opcode};
use crate::limits::{EVENTS_PER_POLL, POLLS_PER_LOOK, REST_BYTES_MAX};
use crate::metrics::WorkerMetrics;
use crate::rate_limit::{Rate, us};
use crate::relay::Relay;
use crate::service::{Message, Replies, Service};
use crate::slab::SessionKey;
use crate::transport::Transport;
use crate::{assembly, frame, frame_header};

impl<S: Service, T: Transport, R: Relay<T>> Worker<S, T, R> {
    /// Handles the sessions that became ready.
    pub(super) fn look(&mut self) -> io::Result<Found> {
        let Some(mut events) = self.events.take() else {
            return Ok(Found::More);
        };
        let looked = self.look_at(&mut events);
        self.events = Some(events);
        looked
    }

    fn look_at(&mut self, events: &mut mio::Events) -> io::Result<Found> {
        self.parts.metrics.wakes.add_alone(1);
        let now = self.parts.clock.now();
        self.now = now;
        let mut found = match self.again.is_empty() {
            true => Found::Nothing,
            false => Found::Some,
        };
        for _ in 0..self.again.len() {
            if let Some(key) = self.again.pop_front() {
                self.readable(key, now);
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
                found = Found::Some;
                let key = SessionKey::from_usize(event.token().0);
                // The end may stand behind data that a short read leaves no trace of.
                if event.is_read_closed() {
                    self.again.push_back(key);
                }
                self.readable(key, now);
            }
            if count < EVENTS_PER_POLL {
                return Ok(match self.again.is_empty() {
                    true => found,
                    false => Found::More,
                });
            }
        }
        Ok(Found::More)
    }

    /// Serves a session whose socket may have something, or may take something, at the time `now`;
    /// what is more than one wake may have waits for the next look. True if there is more.
    pub fn readable(&mut self, key: SessionKey, now: Duration) -> bool {
        self.now = now;
        let waiting = self.again.len();
        // A fault met by one session's bytes must not take the others with it.
        let served = self.guarded(Task::Session, |worker| worker.serve(key, now));
        if let Err(end) = served.unwrap_or(Err(CloseReason::Internal)) {
            self.end(key, end);
        }
        self.again.len() > waiting
    }

    /// Writes what waits, then reads once.
    pub(super) fn serve(&mut self, key: SessionKey, now: Duration) -> Result<(), CloseReason> {
        let Some(session) = self.slab.get_mut(key) else {
            return Ok(());
        };
        if session.has_buffers && !self.write_outbox(key)? {
            return Ok(());
        }
        let Some(session) = self.slab.get_mut(key) else {
            return Ok(());
        };
        let read = match &mut session.socket {
            Some(socket) => socket.read(&mut self.scratch),
            None => return self.serve_relay(key, now),
        };
        let count = match read {
            Ok(0) => return Err(CloseReason::Disconnected),
            Ok(count) => count,
            Err(error) if is_transient(&error) => return Ok(()),
            Err(_) => return Err(CloseReason::Disconnected),
        };
        self.received(key, count, now)
    }

    /// Handles what was read into the scratch buffer.
    fn received(
        &mut self,
        key: SessionKey,
        count: usize,
        now: Duration,
    ) -> Result<(), CloseReason> {
        if count == self.scratch.len() {
            self.again.push_back(key);
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let received = self.receive(key, &mut scratch[..count], now);
        self.scratch = scratch;
        received
    }

    /// Reads once from a session's relay, and sees whether there is a connection now.
    fn serve_relay(&mut self, key: SessionKey, now: Duration) -> Result<(), CloseReason> {
        let Some(relay) = self.relays.get_mut(&key.index) else {
            return Ok(());
        };
        match relay.read(&mut self.scratch) {
            Ok(0) => return Err(CloseReason::Disconnected),
            Ok(count) => self.received(key, count, now)?,
            Err(error) if is_transient(&error) => {}
            Err(_) => return Err(CloseReason::Disconnected),
        }
        let relay = self.relays.get_mut(&key.index);
        let Some(settled) = relay.and_then(Relay::settled) else {
            return Ok(());
        };
        self.relays.remove(&key.index);
        let Connection { transport, tls } = settled.connection;
        if let Some(session) = self.slab.get_mut(key) {
            session.socket = Some(transport);
        }
        let kept = self.take_up(key, tls);
        self.register(key).map_err(|error| {
            tracing::error!(%error, "a session can't be polled");
            CloseReason::Internal
        })?;
        self.send(key, &settled.unsent)?;
        if self
            .slab
            .get_mut(key)
            .is_some_and(|session| session.is_closing())
        {
            self.close_records(key)?;
        }
        if let Some(session) = self.slab.get_mut(key)
            && session.is_closing()
            && !self.buffers.has_outbox(key.index)
        {
            session.finish();
        }
        kept?;
        match settled.read_ahead {
            ahead if ahead.is_empty() => Ok(()),
            mut ahead => self.receive_frames(key, &mut ahead, now),
        }
    }

    /// Handles what was read from a session at the time `now`: its records, if its client speaks TLS,
    /// its frames, then what they ask for. `bytes` are opened and unmasked where they stand. The caller
    /// ends the session on an error.
    ///
    /// # Errors
    ///
    /// Why the session must end.
    pub fn receive(
        &mut self,
        key: SessionKey,
        bytes: &mut [u8],
        now: Duration,
    ) -> Result<(), CloseReason> {
        match self.records.has(key.index) {
            true => self.receive_records(key, bytes, now),
            false => self.receive_frames(key, bytes, now),
        }
    }

    // Out of line, so that the path of a plain pong stays short.
    #[inline(never)]
    fn receive_records(
        &mut self,
        key: SessionKey,
        bytes: &mut [u8],
        now: Duration,
    ) -> Result<(), CloseReason> {
        let Some(session) = self.slab.get_mut(key) else {
            return Ok(());
        };
        if session.is_closing() {
            return Ok(());
        }
        let mut before = (Vec::new(), now);
        if session.has_buffers
            && let Some(mut buffers) = self.buffers.take(key.index)
        {
            before = (std::mem::take(&mut buffers.record), buffers.record_since);
            session.has_buffers = self.buffers.put(key.index, Some(buffers));
        }
        let (mut joined, since) = before;
        if joined.is_empty() {
            return self.open_records(key, bytes, now, now);
        }
        joined.extend_from_slice(bytes);
        self.open_records(key, &mut joined, since, now)
    }

    /// Opens the whole records of `bytes`, handles what was in them, and keeps the rest. The first of them
    /// began to come at the time `since`.
    fn open_records(
        &mut self,
        key: SessionKey,
        bytes: &mut [u8],
        since: Duration,
        now: Duration,
    ) -> Result<(), CloseReason> {
        let Some(records) = self.records.get_mut(key.index) else {
            return Ok(());
        };
        let opened = records.open(bytes, &mut self.sealed);
        let since = if opened.taken == 0 { since } else { now };
        let kept = self.keep_record(key, bytes[opened.taken..].to_vec(), since);
        self.send_sealed(key)?;
        if opened.idle > 0
            && let Some(session) = self.slab.get_mut(key)
            && !session.bucket.take_more(self.rate, opened.idle, us(now))
        {
            return Err(CloseReason::RateLimited);
        }
        if opened.data > 0 {
            self.receive_frames(key, &mut bytes[..opened.data], now)?;
        }
        match opened.end {
            None => kept,
            Some(End::Closed) => {
                // Each side says so (RFC 8446 §6.1).
                self.close_records(key)?;
                Err(CloseReason::Disconnected)
            }
            Some(End::Alert(_)) => Err(CloseReason::Disconnected),
            Some(End::Fault(_)) => Err(CloseReason::Tls),
        }
    }

    /// Keeps what has come of a record since the time `since`. Fails if there is no memory for it.
    pub(super) fn keep_record(
        &mut self,
        key: SessionKey,
        record: Vec<u8>,
        since: Duration,
    ) -> Result<(), CloseReason> {
        let session = self.slab.get_mut(key);
        // Nothing more is read from one that is closing.
        let session = session.filter(|session| !record.is_empty() && !session.is_closing());
        let Some(session) = session else {
            return Ok(());
        };
        let mut buffers = self.buffers.take(key.index).unwrap_or_default();
        (buffers.record, buffers.record_since) = (record, since);
        session.has_buffers = self.buffers.put(key.index, Some(buffers));
        match self.buffers.bytes() > REST_BYTES_MAX {
            true => Err(CloseReason::Overloaded),
            false => Ok(()),
        }
    }

    /// Handles the frames in `bytes`, then what they ask for.
    pub(super) fn receive_frames(
        &mut self,
        key: SessionKey,
        bytes: &mut [u8],
        now: Duration,
    ) -> Result<(), CloseReason> {
        let Some(session) = self.slab.get_mut(key) else {
            return Ok(());
        };
        if session.is_closing() {
            return Ok(());
        }
        self.now = now;
        let has_buffers = session.has_buffers;
        let mut buffers = match has_buffers {
            true => self.buffers.take_begun(key.index),
            false => None,
        };
        let mut reading = Reading {
            metrics: &self.parts.metrics,
            tag: &self.tag,
            awaiting_pong: &mut self.awaiting_pong,
            expiring: &mut self.expiring,
            wall_step: self.wall_step,
            rate: self.rate,
            bytes_max: self.parts.config.message_bytes_max,
            session,
            service: &mut self.service,
            out: &mut self.out,
            key,
            now,
        };
        let result = reading.bytes(&mut buffers, bytes);
        session.has_buffers = match has_buffers {
            true => self.buffers.put_begun(key.index, buffers),
            false => self.buffers.put(key.index, buffers),
        };
        let kept_too_much = session.has_buffers && self.buffers.bytes() > REST_BYTES_MAX;
        self.reply(key)?;
        result?;
        if kept_too_much {
            return Err(CloseReason::Overloaded);
        }
        Ok(())
    }
}

/// One session's input being handled: the parts of the worker that it takes.
struct Reading<'a, S: Service, T> {
    metrics: &'a WorkerMetrics,
    tag: &'a FixedState,
    awaiting_pong: &'a mut AwaitingPong,
    expiring: &'a mut Expiring,
    wall_step: WallStep,
    rate: Rate,
    bytes_max: usize,
    session: &'a mut Session<S::Handle, S::Dialect, T>,
    service: &'a mut S,
    out: &'a mut Vec<u8>,
    key: SessionKey,
    now: Duration,
}

impl<S: Service, T> Reading<'_, S, T> {
    /// Handles the frames in `bytes` and what came before them; keeps the start of one more.
    fn bytes(
        &mut self,
        buffers: &mut Option<Box<Buffers>>,
        bytes: &mut [u8],
    ) -> Result<(), CloseReason> {
        let before = buffers
            .as_mut()
            .map(|buffers| std::mem::take(&mut buffers.partial));
        let Some(mut joined) = before.filter(|before| !before.is_empty()) else {
            let taken = self.frames(buffers, bytes)?;
            if taken < bytes.len() {
                self.keep(buffers, bytes[taken..].to_vec(), true);
            }
            return Ok(());
        };
        joined.extend_from_slice(bytes);
        let taken = self.frames(buffers, &mut joined)?;
        joined.drain(..taken);
        if !joined.is_empty() {
            self.keep(buffers, joined, taken > 0);
        }
        Ok(())
    }

    fn keep(&self, buffers: &mut Option<Box<Buffers>>, partial: Vec<u8>, is_new: bool) {
        let buffers = buffers.get_or_insert_default();
        buffers.partial = partial;
        if is_new {
            buffers.partial_since = self.now;
        }
    }

    /// Handles the whole frames at the start of `input`; returns the bytes they took.
    fn frames(
        &mut self,
        buffers: &mut Option<Box<Buffers>>,
        input: &mut [u8],
    ) -> Result<usize, CloseReason> {
        let mut taken = 0;
        loop {
            match frame_header::check(&input[taken..], self.bytes_max) {
                HeaderCheck::Refused(end) => return Err(end),
                HeaderCheck::Partial => break,
                HeaderCheck::Frame(header) => {
                    let frame = &mut input[taken..taken + header.frame_bytes];
                    taken += header.frame_bytes;
                    self.frame(buffers, header, frame)?;
                }
            }
        }
        if taken > 0 {
            // Any whole frame proves that the client is there, but for one that ends the session:
            // a disconnect writes nothing.
            self.awaiting_pong.clear(self.key.index);
            self.service.heard(self.session.handle);
        }
        Ok(taken)
    }

    fn frame(
        &mut self,
        buffers: &mut Option<Box<Buffers>>,
        header: Header,
        frame: &mut [u8],
    ) -> Result<(), CloseReason> {
        self.metrics.frames.add_alone(1);
        if !self.session.bucket.take(self.rate, us(self.now)) {
            return Err(CloseReason::RateLimited);
        }
        let payload = frame::decode(header, frame)?;
        match header.opcode {
            Opcode::Pong => {
                let awaits = self.session.pinged == Pinged::AwaitsPong;
                if awaits && self.session.dialect.is_pong(payload, self.nonce()) {
                    self.pong();
                }
                Ok(())
            }
            Opcode::Ping => {
                frame::encode_pong(self.out, payload);
                Ok(())
            }
            Opcode::Close => {
                // Bears the code that it answers; nothing may follow it (§5.5.1).
                let code = frame::close_code(payload)?;
                frame::encode_close_echo(self.out, code);
                Err(CloseReason::Closed)
            }
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                self.data(buffers, header, payload)
            }
        }
    }

    fn nonce(&self) -> Nonce {
        nonce(self.tag, self.key, self.session.pinged_us)
    }

    /// The pong of the last ping has come.
    fn pong(&mut self) {
        self.session.pinged = Pinged::Answered;
        self.metrics.pongs.add_alone(1);
        let rtt_us = us(self.now).wrapping_sub(self.session.pinged_us);
        self.metrics
            .rtt
            .observe_alone(Duration::from_micros(rtt_us.into()));
    }

    // Out of line, so that the path of a pong stays short: inlined, a pong takes 3 % longer.
    #[inline(never)]
    fn data(
        &mut self,
        buffers: &mut Option<Box<Buffers>>,
        header: Header,
        payload: &[u8],
    ) -> Result<(), CloseReason> {
        let has_begun = buffers
            .as_ref()
            .is_some_and(|buffers| buffers.assembly.is_some());
        if header.opcode == Opcode::Text && header.fin && !has_begun {
            // A message of its own, as most are.
            return self.message(Message::Text(payload));
        }
        let mut begun = buffers.as_mut().and_then(|buffers| buffers.assembly.take());
        let dialect = self.session.dialect;
        if header.opcode == Opcode::Binary && begun.is_none() && !dialect.takes_binary() {
            return Err(CloseReason::UnsupportedData);
        }
        let (kind, now, bytes_max) = ((header.opcode, header.fin), self.now, self.bytes_max);
        let read = |message: Message<'_>| self.message(message);
        assembly::take(&mut begun, kind, payload, now, bytes_max, read)?.transpose()?;
        if begun.is_some() {
            buffers.get_or_insert_default().assembly = begun;
        }
        Ok(())
    }

    fn message(&mut self, message: Message<'_>) -> Result<(), CloseReason> {
        let dialect = self.session.dialect;
        match dialect.read(message)? {
            Meaning::Message(message) => {
                let mut replies = Replies::new(dialect, self.out);
                let handle = self.session.handle;
                self.service
                    .message(self.key, handle, message, &mut replies);
                let asked = replies.asked();
                let now_us = us(self.now);
                if !self
                    .session
                    .bucket
                    .take_more(self.rate, asked.frames, now_us)
                {
                    return Err(CloseReason::RateLimited);
                }
                if let Some(expires_at) = asked.expires_at {
                    self.renew(expires_at);
                }
                asked.end.map_or(Ok(()), Err)?;
            }
            Meaning::Pong if self.session.pinged == Pinged::AwaitsPong => self.pong(),
            Meaning::Pong | Meaning::Nothing => {}
        }
        Ok(())
    }

    fn renew(&mut self, expires_at: Duration) {
        let (key, term) = (self.key, self.session.term());
        let term = self
            .expiring
            .renew(key, term, expires_at, self.wall_step.wall(self.now));
        (self.session.ends_at, self.session.stage) = (term.ends_at, term.stage);
        self.metrics.renewals.add_alone(1);
    }
}
