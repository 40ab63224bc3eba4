//! How sessions end (RFC 6455 §7): the close frame, if the reason has one, the end of TLS, and a
//! bounded wait for the answer.

use presenced_tasks::{Task, caught};

use super::Worker;
use crate::close_reason::CloseReason;
use crate::dialect::Dialect;
use crate::expiry::Stage;
use crate::limits::CLOSE_TIMEOUT;
use crate::relay::Relay;
use crate::service::{Replies, Service};
use crate::slab::SessionKey;
use crate::transport::Transport;

impl<S: Service, T: Transport, R: Relay<T>> Worker<S, T, R> {
    /// Ends a session: the close frame, if its reason has one, and a moment for the answer.
    pub fn end(&mut self, key: SessionKey, end: CloseReason) {
        let Some(session) = self.slab.get_mut(key) else {
            return;
        };
        if session.is_closing() {
            // It only waited for the peer's end of it.
            return self.remove(key);
        }
        let (handle, dialect) = (session.handle, session.dialect);
        let id = self.id(key);
        let done = caught(Task::Session, || {
            let mut replies = Replies::new(dialect, &mut self.out);
            self.service.last_words(key, end, &mut replies);
            self.service.log_end(handle, id, end);
            self.service.closed(handle, id);
        });
        if done.is_none() {
            // Half of what was to be said may be there.
            self.out.clear();
        }
        self.part(key, end);
    }

    /// Says goodbye to a session that the service has closed. A fault met there costs the goodbye.
    pub(super) fn part(&mut self, key: SessionKey, end: CloseReason) {
        if self
            .guarded(Task::Session, |worker| worker.ended(key, end))
            .is_none()
        {
            self.remove(key);
        }
    }

    /// What is left to do when the service has closed the session.
    fn ended(&mut self, key: SessionKey, end: CloseReason) {
        let Some(session) = self.slab.get_mut(key) else {
            return;
        };
        self.expiring.forget(key, session.term());
        session.stage = Stage::Closing;
        let dialect = session.dialect;
        self.parts.metrics.ends[end as usize].add_alone(1);
        if end == CloseReason::PongTimeout {
            self.parts.metrics.missed_pongs.add_alone(1);
        }
        let is_over = match end {
            CloseReason::Disconnected | CloseReason::SlowConsumer => true,
            // Nobody waits for an answer to that but on a connection.
            CloseReason::Closed => session.socket.is_none(),
            _ => false,
        };
        if is_over {
            // Nothing that was to be said to it may reach another.
            self.out.clear();
            return self.remove(key);
        }
        dialect.close(&mut self.out, end);
        let told = self.reply(key).and_then(|()| self.close_records(key));
        if told.is_err() {
            return self.remove(key);
        }
        if let Some(session) = self.slab.get_mut(key)
            && !self.buffers.keep_outbox(key.index)
        {
            session.has_buffers = false;
            // §7.1.1: the server's end of TCP is closed first; the peer's end follows or times out.
            session.finish();
            if let Some(relay) = self.relays.get_mut(&key.index) {
                relay.finish(end);
            }
        }
        self.closing.push_back((self.now + CLOSE_TIMEOUT, key));
    }

    pub(super) fn remove(&mut self, key: SessionKey) {
        if let Some(session) = self.slab.remove(key) {
            self.expiring.forget(key, session.term());
            self.relays.remove(&key.index);
            self.records.remove(key.index);
            self.buffers.take(key.index);
            self.parts.seats.free();
        }
    }
}
