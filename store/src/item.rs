//! One item: its key and value, its expiry, what it costs.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::clock::Now;

/// What an item takes beside the allocation of its key and value, in bytes: its entry with the
/// links (48), and its share of the hash table, which has 9 bytes a place and is between 7/16 and
/// 7/8 full.
pub const ITEM_OVERHEAD_BYTES: usize = 48 + 15;

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
pub(super) const NEVER: u32 = u32::MAX;

/// An item, or a place for one, which is dead.
///
/// Key and value share an allocation: most are small, and an allocation costs 8 bytes and its
/// rounding.
pub(super) struct Item {
    data: Box<[u8]>,
    pub(super) cas: u64,
    pub(super) flags: u32,
    /// The uptime in seconds from which it is dead.
    pub(super) deadline_s: u32,
    /// When it was last used, as memcached sees it: see [`Item::hit`].
    pub(super) used_s: u32,
    /// The next in the order of use, and the one before; free places are chained by `older`.
    pub(super) newer: u32,
    /// See `newer`.
    pub(super) older: u32,
    key_bytes: u8,
    pub(super) marks: Marks,
}

/// What is to be stored.
#[derive(Clone, Copy)]
pub(super) struct NewItem<'a> {
    /// The value, in two parts.
    pub(super) value: [&'a [u8]; 2],
    pub(super) flags: u32,
    pub(super) deadline_s: u32,
    pub(super) marks: Marks,
}

/// What is true of an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(u8);

impl Marks {
    /// It was asked for (`h` of `mg`).
    pub(super) const FETCHED: Marks = Marks(1);
    /// It was used since it took its place in the order of use.
    pub(super) const USED: Marks = Marks(2);
    /// It was invalidated (`X` of `mg`).
    pub(super) const STALE: Marks = Marks(4);
    /// A client was told to renew it (`W` and `Z` of `mg`).
    pub(super) const WON: Marks = Marks(8);
    /// It was stored with the flag `b`, so its key is shown in base64.
    pub(super) const BASE64: Marks = Marks(16);

    pub(super) fn has(self, mark: Marks) -> bool {
        self.0 & mark.0 != 0
    }

    pub(super) fn add(&mut self, mark: Marks) {
        self.0 |= mark.0;
    }

    pub(super) fn remove(&mut self, mark: Marks) {
        self.0 &= !mark.0;
    }

    pub(super) fn only(self, mark: Marks) -> Marks {
        Marks(self.0 & mark.0)
    }
}

impl Item {
    /// A place for an item.
    pub(super) fn vacant() -> Item {
        Item {
            data: Box::default(),
            cas: 0,
            flags: 0,
            deadline_s: 0,
            used_s: 0,
            newer: 0,
            older: 0,
            key_bytes: 0,
            marks: Marks::default(),
        }
    }

    pub(super) fn is_vacant(&self) -> bool {
        self.key_bytes == 0
    }

    pub(super) fn key_bytes(&self) -> usize {
        self.key_bytes.into()
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.data[..usize::from(self.key_bytes)]
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.data[usize::from(self.key_bytes)..]
    }

    /// Gives it a key and a value; where the length is that of the last, without an allocation.
    pub(super) fn write(&mut self, key: &[u8], value: [&[u8]; 2]) {
        let [first, second] = value;
        let bytes = key.len() + first.len() + second.len();
        if bytes == self.data.len() {
            let (to_key, rest) = self.data.split_at_mut(key.len());
            let (to_first, to_second) = rest.split_at_mut(first.len());
            to_key.copy_from_slice(key);
            to_first.copy_from_slice(first);
            to_second.copy_from_slice(second);
        } else {
            self.data = [key, first, second].concat().into_boxed_slice();
        }
        // A key has at most 250 bytes.
        self.key_bytes = u8::try_from(key.len()).unwrap_or(u8::MAX);
    }

    /// Writes `text` at the value's beginning, and spaces after it: `text` is no longer than it.
    pub(super) fn overwrite(&mut self, text: &[u8]) {
        let value = &mut self.data[usize::from(self.key_bytes)..];
        let (digits, rest) = value.split_at_mut(text.len());
        digits.copy_from_slice(text);
        rest.fill(b' ');
    }

    /// Takes key and value away.
    pub(super) fn vacate(&mut self) {
        *self = Item::vacant();
    }

    /// What it counts against the memory limit.
    pub(super) fn cost(&self) -> usize {
        cost(self.data.len())
    }

    /// The slab class that memcached would keep it in (`cls` of `me`).
    pub(super) fn memcached_class(&self) -> u32 {
        memcached_class(self.memcached_bytes())
    }

    /// How many bytes memcached would count for it (`size` of `me`).
    pub(super) fn memcached_bytes(&self) -> usize {
        memcached_bytes(self.data.len(), self.flags)
    }

    pub(super) fn is_live(&self, flushed_cas: u64, now: Now) -> bool {
        self.deadline_s > now.uptime_s && self.cas > flushed_cas
    }

    /// It was asked for. memcached takes an item as used from the second time on.
    pub(super) fn hit(&mut self, now: Now) {
        if self.marks.has(Marks::FETCHED) {
            self.used_s = now.uptime_s;
        }
        self.marks.add(Marks::FETCHED);
        self.marks.add(Marks::USED);
    }

    /// It was used, but not asked for.
    pub(super) fn bump(&mut self, now: Now) {
        self.used_s = now.uptime_s;
        self.marks.add(Marks::USED);
    }

    /// Seconds left; `None` is for ever.
    pub(super) fn seconds_left(&self, now: Now) -> Option<u32> {
        seconds_left(self.deadline_s, now)
    }
}

/// Seconds from now until then; `None` is for ever.
pub(super) fn seconds_left(deadline_s: u32, now: Now) -> Option<u32> {
    (deadline_s != NEVER).then(|| deadline_s.saturating_sub(now.uptime_s))
}

/// The uptime from which an item with this expiry time is dead.
pub(super) fn deadline_s(exptime: i64, now: Now) -> u32 {
    let seconds = match exptime {
        0 => return NEVER,
        // Dead before anything began, so that it is the least of all deadlines.
        ..0 => return 0,
        1..=RELATIVE_SECONDS_MAX => exptime,
        _ => exptime.saturating_sub_unsigned(now.unix_s).max(0),
    };
    let seconds = u32::try_from(seconds).unwrap_or(NEVER);
    now.uptime_s.saturating_add(seconds)
}

/// What an item whose key and value have this number of bytes counts against the memory limit: what
/// glibc takes for the allocation, and [`ITEM_OVERHEAD_BYTES`].
pub(super) fn cost(data_bytes: usize) -> usize {
    (data_bytes + 8).next_multiple_of(16).max(32) + ITEM_OVERHEAD_BYTES
}

/// The most bytes of key and value that count no more than `cost_max`.
pub(super) fn data_bytes_max(cost_max: usize) -> usize {
    let allocated = cost_max.saturating_sub(ITEM_OVERHEAD_BYTES) / 16 * 16;
    allocated.saturating_sub(8)
}

/// Whether memcached would say so, with its default item size of 1 MiB.
pub(super) fn is_too_large(data_bytes: usize, flags: u32) -> bool {
    memcached_bytes(data_bytes, flags) > MEMCACHED_ITEM_BYTES_MAX
}

/// memcached's slab classes with its default settings: each a quarter larger than the last, rounded
/// up to 8; the last has all that is over.
fn memcached_class(bytes: usize) -> u32 {
    const SMALLEST: usize = 96;
    const LAST: u32 = 39;
    let mut size = SMALLEST;
    (1..LAST)
        .find(|_| {
            let fits = bytes <= size;
            size = (size * 5 / 4).next_multiple_of(8);
            fits
        })
        .unwrap_or(LAST)
}

fn memcached_bytes(data_bytes: usize, flags: u32) -> usize {
    let flags_bytes = if flags == 0 { 0 } else { MEMCACHED_FLAGS_BYTES };
    data_bytes + MEMCACHED_OVERHEAD_BYTES + flags_bytes
}

const _: () = assert!(size_of::<Item>() == 48);
