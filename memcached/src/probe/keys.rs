//! The two keys that a look keeps on its node: the sentinel, which tells whether the node still has
//! what this process has written, and the marker, which tells whether it knows of all users.

use presenced_protocol::request::StoreVerb;
use presenced_protocol::{Key, Reply, Request, encode};
use tokio::time::Instant;

use super::Look;
use super::proof::Step;
use super::see::see;
use crate::MemcachedError;
use crate::connection::{Connection, FOREIGN, foreign};
use crate::marker::{Marker, RingHash};
use crate::node::{Sentinel, sentinel_value};

impl Look {
    /// Looks at the sentinel and the marker, and does what is to be done about both. Returns
    /// whether the marker had to be renewed.
    pub(super) async fn keep_keys(
        &mut self,
        connection: &mut Connection,
    ) -> Result<bool, MemcachedError> {
        self.overdue.look(&*self.config.writes, &self.node);
        let cluster = self.cluster.clone();
        let config = cluster.config();
        let sentinel = config.connect.sentinel.as_ref();
        let sentinel = sentinel.map(|key| Key::new(key.as_bytes())).transpose();
        let sentinel = sentinel.map_err(|_| FOREIGN)?;
        let marker = Key::new(config.marker.key.as_bytes()).map_err(|_| FOREIGN)?;
        let was_several = self.node.is_several_servers();
        // The count first: a ring that changes after it is owed at the next look.
        let renewals = cluster.renewals();
        self.tried = renewals;
        let exptime = config.marker.ttl_s().into();
        let seen = see(connection, sentinel, marker, exptime).await?;
        let now = Instant::now();
        // A balancer may have led us to another server meanwhile, and back: what it has is an older
        // one.
        let is_missed = sentinel.is_some() && seen.sentinel != Some(sentinel_value(self.sentinels));
        let is_older = is_missed && seen.sentinel.is_some() && self.had_sentinel == Some(true);
        if is_missed && self.had_sentinel == Some(true) {
            self.note_missed();
        }
        let topology = cluster.announced();
        self.version = topology.version();
        let ring = topology.ring_hash();
        // Of several servers, the probe's has not been told what this process writes to another.
        let must_renew = self.config.writes.are_late(&self.node)
            || self.missed.is_some() && self.config.writes.has_any()
            || self.node.is_several_servers()
            || is_older
            || renewals != self.renewed;
        let value = seen.marker.as_deref();
        let next = self.proof.step(value, ring, must_renew, now, &cluster);
        self.node.set_whole(next.is_whole);
        let must_renew = next.step == Step::Renew;
        if self.step(connection, marker, next.step, ring).await? && must_renew {
            self.renewed = renewals;
            self.node.note_told(self.version);
        }
        match sentinel.filter(|_| is_missed) {
            Some(sentinel) => {
                self.put_sentinel(connection, sentinel, next.is_whole)
                    .await?;
            }
            None => self.had_sentinel = Some(true),
        }
        if !is_missed && was_several && self.node.is_several_servers() {
            self.node.note_several_servers();
        }
        self.node.set_sentinel(match self.had_sentinel {
            Some(true) => {
                self.touched_at = Some(now);
                Sentinel::There(self.sentinels)
            }
            _ => Sentinel::Refused,
        });
        Ok(must_renew)
    }

    /// Does what is to be done about the marker; says whether the node has taken it.
    async fn step(
        &mut self,
        connection: &mut Connection,
        key: Key<'_>,
        step: Step,
        ring: RingHash,
    ) -> Result<bool, MemcachedError> {
        let young = Marker::young(ring, self.random.u64(..)).value();
        let (verb, value) = match step {
            Step::None => return Ok(true),
            Step::Add => (StoreVerb::Add, young),
            Step::Renew => (StoreVerb::Set, young),
            Step::Prove(marker) => (StoreVerb::Append, marker.proof()),
        };
        self.store(connection, verb, key, value.as_bytes()).await
    }

    /// Puts the sentinel there that was missing. `is_whole`: the marker says that nothing was lost.
    async fn put_sentinel(
        &mut self,
        connection: &mut Connection,
        sentinel: Key<'_>,
        is_whole: bool,
    ) -> Result<(), MemcachedError> {
        self.sentinels += 1;
        let value = sentinel_value(self.sentinels);
        let is_stored = self
            .store(connection, StoreVerb::Set, sentinel, &value)
            .await?;
        // If it was not there to be missed, what was written until now may have been lost all the
        // same.
        if is_stored && self.missed.is_none() && !is_whole {
            self.cluster.mark_suspect(&self.node);
        }
        self.had_sentinel = Some(is_stored);
        Ok(())
    }

    /// Whether the node has taken `value`.
    async fn store(
        &mut self,
        connection: &mut Connection,
        verb: StoreVerb,
        key: Key<'_>,
        value: &[u8],
    ) -> Result<bool, MemcachedError> {
        let store = Request::Store {
            verb,
            key,
            flags: 0,
            exptime: self.cluster.config().marker.ttl_s().into(),
            value,
            noreply: false,
        };
        connection.send(&[store]).await?;
        match connection.reply().await? {
            Reply::Stored => Ok(true),
            Reply::NotStored => Ok(false),
            refused @ Reply::ServerError(_) => {
                let mut line = Vec::new();
                encode::reply_bytes(&mut line, &refused);
                self.node.refuses(&line);
                Ok(false)
            }
            reply => Err(foreign(&reply)),
        }
    }
}
