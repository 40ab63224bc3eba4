//! An edge that is asked for everyone, again and again, and what it said of users who are here.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use presenced_testkit::client::Client;
use presenced_testkit::until;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::users::Users;

/// Time between an answer and the next question.
const PAUSE: Duration = Duration::from_millis(10);
/// Until a node is trusted: a TTL and a flush interval after the last loss, and a slow machine.
const TRUST: Duration = Duration::from_secs(90);
/// Never has a session.
const NOBODY: &str = "nobody";

/// The longest that any user was in a state, and how often one came into it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spells {
    pub(crate) longest: Duration,
    pub(crate) count: usize,
    since: HashMap<String, Instant>,
}

impl Spells {
    /// `user` was in the state, or not, by an answer that came `now`.
    fn see(&mut self, user: &str, is_in: bool, now: Instant) {
        match self.since.get(user) {
            None if is_in => {
                self.since.insert(user.to_owned(), now);
                self.count += 1;
            }
            Some(since) => {
                self.longest = self.longest.max(now - *since);
                if !is_in {
                    self.since.remove(user);
                }
            }
            None => {}
        }
    }

    fn or(&self, other: &Spells) -> Spells {
        Spells {
            longest: self.longest.max(other.longest),
            count: self.count + other.count,
            since: HashMap::new(),
        }
    }
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) offline: Spells,
    pub(crate) unknown: Spells,
    /// Answers in all.
    pub(crate) answers: u64,
    /// Whether the last one said that [`NOBODY`] is offline: misses are believed.
    believes_misses: bool,
}

impl Seen {
    pub(crate) fn or(&self, other: &Seen) -> Seen {
        Seen {
            offline: self.offline.or(&other.offline),
            unknown: self.unknown.or(&other.unknown),
            answers: self.answers + other.answers,
            believes_misses: self.believes_misses && other.believes_misses,
        }
    }
}

/// Asks until it is dropped.
pub(crate) struct Asker {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Asker {
    /// Of all `users`, at `edge`, from now on.
    pub(crate) fn start(users: Users, edge: SocketAddr) -> Asker {
        Asker::start_every(PAUSE, users, edge)
    }

    /// The same with a `pause` between an answer and the next question.
    pub(crate) fn start_every(pause: Duration, users: Users, edge: SocketAddr) -> Asker {
        let seen = Arc::<Mutex<Seen>>::default();
        let task = tokio::spawn(ask(pause, users, edge, seen.clone()));
        Asker { seen, task }
    }

    /// Waits until a user who never was is offline: misses are believed again.
    pub(crate) async fn believes_misses(&self) {
        until("a user who never was is offline", TRUST, async || {
            assert!(!self.task.is_finished(), "the asker has failed");
            self.seen.lock().unwrap().believes_misses
        })
        .await;
    }

    /// Asks no more.
    pub(crate) fn stop(&self) {
        self.task.abort();
    }

    /// What was seen until now; from here on it is counted anew.
    pub(crate) fn take(&self) -> Seen {
        assert!(!self.task.is_finished(), "the asker has failed");
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn ask(pause: Duration, users: Users, edge: SocketAddr, seen: Arc<Mutex<Seen>>) {
    let mut asker = Client::connect(edge, "asker").await;
    loop {
        let before = users.settled();
        let all = users.names();
        let mut names: Vec<_> = all.iter().map(String::as_str).collect();
        names.push(NOBODY);
        let answer = asker.pull(&names).await;
        let now = Instant::now();
        let after = users.settled();
        let is_online = |user: &str| answer["online"].get(user).is_some();
        let unknown: Vec<_> = answer["unknown"].as_array().into_iter().flatten().collect();
        let is_unknown = |user: &str| unknown.iter().any(|name| *name == user);
        {
            let mut seen = seen.lock().unwrap();
            for user in &all {
                let is_judged = before.contains(user) && after.contains(user);
                let (online, unknown) = (is_online(user), is_unknown(user));
                let is_offline = is_judged && !online && !unknown;
                seen.offline.see(user, is_offline, now);
                seen.unknown.see(user, is_judged && unknown, now);
            }
            seen.answers += 1;
            seen.believes_misses = !is_online(NOBODY) && !is_unknown(NOBODY);
        }
        sleep(pause).await;
    }
}
