//! The end of sessions whose time is over, and the word that it will be soon.

use std::time::Duration;

use presenced_tasks::Task;

use super::{Session, Worker};
use crate::clock::WallStep;
use crate::close_reason::CloseReason;
use crate::expiry::{Quarters, Stage, Term};
use crate::limits::{EXPIRIES_PER_TICK, EXPIRY_LAG_MAX};
use crate::relay::Relay;
use crate::service::{Replies, Service};
use crate::slab::SessionKey;
use crate::transport::Transport;
use crate::wheel::CHUNK;

impl<S: Service, T: Transport, R: Relay<T>> Worker<S, T, R> {
    /// The wall clock, which tokens go by, may have been set. Until this is called for the first
    /// time, it never was.
    pub fn set_wall(&mut self, step: WallStep) {
        self.wall_step = step;
    }

    pub(super) fn wall(&self) -> Duration {
        self.wall_step.wall(self.now)
    }

    /// Ends the sessions whose time is over, and tells those that it will be soon.
    pub(super) fn expire(&mut self) {
        let wall = self.wall();
        // By a wall clock that was set ahead, the wheel is behind as well.
        let behind = self.wheel.behind() + self.wall_step.ahead();
        // It was set back: what it gains from now on counts.
        self.looked_behind = self.looked_behind.min(behind);
        if behind - self.looked_behind > EXPIRY_LAG_MAX {
            self.looked_behind = behind;
            self.look_at_all();
        }
        for _ in 0..EXPIRIES_PER_TICK {
            let Some(key) = self.expiring.take(wall) else {
                break;
            };
            let warned = self.guarded(Task::Session, |worker| {
                worker.warn(key)?;
                worker.reply(key)
            });
            if let Err(end) = warned.unwrap_or(Err(CloseReason::Internal)) {
                self.end(key, end);
            }
        }
    }

    /// The wheel comes to some sessions later than it should have.
    fn look_at_all(&mut self) {
        let wall = self.wall();
        let horizon = self.expiring.horizon(wall);
        for chunk in 0..self.slab.chunks() {
            for (key, session) in self.slab.run(chunk * CHUNK, CHUNK) {
                if session.ends_at <= horizon {
                    self.expiring.look(key, session.term(), wall);
                }
            }
        }
    }

    /// The first look at a session. What its client is told is left to be sent.
    pub(super) fn begin_term(&mut self, key: SessionKey) -> Result<(), CloseReason> {
        let wall = self.wall();
        let Some(session) = self.slab.get_mut(key) else {
            return Ok(());
        };
        if self.expiring.is_due(key, session.term(), wall) {
            return self.warn(key);
        }
        self.expiring.look(key, session.term(), wall);
        Ok(())
    }

    /// A session has a new end, by which its client is told as if it began now. What it is told is
    /// left to be sent.
    pub(super) fn begin_anew(
        &mut self,
        key: SessionKey,
        expires_at: Duration,
    ) -> Result<(), CloseReason> {
        if let Some(session) = self.slab.get_mut(key) {
            self.expiring.forget(key, session.term());
            session.ends_at = Quarters::not_before(expires_at);
            session.stage = Stage::Unwarned;
        }
        self.begin_term(key)
    }

    /// Tells a client that the time of its session is over soon; the word is left to be sent. Fails
    /// if the time is over already.
    fn warn(&mut self, key: SessionKey) -> Result<(), CloseReason> {
        let wall = self.wall();
        let Some(session) = self.slab.get_mut(key) else {
            return Ok(());
        };
        if session.ends_at <= Quarters::come(wall) {
            return Err(CloseReason::TokenExpired);
        }
        session.stage = Stage::Warned;
        self.expiring.look(key, session.term(), wall);
        let left = session.ends_at.since(wall);
        let (handle, dialect) = (session.handle, session.dialect);
        let mut replies = Replies::new(dialect, &mut self.out);
        self.service.expiring(key, handle, left, &mut replies);
        Ok(())
    }
}

impl<H, D, T> Session<H, D, T> {
    #[inline]
    pub(super) fn is_closing(&self) -> bool {
        self.stage == Stage::Closing
    }

    pub(super) fn term(&self) -> Term {
        Term {
            ends_at: self.ends_at,
            stage: self.stage,
        }
    }
}
