//! From the sockets: what became ready, its frames, what they ask for.

use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use mio::Events;

use super::life::ping_payload;
use super::{Worker, is_transient};
use crate::end::End;
use crate::limits::{
    EVENTS_PER_POLL, MESSAGE_BYTES_MAX, POLLS_PER_LOOK, PULLS_PER_SESSION_MAX, SCRATCH_BYTES,
};
use crate::pull::PullError;
use crate::session::assembly;
use crate::session::codec::{self, Codec};
use crate::session::gate::{self, Gate, Opcode};
use crate::session::message::{self, Fault, Pull};
use crate::session::table::Token;

impl Worker {
    /// Handles the sessions that became ready. True if there is more to do than one look may take.
    pub(super) fn look(&mut self, events: &mut Events) -> io::Result<bool> {
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

    pub(super) fn readable(&mut self, token: Token, now: Duration) {
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
    pub(super) fn renew(&mut self) {
        self.codec = Codec::new(MESSAGE_BYTES_MAX);
        self.scratch = vec![0; SCRATCH_BYTES].into();
        self.replies.clear();
        self.pinged_with = None;
    }

    /// Writes what waits, then reads once.
    pub(super) fn serve(&mut self, token: Token, now: Duration) -> Result<(), End> {
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
    pub(super) fn take(&mut self, token: Token, bytes: &[u8], now: Duration) -> Result<(), End> {
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
    pub(super) fn frames(
        &mut self,
        token: Token,
        input: &[u8],
        now: Duration,
    ) -> (usize, Result<(), End>) {
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

    pub(super) fn frame(
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

    pub(super) fn data(
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

    pub(super) fn pull(&mut self, token: Token, pull: Pull) {
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

    pub(super) fn keep_partial(&mut self, token: Token, partial: Vec<u8>, since: Duration) {
        if let Some(session) = self.table.get_mut(token) {
            let rest = session.rest.get_or_insert_default();
            rest.partial = partial;
            rest.partial_since = since;
        }
    }
}
