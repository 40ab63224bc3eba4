//! What is in a memcached, read by a client that is not ours; and its process, stopped.

use async_memcached::{AsciiProtocol, Client};
use presenced_memcached::marker::{self, Marker};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::Value;

use crate::memcached::{At, Memcached, key};
use crate::{PATIENCE, unix_ms, until};

/// What memcached has for a key.
#[derive(Debug)]
pub struct Entry {
    /// As it is stored.
    pub text: String,
    /// As JSON.
    pub json: Value,
    /// memcached's flags.
    pub flags: u32,
}

impl Memcached {
    /// Makes the marker whole that the edges have put there, as one does that has seen it for long enough:
    /// from then on users who are not found are offline.
    pub async fn make_whole(&self) {
        self.make_whole_of("user:{userId}:online").await;
    }

    /// The same where entries have keys after another `template`.
    pub async fn make_whole_of(&self, template: &str) {
        let key = marker::key(template);
        until("the marker is whole", PATIENCE, async || {
            let found = self.try_lines(&format!("get {key}"), 2).await;
            let value = found.as_ref().and_then(|lines| lines.get(1));
            let Some(marker) = value.and_then(|value| Marker::parse(value.as_bytes())) else {
                return false;
            };
            if !marker.is_whole {
                let proof = marker.proof();
                let append = format!("append {key} 0 0 {}\r\n{proof}", proof.len());
                self.try_ask(&append).await;
            }
            marker.is_whole
        })
        .await;
    }

    /// Stops it without ending it: connections stay open and no one answers.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        // Its threads stop one after another.
        let stopped = waitpid(Some(Pid::from_child(&self.process)), WaitOptions::UNTRACED);
        assert!(stopped.unwrap().unwrap().1.stopped());
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends it in order, so that with `-e` it can start again with all that it had.
    pub async fn end_in_order(&mut self) {
        self.signal(Signal::USR1);
        until("memcached ends", PATIENCE, async || {
            self.process.try_wait().unwrap().is_some()
        })
        .await;
        // It takes what it finds for that of another clock if it is started in the same second.
        let ended_s = unix_ms() / 1000;
        until("the next second", PATIENCE, async || {
            unix_ms() / 1000 > ended_s
        })
        .await;
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// A client that is not ours.
    pub async fn client(&self) -> Client {
        let address = match &self.at {
            At::Socket(path) => format!("unix://{}", path.display()),
            At::Tcp(_) | At::Beyond(_) => format!("tcp://{}", self.at.address()),
        };
        Client::new(address).await.unwrap()
    }

    /// The entry under `key`, by the client that is not ours.
    pub async fn entry(&self, key: &str) -> Option<Entry> {
        let value = self.client().await.get(key).await.unwrap()?;
        let text = String::from_utf8(value.data.unwrap()).unwrap();
        Some(Entry {
            json: serde_json::from_str(&text).unwrap_or_default(),
            flags: value.flags.unwrap(),
            text,
        })
    }

    /// Whether `user` has an entry.
    pub async fn is_online(&self, user: &str) -> bool {
        self.entry(&key(user)).await.is_some()
    }

    /// How many of `users` have one.
    pub async fn count_online(&self, users: &[String]) -> usize {
        let keys = users.iter().map(|user| key(user));
        let found = self.client().await.get_multi(keys).await;
        // Nothing at all is an error to this client.
        found.map_or(0, |found| found.len())
    }

    /// The same of more users than one command can ask for. A node that is away has none.
    pub async fn count_online_of_many(&self, users: &[String]) -> usize {
        let mut count = 0;
        for users in users.chunks(1000) {
            count += self.count_online(users).await;
        }
        count
    }

    /// Puts any value under a key.
    pub async fn put(&self, key: &str, value: &str) {
        let mut client = self.client().await;
        client.set(key, value, None, None).await.unwrap();
    }

    /// Gives each of `users` the same entry.
    pub async fn put_all(&self, users: &[String], value: &str) {
        let mut client = self.client().await;
        for user in users {
            client.set(key(user), value, None, None).await.unwrap();
        }
    }

    /// A number of `stats`.
    pub async fn stat(&self, name: &str) -> u64 {
        let stats = self.client().await.stats().await.unwrap();
        stats[name].parse().unwrap()
    }

    /// `set` commands so far, but for those of the probe, which it sends when its `touch` misses.
    pub async fn sets(&self) -> u64 {
        let stats = self.client().await.stats().await.unwrap();
        let [sets, misses] = ["cmd_set", "touch_misses"].map(|name| stats[name].parse().unwrap());
        u64::saturating_sub(sets, misses)
    }
}
