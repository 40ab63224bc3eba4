//! Whether a node evicts entries before their time, as `stats` tells (`protocol.txt`,
//! *Statistics*).
//!
//! On a connection of its own, because a proxy may have no `stats` and close the connection for it
//! (twemproxy does). What cannot be asked is not known, and taken for "it does not evict".

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use presenced_protocol::Reply;
use tokio::time::{Instant, timeout};

use crate::connection::{Connection, foreign};
use crate::limits::{ITEM_OVERHEAD_BYTES, STATS_RETRY, STATS_RETRY_MIN, STATS_TRIES};
use crate::{MemcachedError, Node};

/// What is known of a node's evictions, and the connection that asks.
#[derive(Debug)]
pub(super) struct Evictions {
    connection: Option<Connection>,
    /// How often in a row a connection that was made did not bring the answer, while the node
    /// answers.
    failures: u32,
    /// When it may be asked again.
    retry_at: Option<Instant>,
    is_unsupported_logged: bool,
    /// That its answers cannot be read was logged since it last answered well.
    is_unreadable_logged: bool,
    before: Option<Stats>,
    /// By slab class: how many items it has evicted.
    classes: BTreeMap<u32, u64>,
    /// By slab class: the largest item.
    chunk_bytes: BTreeMap<u32, u64>,
    /// What entries take in memcached, in bytes.
    entry_bytes: RangeInclusive<u64>,
    entry_ttl_s: u64,
}

/// What has been evicted since the look before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Evicted {
    /// Items of any kind.
    pub(super) items: u64,
    /// Entries may be among them that had not expired.
    pub(super) may_be_entries: bool,
    /// The node has been neither restarted nor flushed in between.
    pub(super) is_all: bool,
}

/// What is read of `stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stats {
    pid: u64,
    evictions: u64,
    flushes: u64,
}

impl Evictions {
    /// Nothing is known yet. Entries have keys and values of `entry_bytes` together, and this TTL.
    pub(super) fn new(entry_bytes: &RangeInclusive<usize>, entry_ttl: Duration) -> Evictions {
        let (least, most) = (*entry_bytes.start() as u64, *entry_bytes.end() as u64);
        let (low, high) = ITEM_OVERHEAD_BYTES.into_inner();
        Evictions {
            connection: None,
            failures: 0,
            retry_at: None,
            is_unsupported_logged: false,
            is_unreadable_logged: false,
            before: None,
            classes: BTreeMap::new(),
            chunk_bytes: BTreeMap::new(),
            entry_bytes: least + low..=most + high,
            entry_ttl_s: entry_ttl.as_secs(),
        }
    }

    /// Asks; `None` if the node can't be asked now, or at all. If it is cancelled, the connection
    /// is made anew.
    pub(super) async fn look(&mut self, node: &Node) -> Option<Evicted> {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return None;
        }
        let limit = node.timeout();
        let known = self.connection.take();
        let connected = match known {
            Some(connection) => Ok(connection),
            None => timeout(limit, Connection::dial(node))
                .await
                .unwrap_or(Err(MemcachedError::Timeout(limit))),
        };
        let mut connection = match connected {
            Ok(connection) => connection,
            Err(error) => {
                // That says nothing of `stats`: memcached has no room for another connection, say.
                node.failed(&error);
                return None;
            }
        };
        let asked = timeout(limit, self.ask(&mut connection)).await;
        match asked.unwrap_or(Err(MemcachedError::Timeout(limit))) {
            Ok(evicted) => {
                self.failures = 0;
                self.is_unreadable_logged = false;
                self.connection = Some(connection);
                Some(evicted)
            }
            Err(error) => {
                self.failed(node, &error);
                None
            }
        }
    }

    fn failed(&mut self, node: &Node, error: &MemcachedError) {
        self.failures = self.failures.saturating_add(1);
        tracing::debug!(node = %node.addr(), %error, "stats cannot be asked");
        let is_unreadable = matches!(error, MemcachedError::OutOfStep(_));
        let pause = match (self.are_unsupported(), is_unreadable) {
            (true, _) => STATS_RETRY,
            (false, true) => (STATS_RETRY_MIN * (1 << (self.failures - 1).min(6))).min(STATS_RETRY),
            // It is slow, or away for a moment.
            (false, false) => Duration::ZERO,
        };
        self.retry_at = Some(Instant::now() + pause);
        if is_unreadable && !std::mem::replace(&mut self.is_unreadable_logged, true) {
            tracing::warn!(node = %node.addr(), %error, "memcached's stats cannot be read");
        }
        if self.are_unsupported() && !self.is_unsupported_logged {
            self.is_unsupported_logged = true;
            tracing::warn!(
                node = %node.addr(),
                %error,
                "memcached, or a proxy before it, answers no stats: evictions will not be noticed"
            );
        }
    }

    /// Whether it has been found that the node has no `stats`: one that has answered before is only
    /// slow.
    pub(super) fn are_unsupported(&self) -> bool {
        self.failures >= STATS_TRIES && self.before.is_none()
    }

    async fn ask(&mut self, connection: &mut Connection) -> Result<Evicted, MemcachedError> {
        let mut stats = Stats::default();
        each(connection, b"stats\r\n", |name, value| match name {
            b"pid" => stats.pid = value,
            b"evictions" => stats.evictions = value,
            b"cmd_flush" => stats.flushes = value,
            _ => {}
        })
        .await?;
        let before = self.before.filter(|before| before.pid == stats.pid);
        if before.is_none() {
            self.classes.clear();
            self.chunk_bytes.clear();
        }
        // Of what was before we came it is not known when it was.
        let items = before.map_or(0, |before| stats.evictions.saturating_sub(before.evictions));
        let has_news = items > 0 || (before.is_none() && stats.evictions > 0);
        let may_be_entries = has_news && self.ask_classes(connection).await?;
        self.before = Some(stats);
        Ok(Evicted {
            items,
            may_be_entries,
            is_all: before.is_some_and(|before| before.flushes == stats.flushes),
        })
    }

    /// Whether a class that entries may be in has evicted items since it was last asked that were
    /// used less than a TTL before.
    async fn ask_classes(&mut self, connection: &mut Connection) -> Result<bool, MemcachedError> {
        let (mut evicted, mut idle_s) = (BTreeMap::new(), BTreeMap::new());
        each(connection, b"stats items\r\n", |name, value| {
            let Some((class, name)) = name.strip_prefix(b"items:").and_then(class_and_name) else {
                return;
            };
            match name {
                b"evicted" => drop(evicted.insert(class, value)),
                b"evicted_time" => drop(idle_s.insert(class, value)),
                _ => {}
            }
        })
        .await?;
        if evicted
            .keys()
            .any(|class| !self.chunk_bytes.contains_key(class))
        {
            let chunk_bytes = &mut self.chunk_bytes;
            each(connection, b"stats slabs\r\n", |name, value| {
                if let Some((class, b"chunk_size")) = class_and_name(name) {
                    chunk_bytes.insert(class, value);
                }
            })
            .await?;
        }
        let before = std::mem::replace(&mut self.classes, evicted);
        Ok(self.classes.iter().any(|(class, count)| {
            let is_young = idle_s
                .get(class)
                .is_none_or(|idle| *idle < self.entry_ttl_s);
            let known = before.get(class).copied().unwrap_or_default();
            *count > known && is_young && self.may_have_entries(*class)
        }))
    }

    /// By the sizes of the class's items. A class of which nothing is known may have some; so may
    /// the one with the largest items, because a store need not have more than one.
    fn may_have_entries(&self, class: u32) -> bool {
        let Some(largest) = self.chunk_bytes.get(&class) else {
            return true;
        };
        let smaller = self.chunk_bytes.values().filter(|bytes| *bytes < largest);
        let is_last = !self.chunk_bytes.values().any(|bytes| bytes > largest);
        let are_too_small = largest < self.entry_bytes.start() && !is_last;
        let are_too_large = smaller
            .max()
            .is_some_and(|bytes| bytes >= self.entry_bytes.end());
        !are_too_small && !are_too_large
    }
}

/// `7:chunk_size`.
fn class_and_name(text: &[u8]) -> Option<(u32, &[u8])> {
    let colon = text.iter().position(|&byte| byte == b':')?;
    let class = std::str::from_utf8(&text[..colon]).ok()?.parse().ok()?;
    Some((class, &text[colon + 1..]))
}

/// Asks for statistics and shows each that is a number to `see`.
pub(super) async fn each(
    connection: &mut Connection,
    command: &[u8],
    mut see: impl FnMut(&[u8], u64),
) -> Result<(), MemcachedError> {
    connection.send_bytes(command).await?;
    loop {
        match connection.reply().await? {
            Reply::Stat { name, value } => {
                let value = std::str::from_utf8(&value)
                    .ok()
                    .and_then(|text| text.parse().ok());
                if let Some(value) = value {
                    see(&name, value);
                }
            }
            Reply::End => return Ok(()),
            reply => return Err(foreign(&reply)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evictions(chunk_bytes: &[u64]) -> Evictions {
        let mut evictions = Evictions::new(&(100..=300), Duration::from_secs(60));
        evictions.chunk_bytes = (1..).zip(chunk_bytes.iter().copied()).collect();
        evictions
    }

    #[test]
    fn only_classes_of_the_size_of_entries_may_have_some() {
        let classes = |chunk_bytes: &[u64]| {
            let evictions = evictions(chunk_bytes);
            let classes = evictions.chunk_bytes.keys().copied();
            classes
                .filter(|class| evictions.may_have_entries(*class))
                .collect::<Vec<_>>()
        };
        // Items take 48 to 72 bytes more: 148 to 372.
        assert_eq!(classes(&[96, 120, 152, 192, 384, 480]), [3, 4, 5]);
        assert_eq!(classes(&[96, 120, 152, 192, 368, 480, 600]), [3, 4, 5, 6]);
        assert_eq!(classes(&[1]), [1], "a store without classes");
        assert!(evictions(&[96]).may_have_entries(7), "not known yet");
    }

    #[test]
    fn names_of_classes_are_read() {
        assert_eq!(
            class_and_name(b"7:chunk_size"),
            Some((7, &b"chunk_size"[..]))
        );
        for name in ["active_slabs", "x:evicted", ":evicted", "99999999999:x"] {
            assert_eq!(class_and_name(name.as_bytes()), None, "{name}");
        }
    }
}
