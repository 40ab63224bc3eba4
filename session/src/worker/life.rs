//! What time brings: pings and their judgement, the end of sessions, the drain.

use std::hash::BuildHasher;
use std::io;
use std::time::Duration;

use fastwebsockets::OpCode;
use foldhash::fast::FixedState;
use tracing::Level;

use super::{Session, Worker, session_id};
use crate::bucket::us;
use crate::close_reason::CloseReason;
use crate::codec;
use crate::limits::{CLOSE_TIMEOUT, WHEEL_CATCH_UP};
use crate::owing;
use crate::rest::{Rest, Rests};
use crate::service::Service;
use crate::slab::SessionKey;
use crate::transport::Transport;
use crate::wheel::{CHUNK, GROUP, scattered};

const PING_BYTES: usize = 10;

impl<S: Service, T: Transport> Worker<S, T> {
    /// Moves the wheel on to `now`: pings, judges, and lets go of those who do not answer a close.
    /// Fails where the poll does.
    pub fn tick(&mut self, now: Duration) -> io::Result<()> {
        self.now = now;
        let turn = self.wheel.turn(now);
        let mut due = std::mem::take(&mut self.due);
        self.wheel.to_judge(turn, &mut due);
        for group in due.drain(..) {
            self.judge(group);
        }
        self.wheel.to_ping(turn, &mut due);
        self.table.warm(&due, GROUP);
        for (number, &group) in due.iter().enumerate() {
            // Who speaks meanwhile need not wait for all the pings, unless waiting is wanted.
            if number > 0 && self.parts.config.coalesce.is_zero() {
                self.look()?;
            }
            self.ping(group);
        }
        due.clear();
        self.due = due;
        while let Some((_, token)) = self.closing.pop_front_if(|(until, _)| *until <= self.now) {
            self.remove(token);
        }
        self.deliver();
        self.drain_some();
        Ok(())
    }

    /// Pings a group, and ends those of it who are overdue.
    fn ping(&mut self, group: u32) {
        let moment = self.moment();
        let mut odd = std::mem::take(&mut self.odd);
        let mut pings = 0;
        let owing = self.owing.group(group);
        for (token, session) in self.table.run(group, GROUP) {
            if session.closing {
                continue;
            }
            session.bucket.renew(moment.us);
            let rest = session.rest(&self.rests, token);
            if let Some(end) = session.overdue(rest, moment) {
                odd.push((token, Err(end)));
                continue;
            }
            let bit = owing::bit(token.index);
            if *owing & bit != 0 {
                continue;
            }
            *owing |= bit;
            session.pinged_us = moment.us;
            if rest.is_some_and(|rest| !rest.outbox.is_empty()) {
                // A socket that can't take a ping counts as one that does not answer.
                continue;
            }
            pings += 1;
            match session.write(&ping_frame(&self.tag, token, moment.us)) {
                Ok(PING_BYTES) => {}
                part_or_end => odd.push((token, part_or_end)),
            }
        }
        self.parts.metrics.pings.add_alone(pings);
        for (token, what) in odd.drain(..) {
            let ping = ping_frame(&self.tag, token, moment.us);
            if let Err(end) = what.and_then(|written| self.keep(token, &ping[written..])) {
                self.end(token, end);
            }
        }
        self.odd = odd;
    }

    /// Ends those of a group who owe the answer to a ping for too long.
    fn judge(&mut self, group: u32) {
        let moment = self.moment();
        let mut owing = *self.owing.group(group);
        while owing != 0 {
            let place = group + owing.trailing_zeros();
            owing &= owing - 1;
            if let Some((token, session)) = self.table.at(place)
                && !session.closing
                && moment.us.wrapping_sub(session.pinged_us) >= moment.patience_us
            {
                self.end(token, CloseReason::PongTimeout);
            }
        }
    }

    fn moment(&self) -> Moment {
        // A ping may be sent late in its turn of the wheel, by at most one turn.
        let timeout = self.parts.config.ping_timeout;
        Moment {
            now: self.now,
            us: us(self.now),
            s: self.now.as_secs() as u32,
            patience_us: us(timeout - WHEEL_CATCH_UP.min(timeout / 2)),
        }
    }

    /// Ends a session: the close frame, if its reason has one, and a moment for the answer.
    pub fn end(&mut self, token: SessionKey, end: CloseReason) {
        let Some(session) = self.table.get_mut(token) else {
            return;
        };
        if session.closing {
            // It only waited for the peer's end of it.
            return self.remove(token);
        }
        let handle = session.handle;
        let id = session_id(self.parts.number, token);
        self.service.closed(handle, id);
        self.ended(token, end);
    }

    /// What is left to do when the service has closed the session.
    fn ended(&mut self, token: SessionKey, end: CloseReason) {
        let Some(session) = self.table.get_mut(token) else {
            return;
        };
        session.closing = true;
        let facts = end.facts();
        self.parts.metrics.ends[end as usize].add_alone(1);
        if end == CloseReason::PongTimeout {
            self.parts.metrics.missed_pongs.add_alone(1);
        }
        let id = session_id(self.parts.number, token);
        match facts.level {
            Level::ERROR => tracing::error!(session = ?id, reason = facts.label, "session ended"),
            _ => tracing::debug!(session = ?id, reason = facts.label, "session ended"),
        }
        if matches!(end, CloseReason::Disconnected | CloseReason::SlowConsumer) {
            return self.remove(token);
        }
        if let Some(code) = facts.close_code {
            codec::encode_close(&mut self.replies.bytes, code);
            if self.reply(token).is_err() {
                return self.remove(token);
            }
        }
        if let Some(session) = self.table.get_mut(token)
            && !self.rests.keep_outbox(token.index)
        {
            session.has_rest = false;
            // §7.1.1: the server's end of TCP is closed first; the peer's end follows or times out.
            session.socket.finish();
        }
        self.closing.push_back((self.now + CLOSE_TIMEOUT, token));
    }

    fn remove(&mut self, token: SessionKey) {
        if self.table.remove(token).is_some() {
            self.rests.take(token.index);
            self.parts.seats.free();
        }
    }

    /// Closes as many sessions as the drain is due, but for those that may not be closed yet.
    fn drain_some(&mut self) {
        let now = self.now;
        let Some(drain) = &mut self.drain else {
            return;
        };
        let passed = now.saturating_sub(drain.since);
        let share = passed.as_secs_f64() / drain.over.as_secs_f64().max(f64::EPSILON);
        let mut due = std::mem::take(&mut drain.due);
        let mut from = drain.step;
        if share >= 1.0 {
            // At the end once more from the first: sessions may have come since into freed places.
            from = 0;
            due.clear();
        }
        let to = (f64::from(CHUNK) * share.min(1.0)) as u32;
        drain.step = to;
        for step in from..to {
            for chunk in 0..self.table.chunks() {
                let place = chunk * CHUNK + scattered(step, CHUNK);
                due.extend(self.table.at(place).map(|(token, _)| token));
            }
        }
        due.retain(|&token| {
            let session = self.table.get_mut(token).filter(|session| !session.closing);
            let Some(handle) = session.map(|session| session.handle) else {
                return false;
            };
            let id = session_id(self.parts.number, token);
            let is_closed = self.service.try_close(handle, id);
            if is_closed {
                self.ended(token, CloseReason::Restart);
            }
            !is_closed
        });
        if let Some(drain) = &mut self.drain {
            drain.due = due;
        }
    }

    /// Whether the time of the drain is up and no session is left, on any worker or on its way to one.
    /// The last may take as long as the answer to a close frame may.
    pub(super) fn is_drained(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| {
            let passed = self.now.saturating_sub(drain.since);
            let is_overdue = passed >= drain.over + drain.grace + CLOSE_TIMEOUT;
            is_overdue || passed >= drain.over && self.parts.seats.taken() == 0
        })
    }
}

/// This moment, as sessions keep their times.
#[derive(Clone, Copy)]
struct Moment {
    now: Duration,
    us: u32,
    s: u32,
    /// How long a session may owe an answer.
    patience_us: u32,
}

impl<H, T> Session<H, T> {
    /// What it has beside the table; most have nothing, and are not looked up.
    fn rest<'a>(&self, rests: &'a Rests, token: SessionKey) -> Option<&'a Rest> {
        match self.has_rest {
            true => rests.get(token.index),
            false => None,
        }
    }

    /// Why it must end now, if it must.
    fn overdue(&self, rest: Option<&Rest>, moment: Moment) -> Option<CloseReason> {
        if self.expires_s <= moment.s {
            return Some(CloseReason::TokenExpired);
        }
        let is_slow = rest.is_some_and(|rest| rest.is_overdue(moment.now));
        is_slow.then_some(CloseReason::MessageTimeout)
    }
}

/// A ready-made ping (RFC 6455 §5.5.2).
fn ping_frame(tag: &FixedState, token: SessionKey, pinged_us: u32) -> [u8; PING_BYTES] {
    let mut ping = [0; PING_BYTES];
    ping[0] = 0x80 | OpCode::Ping as u8;
    ping[1] = (PING_BYTES - 2) as u8;
    ping[2..].copy_from_slice(&ping_payload(tag, token, pinged_us));
    ping
}

/// What a ping bears: when it was sent, and a tag that only this worker can make, so that a pong
/// with it answers this ping of this session.
pub(super) fn ping_payload(tag: &FixedState, token: SessionKey, pinged_us: u32) -> [u8; 8] {
    let tag = tag.hash_one((token.to_usize() as u128) << 32 | u128::from(pinged_us)) as u32;
    (u64::from(pinged_us) << 32 | u64::from(tag)).to_be_bytes()
}
