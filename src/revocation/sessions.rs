//! Ends the sessions of users whose tokens are revoked.
//!
//! A session remembers nothing of its token. So all sessions of a user are ended that are open when
//! a revocation becomes known here; those with a token that is still good come back with it. A
//! session whose token was looked at before, and which has opened since, looks once more
//! ([`RevokedSessions::end_late`]): the directory of users has it only then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use presenced_presence::SessionId;
use presenced_presence::flush::Presence;
use presenced_session::close_reason::CloseReason;
use presenced_session::worker::WorkerCommand;
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep};

use crate::limits::REVOKED_SESSIONS_LOOK;
use crate::tokens::Tokens;

/// Sessions that are to end.
#[derive(Debug)]
pub struct RevokedSessions {
    presence: Arc<Presence>,
    /// Time over which everybody's sessions are ended.
    over: Duration,
    due: Mutex<Due>,
    came: Notify,
}

#[derive(Debug, Default)]
struct Due {
    /// At once.
    now: Vec<SessionId>,
    /// Everybody's, evenly over a time.
    all: Vec<SessionId>,
    /// How many `all` were, and since when.
    count: usize,
    since: Option<Instant>,
}

impl RevokedSessions {
    /// Of the users of `presence`; everybody's are ended over the time `over`.
    pub fn new(presence: Arc<Presence>, over: Duration) -> RevokedSessions {
        RevokedSessions {
            presence,
            over,
            due: Mutex::default(),
            came: Notify::new(),
        }
    }

    /// Ends the sessions here of the users of these tokens. Returns how many there are.
    pub fn end(&self, tokens: &Tokens) -> usize {
        let users = self.presence.users();
        let count = match tokens {
            Tokens::OfUser(user) | Tokens::One(user, _) => {
                let sessions = users.sessions_of(user);
                let count = sessions.len();
                self.due().now.extend(sessions);
                count
            }
            Tokens::All => {
                let sessions = users.sessions();
                let count = sessions.len();
                let mut due = self.due();
                // Those of an earlier revocation that are still there are among them.
                (due.all, due.count, due.since) = (sessions, count, Some(Instant::now()));
                count
            }
        };
        self.came.notify_one();
        count
    }

    /// Ends a session that has just opened with a token that was revoked meanwhile.
    pub fn end_late(&self, session: SessionId) {
        self.due().now.push(session);
        self.came.notify_one();
    }

    /// Tells `workers` which sessions to end; never returns.
    pub async fn run(self: Arc<Self>, workers: Vec<Sender<WorkerCommand>>) {
        loop {
            for session in self.take_due() {
                if let Some(worker) = workers.get(usize::from(session.worker)) {
                    let end = WorkerCommand::End(session.key, CloseReason::TokenRevoked);
                    // A worker that is gone has no sessions.
                    let _ = worker.send(end).await;
                }
            }
            let is_idle = self.due().all.is_empty();
            tokio::select! {
                biased;
                () = self.came.notified() => {}
                () = sleep(REVOKED_SESSIONS_LOOK), if !is_idle => {}
            }
        }
    }

    fn take_due(&self) -> Vec<SessionId> {
        let mut due = self.due();
        let passed = due.since.map(|since| since.elapsed()).unwrap_or_default();
        let left = left(due.count, passed, self.over);
        let from = left.min(due.all.len());
        let mut sessions = due.all.split_off(from);
        sessions.append(&mut due.now);
        if due.all.is_empty() {
            due.all = Vec::new();
        }
        sessions
    }

    fn due(&self) -> MutexGuard<'_, Due> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many of `count` may stay when a part of the time has passed.
fn left(count: usize, passed: Duration, over: Duration) -> usize {
    let share = passed.as_secs_f64() / over.as_secs_f64().max(f64::EPSILON);
    (count as f64 * (1.0 - share.min(1.0))) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_ended_evenly_over_the_time() {
        let over = Duration::from_secs(10);
        assert_eq!(left(1000, Duration::ZERO, over), 1000);
        assert_eq!(left(1000, over / 4, over), 750);
        assert_eq!(left(1000, over, over), 0);
        assert_eq!(left(1000, 2 * over, over), 0);
        assert_eq!(left(3, Duration::from_nanos(1), Duration::ZERO), 0);
        assert_eq!(left(0, Duration::ZERO, over), 0);
    }
}
