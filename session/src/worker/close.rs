//! How sessions end (RFC 6455 §7): the close frame, if the reason has one, and a bounded wait for
//! its answer.

use presenced_tasks::{Task, caught};

use super::Worker;
use crate::close_reason::CloseReason;
use crate::dialect::Dialect;
use crate::expiry::Stage;
use crate::limits::CLOSE_TIMEOUT;
use crate::service::Service;
use crate::slab::SessionKey;
use crate::transport::Transport;

impl<S: Service, T: Transport> Worker<S, T> {
    /// Ends a session: the close frame, if its reason has one, and a moment for the answer.
    pub fn end(&mut self, key: SessionKey, end: CloseReason) {
        let Some(session) = self.slab.get_mut(key) else {
            return;
        };
        if session.is_closing() {
            // It only waited for the peer's end of it.
            return self.remove(key);
        }
        let handle = session.handle;
        let id = self.id(key);
        caught(Task::Session, || {
            self.service.log_end(handle, id, end);
            self.service.closed(handle, id);
        });
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
        if matches!(end, CloseReason::Disconnected | CloseReason::SlowConsumer) {
            // Nothing that was to be said to it may reach another.
            self.out.clear();
            return self.remove(key);
        }
        dialect.close(&mut self.out, end);
        if self.reply(key).is_err() {
            return self.remove(key);
        }
        if let Some(session) = self.slab.get_mut(key)
            && !self.buffers.keep_outbox(key.index)
        {
            session.has_buffers = false;
            // §7.1.1: the server's end of TCP is closed first; the peer's end follows or times out.
            session.socket.finish();
        }
        self.closing.push_back((self.now + CLOSE_TIMEOUT, key));
    }

    pub(super) fn remove(&mut self, key: SessionKey) {
        if let Some(session) = self.slab.remove(key) {
            self.expiring.forget(key, session.term());
            self.buffers.take(key.index);
            self.parts.seats.free();
        }
    }
}
