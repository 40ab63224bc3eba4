//! What time brings: pings and their judgement, the end of sessions, the drain.

use std::hash::BuildHasher;
use std::net::Shutdown;
use std::time::Duration;

use fastwebsockets::OpCode;
use hashbrown::DefaultHashBuilder;
use tracing::Level;

use super::{Session, Worker, session_id};
use crate::end::End;
use crate::limits::{CLOSE_TIMEOUT, WHEEL_CATCH_UP};
use crate::session::codec;
use crate::session::table::Token;
use crate::session::wheel::{CHUNK, in_chunk};

impl Worker {
    /// Moves the wheel on: pings, judges, and lets go of those who do not answer a close.
    pub(super) fn tick(&mut self) {
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

    pub(super) fn ping(&mut self, index: u32, now: Duration) {
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

    pub(super) fn judge(&mut self, index: u32, now: Duration) {
        if let Some((token, session)) = self.table.at(index)
            && !session.closing
            && let Some(end) = overdue(session, now, self.parts.ping_timeout)
        {
            self.end(token, end);
        }
    }

    /// Ends a session: the close frame, if its reason has one, and a moment for the answer.
    pub(super) fn end(&mut self, token: Token, end: End) {
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

    pub(super) fn remove(&mut self, token: Token) {
        if self.table.remove(token).is_some() {
            self.parts.seats.free();
        }
    }

    /// Closes as many sessions as the drain is due.
    pub(super) fn drain_some(&mut self, now: Duration) {
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

    pub(super) fn is_drained(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| {
            let passed = self.parts.clock.now().saturating_sub(drain.since);
            passed >= drain.over && (self.table.is_empty() || passed >= drain.over + CLOSE_TIMEOUT)
        })
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
pub(super) fn ping_payload(tag: &DefaultHashBuilder, token: Token, pinged_us: u32) -> [u8; 8] {
    let tag = tag.hash_one((token, pinged_us)) as u32;
    (u64::from(pinged_us) << 32 | u64::from(tag)).to_be_bytes()
}
