//! The heartbeat: pings when they are due, and an end for sessions that owe the answer for too
//! long.

use std::hash::BuildHasher;
use std::io;
use std::time::Duration;

use foldhash::fast::FixedState;
use presenced_tasks::Task;

use super::{Pinged, Worker};
use crate::awaiting_pong;
use crate::close_reason::CloseReason;
use crate::dialect::{Dialect, Nonce};
use crate::expiry::Quarters;
use crate::limits::WHEEL_CATCH_UP;
use crate::rate_limit::us;
use crate::relay::Relay;
use crate::service::Service;
use crate::slab::SessionKey;
use crate::transport::Transport;
use crate::wheel::GROUP;

impl<S: Service, T: Transport, R: Relay<T>> Worker<S, T, R> {
    /// Moves the wheel on to `now`: ends sessions whose time is over, pings, checks for pongs, ends
    /// messages that take too long, and drops sessions that do not answer a close. Fails where the
    /// poll does.
    ///
    /// # Errors
    ///
    /// If the poll fails.
    pub fn tick(&mut self, now: Duration) -> io::Result<()> {
        self.now = now;
        let turn = self.wheel.turn(now);
        self.expire();
        let mut due = std::mem::take(&mut self.due);
        self.wheel.to_check(turn, &mut due);
        for group in due.drain(..) {
            self.check_pongs(group);
        }
        self.wheel.to_ping(turn, &mut due);
        self.slab.prefetch(&due, GROUP);
        self.records.prefetch(&due, GROUP);
        for (number, &group) in due.iter().enumerate() {
            // Sessions that speak meanwhile need not wait for all the pings, unless waiting is
            // wanted.
            if number > 0 && self.parts.config.coalesce.is_zero() {
                self.look()?;
            }
            self.ping(group);
        }
        due.clear();
        self.due = due;
        self.first_pings();
        self.end_overdue();
        while let Some((_, key)) = self.closing.pop_front_if(|(until, _)| *until <= self.now) {
            self.remove(key);
        }
        self.deliver();
        self.drain_some();
        Ok(())
    }

    /// Pings the sessions of a group.
    fn ping(&mut self, group: u32) {
        let (mut next, end) = (group, group + GROUP);
        while next < end {
            let from = next;
            let pinged = self.guarded(Task::Tick, |worker| worker.ping_some(&mut next, end));
            if pinged.is_none() {
                // A fault met by one session, the others of the group are still to be pinged.
                next = next.max(from + 1);
                self.odd.extend(
                    self.slab
                        .at(next - 1)
                        .map(|(key, _)| (key, Err(CloseReason::Internal))),
                );
            }
        }
        while let Some((key, what)) = self.odd.pop() {
            self.end_ping(key, what);
        }
    }

    /// What is left to do for a session that was not simply pinged.
    fn end_ping(&mut self, key: SessionKey, what: Result<Vec<u8>, CloseReason>) {
        let kept = what.and_then(|rest| {
            self.guarded(Task::Tick, |worker| worker.keep(key, &rest))
                .unwrap_or(Err(CloseReason::Internal))
        });
        if let Err(end) = kept {
            self.end(key, end);
        }
    }

    /// Pings the sessions whose first ping is due, and ends those that have not answered theirs.
    fn first_pings(&mut self) {
        let (now_us, timeout_us) = (us(self.now), us(self.parts.config.ping_timeout));
        while let Some(key) = self.first_pings.next_to_check(self.now) {
            let is_silent = *self.awaiting_pong.group(key.index) & awaiting_pong::bit(key.index);
            // The wheel may have pinged it again meanwhile.
            let is_late = self.slab.get_mut(key).is_some_and(|session| {
                !session.is_closing() && now_us.wrapping_sub(session.pinged_us) >= timeout_us
            });
            if is_late && is_silent != 0 {
                self.end(key, CloseReason::PongTimeout);
            }
        }
        while let Some(key) = self.first_pings.next_to_ping(self.now) {
            let pinged = self.guarded(Task::Tick, |worker| worker.ping_first(key));
            if let Err(end) = pinged.unwrap_or(Err(CloseReason::Internal)) {
                self.end(key, end);
            }
        }
    }

    /// Pings a session for the first time.
    fn ping_first(&mut self, key: SessionKey) -> Result<(), CloseReason> {
        let now_us = us(self.now);
        let session = self.slab.get_mut(key);
        let Some(session) = session.filter(|session| !session.is_closing()) else {
            return Ok(());
        };
        session.pinged_us = now_us;
        session.pinged = Pinged::AwaitsPong;
        *self.awaiting_pong.group(key.index) |= awaiting_pong::bit(key.index);
        self.parts.metrics.pings.add_alone(1);
        let check_at = self.now + self.parts.config.ping_timeout;
        self.first_pings.check(check_at, key);
        let ping = session.dialect.ping(nonce(&self.tag, key, now_us));
        self.send(key, ping.as_ref())
    }

    /// Pings the sessions from `next` to `end`; `next` is behind the one that is being pinged.
    fn ping_some(&mut self, next: &mut u32, end: u32) {
        let moment = self.moment();
        let mut pings = 0;
        let awaiting = self.awaiting_pong.group(*next);
        for (key, session) in self.slab.run(*next, end - *next) {
            *next = key.index + 1;
            if session.is_closing() {
                continue;
            }
            session.bucket.renew(moment.us);
            if session.ends_at <= moment.horizon {
                self.expiring.look(key, session.term(), moment.wall);
            }
            let bit = awaiting_pong::bit(key.index);
            if *awaiting & bit != 0 || session.pinged == Pinged::NotYet {
                continue;
            }
            *awaiting |= bit;
            session.pinged_us = moment.us;
            session.pinged = Pinged::AwaitsPong;
            pings += 1;
            let ping = session.dialect.ping(nonce(&self.tag, key, moment.us));
            let mut ping = ping.as_ref();
            if let Some(records) = self.records.get_mut(key.index) {
                self.sealed.clear();
                if records.seal(ping, &mut self.sealed).is_err() {
                    // What was sealed says that this is the end. Behind other things it would come too late.
                    if !(session.has_buffers && self.buffers.has_outbox(key.index)) {
                        let _ = session.write(&self.sealed);
                    }
                    self.odd.push((key, Err(CloseReason::Disconnected)));
                    continue;
                }
                ping = &self.sealed;
            }
            // Behind what waits. A client that does not read it can't answer in time.
            let waits = session.has_buffers && self.buffers.has_outbox(key.index);
            let written = if waits { Ok(0) } else { session.write(ping) };
            match written {
                Ok(written) if written == ping.len() => {}
                Ok(written) => self.odd.push((key, Ok(ping[written..].to_vec()))),
                Err(end) => self.odd.push((key, Err(end))),
            }
        }
        self.sealed.clear();
        *next = end;
        self.parts.metrics.pings.add_alone(pings);
    }

    /// Ends the sessions of a group that have sent no frame in time after a ping.
    fn check_pongs(&mut self, group: u32) {
        let moment = self.moment();
        let mut awaiting = *self.awaiting_pong.group(group);
        while awaiting != 0 {
            let index = group + awaiting.trailing_zeros();
            awaiting &= awaiting - 1;
            if let Some((key, session)) = self.slab.at(index)
                && !session.is_closing()
                && moment.us.wrapping_sub(session.pinged_us) >= moment.patience_us
            {
                self.end(key, CloseReason::PongTimeout);
            }
        }
    }

    /// Ends the sessions that have begun a record, a frame or a message for too long.
    fn end_overdue(&mut self) {
        while let Some(index) = self.buffers.overdue(self.now) {
            match self.slab.at(index) {
                Some((key, _)) => self.end(key, CloseReason::MessageTimeout),
                // There are none of a session that is gone.
                None => drop(self.buffers.take(index)),
            }
        }
    }

    fn moment(&self) -> Moment {
        // A ping may be sent late in its turn of the wheel, by at most one turn.
        let timeout = self.parts.config.ping_timeout;
        let wall = self.wall();
        Moment {
            us: us(self.now),
            horizon: self.expiring.horizon(wall),
            wall,
            patience_us: us(timeout - WHEEL_CATCH_UP.min(timeout / 2)),
        }
    }
}

/// This moment, as sessions keep their times.
#[derive(Clone, Copy)]
struct Moment {
    us: u32,
    /// Of sessions that end later, nothing is due before the next ping.
    horizon: Quarters,
    /// By the wall clock.
    wall: Duration,
    /// How long a session may take to send something after a ping.
    patience_us: u32,
}

/// What a ping bears.
pub(super) fn nonce(tag: &FixedState, key: SessionKey, pinged_us: u32) -> Nonce {
    let tag = tag.hash_one((key.to_usize() as u128) << 32 | u128::from(pinged_us)) as u32;
    (u64::from(pinged_us) << 32 | u64::from(tag)).to_be_bytes()
}
