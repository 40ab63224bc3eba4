//! What a connection keeps to itself, of the store's memory.

use std::sync::Arc;

use super::no_room::NoRoom;
use super::store::Store;
use crate::limits::HELD_PARTS;

/// Bytes of a connection that count against the memory limit, for as long as this lives: a request
/// that has begun, answers that nobody reads.
///
/// They are of one shard, which evicts for them. Where that has no room, any other shard will do:
/// which one does not matter to a connection.
#[derive(Debug)]
pub(super) struct Hold {
    store: Arc<Store>,
    shard: usize,
    bytes: usize,
}

impl Hold {
    /// None yet.
    pub(super) fn new(store: Arc<Store>) -> Hold {
        let (shard, bytes) = (store.next_holding_shard(), 0);
        Hold {
            store,
            shard,
            bytes,
        }
    }

    /// Holds so many bytes from now on.
    ///
    /// # Errors
    ///
    /// There is no memory for more; nothing has changed then.
    pub(super) fn resize(&mut self, bytes: usize) -> Result<(), NoRoom> {
        // In a store of a few values' size more would never be held.
        let bytes = bytes.min(self.store.shard_bytes_max() / HELD_PARTS);
        if bytes <= self.bytes {
            self.release(self.bytes - bytes);
            return Ok(());
        }
        if self.store.hold(self.shard, bytes - self.bytes) {
            self.bytes = bytes;
            return Ok(());
        }
        let shards = self.store.shards.len();
        let mut others = (1..shards).map(|step| (self.shard + step) % shards);
        let other = others.find(|&shard| self.store.hold(shard, bytes));
        let shard = other.ok_or(NoRoom::OutOfMemory)?;
        self.release(self.bytes);
        (self.shard, self.bytes) = (shard, bytes);
        Ok(())
    }

    fn release(&mut self, bytes: usize) {
        if bytes > 0 {
            self.bytes -= bytes;
            self.store.release(self.shard, bytes);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release(self.bytes);
    }
}
