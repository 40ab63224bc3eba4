//! A log that edges share: values, each under a number of its own.
//!
//! One key has the number of the last entry, and each entry is a key of its own, `{key}:{number}`.
//! Keys go by the ring, as all do. An entry gets its number by `incr`, so no two edges write one;
//! it is `add`ed, so nothing that was written is replaced. Each entry has a TTL, and the number of
//! the last has none.
//!
//! memcached forgets, so the log is kept by all who know its entries. The number of the last entry
//! may be missing, or be that of a node that was off the ring for a while. Then the log is begun
//! anew, with numbers that are greater than any before: the seconds of the time are in front of
//! [`RUN_BITS`] for the entries of a *run*. So a number never means two entries, and where a run
//! begins is known from any number of it.
//!
//! Every use takes a connection of its own to each node that it concerns: uses are rare, and few
//! entries are written. Of a node that does not answer its probe nothing is asked.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use presenced_protocol::meta::Direction;
use presenced_protocol::request::{Keys, StoreVerb};
use presenced_protocol::{Key, Reply, Request, encode};
use tokio::time::timeout;

use super::cluster::Cluster;
use super::connection::{Connection, FOREIGN, foreign};
use super::{MemcachedError, Node};
use crate::limits::{LOG_BATCH, LOOKUP_ANSWER_BYTES_MAX, VALUE_BYTES_MAX};

/// Bits of a number that count the entries of a run.
pub const RUN_BITS: u32 = 20;

/// The numbers of a run's entries, given any of them.
#[must_use]
pub fn run_of(number: u64) -> RangeInclusive<u64> {
    let before = number >> RUN_BITS << RUN_BITS;
    before + 1..=before | ((1 << RUN_BITS) - 1)
}

/// What a new run begins with, at `now_s` of Unix time: more than `last`, and no entry's number.
#[must_use]
pub fn new_run(last: u64, now_s: u64) -> u64 {
    let next = (last >> RUN_BITS) + 1;
    next.max(now_s).min(u64::MAX >> RUN_BITS) << RUN_BITS
}

/// The number of a log's last entry, as memcached has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// It has none.
    Missing,
    /// This one. It was given to somebody, who may not have written the entry yet.
    Number(u64),
    /// Something else, which is not ours.
    Foreign,
}

/// What has come of numbers that were asked for. Those in neither list are missing.
#[derive(Debug, Default)]
pub struct Entries {
    /// Entries; a value longer than [`VALUE_BYTES_MAX`] is empty.
    pub found: Vec<(u64, Vec<u8>)>,
    /// Numbers whose node does not answer.
    pub away: Vec<u64>,
}

/// A log in the memcached of all edges.
#[derive(Debug)]
pub struct SharedLog {
    cluster: Arc<Cluster>,
    key: String,
}

impl SharedLog {
    /// The log whose last number is under `key`, a legal key with room for `:` and a number.
    pub fn new(cluster: Arc<Cluster>, key: String) -> SharedLog {
        SharedLog { cluster, key }
    }

    /// The nodes that have its keys.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The number of the last entry.
    ///
    /// # Errors
    ///
    /// The node does not answer, or in a way that memcached would not.
    pub async fn last(&self) -> Result<Last, MemcachedError> {
        let ask = async |connection: &mut Connection| {
            let keys = [key(&self.key)?];
            let get = Request::Get {
                keys: Keys::from(keys[0]),
                with_cas: false,
            };
            connection.send(&[get]).await?;
            connection.values(&keys).await
        };
        let mut values = exchange(&*self.home(&self.key)?, ask).await?;
        Ok(match values.pop().flatten() {
            None => Last::Missing,
            Some(value) => number(&value).map_or(Last::Foreign, Last::Number),
        })
    }

    /// Begins a run at `new`, unless the last number is another than `was` by now. Says whether it
    /// did.
    ///
    /// # Errors
    ///
    /// As [`SharedLog::last`].
    pub async fn begin(&self, was: Last, new: u64) -> Result<bool, MemcachedError> {
        let value = new.to_string();
        let begin = async |connection: &mut Connection| {
            let verb = match was {
                Last::Missing => StoreVerb::Add,
                Last::Foreign => StoreVerb::Set,
                Last::Number(was) => match self.unique(connection, was).await? {
                    Some(unique) => StoreVerb::Cas { unique },
                    None => return Ok(false),
                },
            };
            store(connection, verb, key(&self.key)?, value.as_bytes(), 0).await?;
            match connection.reply().await? {
                Reply::Stored => Ok(true),
                Reply::NotStored | Reply::Exists | Reply::NotFound | Reply::ServerError(_) => {
                    Ok(false)
                }
                reply => Err(foreign(&reply)),
            }
        };
        exchange(&*self.home(&self.key)?, begin).await
    }

    /// The CAS number of the last number, if that is `was`.
    async fn unique(
        &self,
        connection: &mut Connection,
        was: u64,
    ) -> Result<Option<u64>, MemcachedError> {
        let gets = Request::Get {
            keys: Keys::from(key(&self.key)?),
            with_cas: true,
        };
        connection.send(&[gets]).await?;
        let mut unique = None;
        loop {
            match connection.reply().await? {
                Reply::End => return Ok(unique),
                Reply::Value { value, cas, .. } if number(&value) == Some(was) => unique = cas,
                Reply::Value { .. } => {}
                reply => return Err(foreign(&reply)),
            }
        }
    }

    /// The entries with these `numbers`.
    pub async fn read(&self, numbers: impl IntoIterator<Item = u64>) -> Entries {
        let mut entries = Entries::default();
        let mut by_node: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
        for number in numbers {
            let node = self.cluster.node_of(self.entry(number).as_bytes());
            by_node.entry(node).or_default().push(number);
        }
        for numbers in by_node.into_values() {
            let mut done = 0;
            let read = async |connection: &mut Connection, node: &Node| {
                for batch in numbers.chunks(LOG_BATCH) {
                    let found = &mut entries.found;
                    within(node, self.read_batch(connection, batch, found)).await?;
                    done += batch.len();
                }
                Ok(())
            };
            if let Ok(node) = self.home(&self.entry(numbers[0])) {
                // What was not answered is asked for again.
                let _ = with(&node, read).await;
            }
            entries.away.extend(&numbers[done..]);
        }
        entries
    }

    async fn read_batch(
        &self,
        connection: &mut Connection,
        numbers: &[u64],
        found: &mut Vec<(u64, Vec<u8>)>,
    ) -> Result<(), MemcachedError> {
        let names: Vec<_> = numbers.iter().map(|&number| self.entry(number)).collect();
        let keys: Vec<_> = names
            .iter()
            .map(|name| key(name))
            .collect::<Result<_, _>>()?;
        let mut command = Vec::new();
        encode::get(&mut command, keys.iter().copied());
        connection.send_bytes(&command).await?;
        let values = connection.values(&keys).await?;
        let values = numbers.iter().copied().zip(values);
        found.extend(values.filter_map(|(number, value)| Some((number, value?))));
        Ok(())
    }

    /// Writes entries, at most [`LOG_BATCH`], each with its TTL in seconds. Returns the number
    /// of each, in their order, and `None` for an entry that was not stored; `None` for all if the log has no
    /// last number.
    ///
    /// # Errors
    ///
    /// As [`SharedLog::last`], of the node that gives the numbers.
    pub async fn append(
        &self,
        entries: &[(Vec<u8>, u32)],
    ) -> Result<Option<Vec<Option<u64>>>, MemcachedError> {
        let count = entries.len() as u64;
        let take = async |connection: &mut Connection| self.take_numbers(connection, count).await;
        let Some(last) = exchange(&*self.home(&self.key)?, take).await? else {
            return Ok(None);
        };
        let mut written = vec![None; entries.len()];
        let mut by_node: BTreeMap<u8, Vec<(usize, u64, String)>> = BTreeMap::new();
        for (index, number) in (last + 1 - count..=last).enumerate() {
            let name = self.entry(number);
            let node = self.cluster.node_of(name.as_bytes());
            by_node.entry(node).or_default().push((index, number, name));
        }
        for of_node in by_node.into_values() {
            let Ok(node) = self.home(&of_node[0].2) else {
                continue;
            };
            let add = async |connection: &mut Connection, node: &Node| {
                for (index, number, name) in &of_node {
                    let (value, ttl_s) = &entries[*index];
                    let added = add(connection, key(name)?, value, *ttl_s);
                    written[*index] = within(node, added).await?.then_some(*number);
                }
                Ok(())
            };
            // What was not acknowledged is not written: the caller writes it again.
            let _ = with(&node, add).await;
        }
        Ok(Some(written))
    }

    /// The last of as many new numbers.
    async fn take_numbers(
        &self,
        connection: &mut Connection,
        count: u64,
    ) -> Result<Option<u64>, MemcachedError> {
        let incr = Request::Arithmetic {
            direction: Direction::Up,
            key: key(&self.key)?,
            delta: count,
            noreply: false,
        };
        connection.send(&[incr]).await?;
        match connection.reply().await? {
            Reply::Number(last) if last >= count => Ok(Some(last)),
            Reply::Number(_) | Reply::NotFound => Ok(None),
            reply => Err(foreign(&reply)),
        }
    }

    fn entry(&self, number: u64) -> String {
        format!("{}:{number}", self.key)
    }

    /// The node that has a key, if it answers.
    fn home(&self, key: &str) -> Result<Arc<Node>, MemcachedError> {
        let topology = self.cluster.topology();
        let id = topology.node_of(key.as_bytes());
        let node = topology.nodes().iter().find(|node| node.id() == id);
        let node = node.filter(|node| node.answers());
        node.cloned().ok_or(MemcachedError::Closed)
    }
}

/// One exchange on a new connection.
async fn exchange<T>(
    node: &Node,
    exchange: impl AsyncFnOnce(&mut Connection) -> Result<T, MemcachedError>,
) -> Result<T, MemcachedError> {
    with(node, async |connection: &mut Connection, node: &Node| {
        within(node, exchange(connection)).await
    })
    .await
}

/// Several exchanges on a new connection.
async fn with<T>(
    node: &Node,
    exchanges: impl AsyncFnOnce(&mut Connection, &Node) -> Result<T, MemcachedError>,
) -> Result<T, MemcachedError> {
    let dialled = Connection::dial_for(node, VALUE_BYTES_MAX, LOOKUP_ANSWER_BYTES_MAX).await;
    let done = match dialled {
        Ok(mut connection) => exchanges(&mut connection, node).await,
        Err(error) => Err(error),
    };
    done.inspect_err(|error| node.failed(error))
}

/// An exchange in memcached's time-out.
async fn within<T>(
    node: &Node,
    exchange: impl Future<Output = Result<T, MemcachedError>>,
) -> Result<T, MemcachedError> {
    let limit = node.timeout();
    let exchanged = timeout(limit, exchange).await;
    exchanged.unwrap_or(Err(MemcachedError::Timeout(limit)))
}

/// Says whether the entry is there now.
async fn add(
    connection: &mut Connection,
    key: Key<'_>,
    value: &[u8],
    ttl_s: u32,
) -> Result<bool, MemcachedError> {
    store(connection, StoreVerb::Add, key, value, ttl_s.into()).await?;
    match connection.reply().await? {
        Reply::Stored => Ok(true),
        Reply::NotStored | Reply::ServerError(_) => Ok(false),
        reply => Err(foreign(&reply)),
    }
}

async fn store(
    connection: &mut Connection,
    verb: StoreVerb,
    key: Key<'_>,
    value: &[u8],
    exptime: i64,
) -> Result<(), MemcachedError> {
    let store = Request::Store {
        verb,
        key,
        flags: 0,
        exptime,
        value,
        noreply: false,
    };
    connection.send(&[store]).await
}

fn key(name: &str) -> Result<Key<'_>, MemcachedError> {
    Key::new(name.as_bytes()).map_err(|_| FOREIGN)
}

/// memcached may leave spaces behind a number that has become shorter.
fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value)
        .ok()?
        .trim_ascii_end()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_known_from_any_of_its_numbers_and_a_new_one_comes_after_it() {
        let begun = new_run(0, 1_800_000_000);
        assert_eq!(begun, 1_800_000_000 << RUN_BITS);
        for number in [begun + 1, begun + 7, begun + (1 << RUN_BITS) - 1] {
            assert_eq!(*run_of(number).start(), begun + 1);
            assert!(run_of(number).contains(&number));
            assert!(!run_of(new_run(number, 0)).contains(&number));
            // Within the same second, and with a clock that is behind.
            for now_s in [0, 1_800_000_000] {
                assert!(new_run(number, now_s) > *run_of(number).end());
            }
        }
        assert_eq!(run_of(begun), begun + 1..=begun + (1 << RUN_BITS) - 1);
        assert!(new_run(u64::MAX, u64::MAX) > 0, "no overflow");
    }

    #[test]
    fn numbers() {
        assert_eq!(number(b"12"), Some(12));
        assert_eq!(number(b"9  "), Some(9));
        for foreign in [&b""[..], b"-1", b"x", b"1 2", b"99999999999999999999"] {
            assert_eq!(number(foreign), None, "{foreign:?}");
        }
    }
}
