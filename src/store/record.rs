//! One item: its key and value, its expiry, what it costs.

use std::{
    borrow::Borrow,
    hash::{Hash, Hasher},
};

use presenced_protocol::Key;

/// What an item takes beside its key and value, in bytes.
///
/// The entry with its links takes 64, the allocation of key and value 8 and its rounding to 16, the
/// hash table 19 to 39, as its load is between 7/8 and 7/16. So a million presence entries of 115
/// bytes, where the table is at its emptiest, made the process grow by 227 bytes each (glibc,
/// x86-64), and 1.7 million by 213.
pub const ITEM_OVERHEAD_BYTES: usize = 112;

/// memcached's `-I`: the greatest size of an item as memcached counts it.
const MEMCACHED_ITEM_BYTES_MAX: usize = 1024 * 1024;

/// What memcached counts beside key and value: its header, the CAS number, the key's end and the
/// value's line end. Found by trial with 1.6.18.
const MEMCACHED_OVERHEAD_BYTES: usize = 48 + 8 + 1 + 2;

/// What it counts for flags other than 0.
const MEMCACHED_FLAGS_BYTES: usize = 4;

/// Up to here an expiry time is relative, beyond it is Unix time (`protocol.txt`, *Expiration
/// times*): 30 days.
const RELATIVE_SECONDS_MAX: i64 = 60 * 60 * 24 * 30;

/// The deadline of what never expires.
const NEVER: u32 = u32::MAX;

/// What time it is, both ways that expiry needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// Seconds since some moment, monotonic.
    pub(super) uptime_s: u32,
    /// Unix time in seconds.
    pub(super) unix_s: u64,
}

/// A key and its value in one allocation.
pub(super) struct Record {
    bytes: Box<[u8]>,
    key_bytes: u8,
}

/// What else there is to an item.
#[derive(Clone, Copy)]
pub(super) struct Meta {
    pub(super) cas: u64,
    pub(super) flags: u32,
    /// The uptime in seconds from which it is dead.
    pub(super) deadline_s: u32,
}

/// The uptime from which an item with this expiry time is dead.
pub(super) fn deadline_s(exptime: i64, now: Now) -> u32 {
    let seconds = match exptime {
        0 => return NEVER,
        ..0 => 0,
        1..=RELATIVE_SECONDS_MAX => exptime,
        _ => exptime.saturating_sub_unsigned(now.unix_s).max(0),
    };
    let seconds = u32::try_from(seconds).unwrap_or(NEVER);
    now.uptime_s.saturating_add(seconds)
}

impl Record {
    pub(super) fn new(key: Key<'_>, value: &[u8]) -> Record {
        let key = key.as_bytes();
        Record {
            bytes: [key, value].concat().into_boxed_slice(),
            // A key has at most 250 bytes.
            key_bytes: u8::try_from(key.len()).unwrap_or(u8::MAX),
        }
    }

    fn key(&self) -> &[u8] {
        &self.bytes[..usize::from(self.key_bytes)]
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.bytes[usize::from(self.key_bytes)..]
    }

    /// What it counts against the memory limit.
    pub(super) fn cost(&self) -> usize {
        self.bytes.len() + ITEM_OVERHEAD_BYTES
    }

    pub(super) fn is_too_large(&self, flags: u32) -> bool {
        let flags_bytes = if flags == 0 { 0 } else { MEMCACHED_FLAGS_BYTES };
        self.bytes.len() + MEMCACHED_OVERHEAD_BYTES + flags_bytes > MEMCACHED_ITEM_BYTES_MAX
    }
}

impl Meta {
    pub(super) fn is_live(&self, flushed_cas: u64, now: Now) -> bool {
        self.deadline_s > now.uptime_s && self.cas > flushed_cas
    }
}

/// Records are equal, and found, by their key.
impl Borrow<[u8]> for Record {
    fn borrow(&self) -> &[u8] {
        self.key()
    }
}

impl PartialEq for Record {
    fn eq(&self, other: &Record) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Record {}

impl Hash for Record {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}
