//! What is logged of a session when it ends: its user, where it came from, how long it was.

use std::net::IpAddr;
use std::time::Duration;

use hashbrown::HashMap;
use presenced_presence::flush::Presence;
use presenced_presence::{SessionId, Slot};
use presenced_session::close_reason::CloseReason;
use presenced_session::slab::SessionKey;
use tracing::field::display;
use tracing::{Level, enabled};

use crate::gateway::caller::Caller;
use crate::gateway::user_names::UserNames;

/// How the sessions of a worker began. It is kept only while ends of sessions are logged at debug,
/// as a session takes no more memory than it must.
#[derive(Debug, Default)]
pub(super) struct SessionLog {
    began: HashMap<SessionKey, Began>,
    names: UserNames,
}

#[derive(Clone, Copy, Debug)]
struct Began {
    caller: Caller,
    /// By the clock.
    at: Duration,
}

/// A line of the log, which is written once the session has ended.
#[derive(Debug)]
pub(super) struct EndLine {
    user: Option<String>,
    address: Option<IpAddr>,
    duration: Option<Duration>,
    socket_id: String,
    end: CloseReason,
}

impl SessionLog {
    /// Names users as `names` does.
    pub(super) fn new(names: UserNames) -> SessionLog {
        SessionLog {
            names,
            ..SessionLog::default()
        }
    }

    /// A session begins.
    pub(super) fn opened(&mut self, session: SessionId, caller: Caller, at: Duration) {
        if enabled!(Level::DEBUG) {
            self.began.insert(session.key, Began { caller, at });
        }
    }

    /// The line of a session that may end now, if the log has one for it. The user, if there is one, must not
    /// have left the directory yet.
    pub(super) fn line(
        &self,
        presence: &Presence,
        slot: Option<Slot>,
        session: SessionId,
        end: CloseReason,
    ) -> Option<EndLine> {
        let is_logged = match end.facts().level {
            Level::ERROR => enabled!(Level::ERROR),
            _ => enabled!(Level::DEBUG),
        };
        let began = self.began.get(&session.key);
        let user = slot
            .filter(|_| is_logged)
            .and_then(|slot| presence.users().user(slot));
        is_logged.then(|| EndLine {
            user: user.map(|user| self.names.name(user.as_str()).into_owned()),
            address: began.map(|began| began.caller.0),
            duration: began.map(|began| presence.clock().now().saturating_sub(began.at)),
            socket_id: presence.record().socket_id(session),
            end,
        })
    }

    /// Where a session's client is, if the log has it.
    pub(super) fn caller(&self, key: SessionKey) -> Option<Caller> {
        self.began.get(&key).map(|began| began.caller)
    }

    /// A session has ended.
    pub(super) fn closed(&mut self, session: SessionId) {
        self.began.remove(&session.key);
    }
}

impl EndLine {
    /// Writes it.
    #[expect(non_snake_case, reason = "the name that it has in the user's value")]
    pub(super) fn log(self) {
        let facts = self.end.facts();
        let user = self.user.as_deref();
        let address = self.address.map(display);
        let duration_ms = self.duration.map(|duration| duration.as_millis() as u64);
        let (socketId, reason) = (self.socket_id, facts.label);
        // The level of an event has to be known to the compiler.
        macro_rules! log {
            ($level:expr) => {
                tracing::event!(
                    $level,
                    user,
                    address,
                    duration_ms,
                    socketId,
                    reason,
                    "session ended"
                )
            };
        }
        match facts.level {
            Level::ERROR => log!(Level::ERROR),
            _ => log!(Level::DEBUG),
        }
    }
}
