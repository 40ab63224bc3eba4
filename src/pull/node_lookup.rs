//! The connection of one worker's look-ups to one node: asks it for many users, and says what may
//! be believed of the answer.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use presenced_memcached::limits::{BACKOFF_MAX, STABLE_AFTER};
use presenced_memcached::marker::{self, Marker, RingHash};
use presenced_memcached::node::Up;
use presenced_memcached::{Backoff, MemcachedError, Node, Reader};
use presenced_presence::record::connected_at;
use presenced_protocol::Key;
use presenced_tasks::{Task, catch};
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::metrics::PullMetrics;
use super::round::Keys;
use crate::limits::{ELSEWHERE_AFTER, LOOKUP_TIMEOUT};

/// What a look-up said of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Online(u64),
    /// When the command was sent that did not find the user.
    Offline {
        asked_at: Instant,
    },
    Unknown,
}

/// What it takes to believe that a user who is not found is offline.
#[derive(Clone, Copy)]
pub(super) struct Belief<'a> {
    pub(super) marker: &'a marker::Config,
    /// By which the look-up was routed.
    pub(super) ring: RingHash,
}

impl Belief<'_> {
    /// Whether what a command has not found is not there, by the marker that it found last.
    fn in_misses(&self, marker: Option<&[u8]>) -> bool {
        let marker = marker.and_then(Marker::parse);
        marker.is_some_and(|marker| marker.is_whole && marker.ring == self.ring)
    }
}

/// What a node said, by the index of the key.
struct Found {
    /// Keys with a value, and since when the user is online if the value is ours.
    values: Vec<(usize, Option<u64>)>,
    /// Of the others, those that are known not to have been there, and when they were asked for.
    told: Vec<(Range<usize>, Instant)>,
    /// The probe's sentinel should be there, and is not.
    is_elsewhere: bool,
}

/// The batcher's connection to one node.
#[derive(Debug)]
pub(super) struct NodeLookup {
    node: Arc<Node>,
    connection: Option<Connection>,
    /// Delivers the next one.
    dialled: oneshot::Receiver<Connection>,
    /// Since when look-ups don't find the sentinel.
    elsewhere_since: Option<Instant>,
    _needed: Up,
}

#[derive(Debug)]
struct Connection {
    reader: Reader,
    made_at: Instant,
    /// The pauses before the next one.
    backoff: Backoff,
}

impl NodeLookup {
    /// To a node to which a connection is dialled from now on.
    pub(super) fn new(node: &Arc<Node>) -> NodeLookup {
        NodeLookup {
            node: node.clone(),
            connection: None,
            dialled: dial(node, node.backoff(), Duration::ZERO),
            elsewhere_since: None,
            _needed: node.needs_connection(),
        }
    }

    /// Looks for `keys`; says of each what it has found. They are unknown if the node can't be
    /// asked, or is not known to have been told of every user.
    pub(super) async fn look_up(
        &mut self,
        keys: &Keys,
        metrics: &PullMetrics,
        belief: Belief<'_>,
    ) -> Vec<State> {
        let mut states = vec![State::Unknown; keys.len()];
        let keys: Vec<_> = keys.all().collect();
        // A record has room for the longest id. Were a key left out, each would get another's answer.
        if keys.len() != states.len() {
            return states;
        }
        let Some(found) = self.get(&keys, belief).await else {
            return states;
        };
        if !self.node.may_have_evicted(belief.marker.entry_ttl) {
            for (range, asked_at) in found.told {
                states[range].fill(State::Offline { asked_at });
            }
        }
        self.note_elsewhere(found.is_elsewhere);
        for (index, since) in found.values {
            states[index] = match since {
                Some(since) => State::Online(since),
                None => {
                    metrics.foreign.add(1);
                    State::Unknown
                }
            };
        }
        states
    }

    /// Tells the node when look-ups have led to another server than the probe's for longer than a
    /// loss takes to be noticed.
    fn note_elsewhere(&mut self, is_elsewhere: bool) {
        if !is_elsewhere {
            self.elsewhere_since = None;
        } else if self
            .elsewhere_since
            .get_or_insert_with(Instant::now)
            .elapsed()
            > ELSEWHERE_AFTER
        {
            self.elsewhere_since = Some(Instant::now());
            self.node.note_several_servers();
        }
    }

    /// Asks for `keys`, once more on a new connection if the old one has ended since the last
    /// question, which is noticed only now, or is out of step.
    async fn get(&mut self, keys: &[Key<'_>], belief: Belief<'_>) -> Option<Found> {
        let deadline = Instant::now() + LOOKUP_TIMEOUT;
        let node = self.node.clone();
        let keys_at_the_end = node.sentinel_key().into_iter().chain([&*belief.marker.key]);
        let marks: Vec<_> = keys_at_the_end
            .flat_map(|key| Key::new(key.as_bytes()))
            .collect();
        for _ in 0..2 {
            let connection = timeout_at(deadline, self.connection()).await.ok()??;
            let mut values = Vec::with_capacity(keys.len());
            let (mut told, mut is_elsewhere) = (Vec::new(), false);
            // Without it, the server is another than the probe's, or has lost what it had.
            let wanted = node.wanted_sentinel();
            let get = connection.reader.get(
                keys,
                &marks,
                |index, value| values.push((index, value.and_then(connected_at))),
                |range, asked_at, marks| {
                    let is_the_probes = match &wanted {
                        Ok(Some(wanted)) => marks
                            .first()
                            .is_some_and(|mark| mark.as_ref() == Some(wanted)),
                        Ok(None) => true,
                        Err(_) => false,
                    };
                    is_elsewhere |= wanted.is_ok() && !is_the_probes;
                    if is_the_probes && belief.in_misses(marks.last().and_then(Option::as_deref)) {
                        told.push((range, asked_at));
                    }
                },
            );
            let got = timeout_at(deadline, get).await;
            let error = match got.unwrap_or(Err(MemcachedError::Timeout(LOOKUP_TIMEOUT))) {
                Ok(()) => {
                    return Some(Found {
                        values,
                        told,
                        is_elsewhere,
                    });
                }
                Err(error) => error,
            };
            self.redial(&error);
            if matches!(error, MemcachedError::Timeout(_)) {
                return None;
            }
        }
        None
    }

    /// At once if the connection had held; one that did not is made again after a pause.
    fn redial(&mut self, error: &MemcachedError) {
        let Some(mut ended) = self.connection.take() else {
            return;
        };
        let held = ended.made_at.elapsed();
        let has_held = held >= STABLE_AFTER;
        // The orderly end of one that was idle (memcached's `-o idle_timeout`) is no failure.
        if !(has_held && matches!(error, MemcachedError::Closed)) {
            self.node.failed(error);
        }
        let pause = match has_held {
            true => Duration::ZERO,
            false => ended.backoff.pause(held),
        };
        self.dialled = dial(&self.node, ended.backoff, pause);
    }

    /// The connection, if there is one. While it is being made and the node is known to answer,
    /// waiting for it is better than an "unknown".
    async fn connection(&mut self) -> Option<&mut Connection> {
        if self.connection.is_none() {
            // With a channel that is closed the dial has panicked, or what it brought was taken.
            let (dialled, is_over) = if self.node.is_up() {
                match timeout(self.node.timeout(), &mut self.dialled).await {
                    Ok(dialled) => (dialled.ok(), true),
                    Err(_) => (None, false),
                }
            } else {
                let dialled = self.dialled.try_recv();
                let is_over = !matches!(dialled, Err(TryRecvError::Empty));
                (dialled.ok(), is_over)
            };
            if dialled.is_none() && is_over {
                self.dialled = dial(&self.node, self.node.backoff(), BACKOFF_MAX);
            }
            self.connection = dialled;
        }
        self.connection.as_mut()
    }
}

/// Dials in the background after a pause, for as long as it takes and someone waits.
fn dial(
    node: &Arc<Node>,
    mut backoff: Backoff,
    mut pause: Duration,
) -> oneshot::Receiver<Connection> {
    let (mut dialled, receiver) = oneshot::channel();
    let node = node.clone();
    let dialling = async move {
        loop {
            sleep(pause).await;
            let made = tokio::select! {
                biased;
                made = Reader::dial(&node) => made,
                () = dialled.closed() => return,
            };
            match made {
                Ok(reader) => {
                    let made_at = Instant::now();
                    let _ = dialled.send(Connection {
                        reader,
                        made_at,
                        backoff,
                    });
                    return;
                }
                Err(error) => node.failed(&error),
            }
            pause = backoff.pause(Duration::ZERO);
        }
    };
    tokio::spawn(catch(Task::LookUp, dialling));
    receiver
}
