//! Users with sessions: which of them a reader must find, and since when.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use presenced_testkit::client::Client;
use tokio::time::{Instant, sleep};

/// A session must be this old before its user counts.
const SETTLED: Duration = Duration::from_secs(1);

/// Everyone who has a session somewhere.
#[derive(Clone, Default)]
pub(crate) struct Users(Arc<Mutex<HashMap<String, Vec<Session>>>>);

struct Session {
    client: Client,
    edge: SocketAddr,
    since: Instant,
}

impl Users {
    /// `count` users, each with a session at `edge`.
    pub(crate) async fn gather(count: usize, edge: SocketAddr) -> Users {
        let users = Users::default();
        for number in 0..count {
            users.connect(&format!("u{number}"), edge).await;
        }
        users
    }

    /// One more session of `user`.
    pub(crate) async fn connect(&self, user: &str, edge: SocketAddr) {
        let client = Client::connect(edge, user).await;
        let since = Instant::now();
        let session = Session {
            client,
            edge,
            since,
        };
        let mut users = self.0.lock().unwrap();
        users.entry(user.to_owned()).or_default().push(session);
    }

    /// Ends the session of `user` at `edge`, as a client does that leaves.
    pub(crate) async fn leave(&self, user: &str, edge: SocketAddr) {
        let left = {
            let mut users = self.0.lock().unwrap();
            let sessions = users.get_mut(user).unwrap();
            let which = sessions.iter().position(|session| session.edge == edge);
            sessions.remove(which.expect("a session there"))
        };
        left.client.close().await;
    }

    /// All names.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().keys().cloned().collect()
    }

    /// Those of whom a reader who asks now must not be told that they are offline.
    pub(crate) fn settled(&self) -> Vec<String> {
        let users = self.0.lock().unwrap();
        let is_settled =
            |session: &Session| session.client.is_open() && session.since.elapsed() > SETTLED;
        let settled = users
            .iter()
            .filter(|(_, sessions)| sessions.iter().any(is_settled));
        settled.map(|(user, _)| user.clone()).collect()
    }

    /// How many have an open session.
    pub(crate) fn open(&self) -> usize {
        let users = self.0.lock().unwrap();
        let is_open = |session: &Session| session.client.is_open();
        users
            .values()
            .filter(|sessions| sessions.iter().any(is_open))
            .count()
    }

    /// Whoever loses a session connects at `edge`, until the task is dropped.
    pub(crate) async fn come_back_to(self, edge: SocketAddr) {
        loop {
            let without = {
                let mut users = self.0.lock().unwrap();
                let mut without = Vec::new();
                for (user, sessions) in users.iter_mut() {
                    sessions.retain(|session| session.client.is_open());
                    if sessions.is_empty() {
                        without.push(user.clone());
                    }
                }
                without
            };
            for user in without {
                self.connect(&user, edge).await;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
}
