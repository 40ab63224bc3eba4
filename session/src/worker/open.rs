//! How sessions begin.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use mio::Interest;
use mio::unix::SourceFd;
use presenced_tasks::{Task, caught};

use super::{NewSession, Pinged, Session, Worker};
use crate::close_reason::CloseReason;
use crate::connection::{Connection, Tls};
use crate::dialect::Dialect;
use crate::expiry::{Quarters, Stage};
use crate::rate_limit::{TokenBucket, us};
use crate::relay::{Carrier, Relay};
use crate::service::{Replies, Service};
use crate::slab::SessionKey;
use crate::transport::Transport;
use crate::wheel::CHUNK;

impl<S: Service, T: Transport, R: Relay<T>> Worker<S, T, R> {
    /// Begins a session at the time `now`; it may have ended when this returns.
    pub fn open(
        &mut self,
        new: NewSession<S::Peer, S::Dialect, T, R>,
        now: Duration,
    ) -> SessionKey {
        self.now = now;
        let (key, dialect) = (self.slab.vacant(), new.dialect);
        let id = self.id(key);
        let mut replies = Replies::new(dialect, &mut self.out);
        let opened = caught(Task::Open, || {
            self.service.opened(new.peer, id, &mut replies)
        });
        let Some(opened) = opened else {
            self.slab.burn(key);
            self.guarded(Task::Open, |worker| worker.turn_away(new.socket, dialect));
            return key;
        };
        let waits = dialect.first_ping_waits();
        let (socket, tls) = match new.socket {
            Carrier::Connection(Connection { transport, tls }) => (Some(transport), tls),
            Carrier::Relay(relay) => {
                self.relays.insert(key.index, relay);
                (None, None)
            }
        };
        let session = Session {
            socket,
            handle: opened.handle,
            dialect,
            pinged_us: 0,
            ends_at: Quarters::not_before(new.expires_at),
            bucket: TokenBucket::full(us(now)),
            stage: Stage::Unwarned,
            has_buffers: false,
            pinged: match waits {
                true => Pinged::NotYet,
                false => Pinged::Answered,
            },
        };
        self.slab.fill(key, session);
        new.seat.hand_over();
        self.wheel.grow(self.slab.chunks());
        self.awaiting_pong.grow(self.slab.chunks() * CHUNK);
        self.awaiting_pong.clear(key.index);
        if waits {
            let at = now + self.parts.config.ping_interval;
            self.first_pings.add(at, key);
        }
        self.parts.metrics.sessions.add_alone(1);
        let begun = self.guarded(Task::Open, |worker| worker.begin(key, tls, new.read_ahead));
        if let Err(end) = begun.unwrap_or(Err(CloseReason::Internal)) {
            self.end(key, end);
        }
        // Only now: what the new session is told must not reach the one that it replaces.
        if let Some(oldest) = opened.replaced {
            self.replace(oldest);
        }
        key
    }

    /// What is said first comes before the answers to what was read ahead.
    fn begin(
        &mut self,
        key: SessionKey,
        tls: Option<Tls>,
        read_ahead: Bytes,
    ) -> Result<(), CloseReason> {
        let kept = self.take_up(key, tls);
        self.register(key).map_err(|error| {
            tracing::error!(%error, "a session can't be polled");
            CloseReason::Internal
        })?;
        kept?;
        self.begin_term(key)?;
        self.reply(key)?;
        if read_ahead.is_empty() {
            return Ok(());
        }
        self.receive_frames(key, &mut Vec::from(read_ahead), self.now)
    }

    /// Takes up TLS, if a session's client speaks it, before anything is said. Fails if it has come to its end, or there is
    /// no memory for what has come of a record.
    pub(super) fn take_up(&mut self, key: SessionKey, tls: Option<Tls>) -> Result<(), CloseReason> {
        let Some(Tls { records, partial }) = tls else {
            return Ok(());
        };
        // Its client has said that it will say no more.
        let has_ended = records.end().is_some();
        self.records.put(key.index, records);
        if has_ended {
            return Err(CloseReason::Disconnected);
        }
        self.keep_record(key, partial, self.now)
    }

    /// Ends a connection that the service has failed to make a session of.
    fn turn_away(&mut self, carrier: Carrier<T, R>, dialect: S::Dialect) {
        self.parts.metrics.ends[CloseReason::Internal as usize].add_alone(1);
        let mut close = Vec::new();
        dialect.close(&mut close, CloseReason::Internal);
        // A new socket takes so few bytes at once; if not, it is closed without a word.
        match carrier {
            Carrier::Connection(Connection { mut transport, tls }) => {
                if let Some(Tls { mut records, .. }) = tls {
                    let frame = std::mem::take(&mut close);
                    // It is new, so its key is not used up.
                    let _ = records.seal(&frame, &mut close);
                    records.close(&mut close);
                }
                let _ = transport.write(&close);
                transport.finish();
            }
            Carrier::Relay(mut relay) => {
                let _ = relay.write(&close);
            }
        }
        self.out.clear();
    }

    pub(super) fn register(&mut self, key: SessionKey) -> io::Result<()> {
        let session = self.slab.get_mut(key);
        let socket = session.and_then(|session| session.socket.as_ref());
        let Some(fd) = socket.and_then(Transport::descriptor) else {
            return Ok(());
        };
        let (mut source, name) = (SourceFd(&fd), mio::Token(key.to_usize()));
        let registry = self.poll.registry();
        registry.register(&mut source, name, Interest::READABLE)
    }
}
