//! The drain: sessions are closed evenly over its time.

use presenced_tasks::{Task, caught};

use super::Worker;
use crate::close_reason::CloseReason;
use crate::limits::CLOSE_TIMEOUT;
use crate::relay::Relay;
use crate::service::Service;
use crate::transport::Transport;
use crate::wheel::{CHUNK, scattered};

impl<S: Service, T: Transport, R: Relay<T>> Worker<S, T, R> {
    /// Closes as many sessions as the drain is due, but for those that may not be closed yet.
    pub(super) fn drain_some(&mut self) {
        let now = self.now;
        let Some(drain) = &mut self.drain else {
            return;
        };
        let passed = now.saturating_sub(drain.since);
        let share = passed.as_secs_f64() / drain.over.as_secs_f64().max(f64::EPSILON);
        let mut due = std::mem::take(&mut drain.due);
        let mut from = drain.step;
        if share >= 1.0 {
            // At the end once more from the first: sessions may have come since into freed entries.
            from = 0;
            due.clear();
        }
        let to = (f64::from(CHUNK) * share.min(1.0)) as u32;
        drain.step = to;
        for step in from..to {
            for chunk in 0..self.slab.chunks() {
                let index = chunk * CHUNK + scattered(step, CHUNK);
                due.extend(self.slab.at(index).map(|(key, _)| key));
            }
        }
        due.retain(|&key| {
            let session = self
                .slab
                .get_mut(key)
                .filter(|session| !session.is_closing());
            let Some(handle) = session.map(|session| session.handle) else {
                return false;
            };
            let id = self.id(key);
            // One whose service fails at it has no more to be waited for.
            let is_closed = caught(Task::Session, || self.service.try_close(handle, id));
            let is_closed = is_closed.unwrap_or(true);
            if is_closed {
                self.part(key, CloseReason::Restart);
            }
            !is_closed
        });
        if let Some(drain) = &mut self.drain {
            drain.due = due;
        }
    }

    /// Whether the time of the drain is up and no session is left, on any worker or on its way to
    /// one. The last may take as long as the answer to a close frame may.
    pub(super) fn is_drained(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| {
            let passed = self.now.saturating_sub(drain.since);
            let is_overdue = passed >= drain.over + drain.grace + CLOSE_TIMEOUT;
            is_overdue || passed >= drain.over && self.parts.seats.taken() == 0
        })
    }
}
