//! What storage commands and arithmetic do to the items, in both forms of the protocol: the classic
//! commands and the meta commands differ in how they ask and answer only.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use presenced_protocol::meta::{Direction, StoreMode};

use super::clock::Now;
use super::hash::Hashed;
use super::item::{Marks, NewItem};
use super::no_room::NoRoom;
use super::shard::Shard;
use super::stat_counters::Count;

/// How a value is stored: over what, and with which flags.
#[derive(Clone, Copy)]
pub(super) struct StoreOptions {
    pub(super) mode: StoreMode,
    /// The CAS number that the item must have.
    pub(super) compare: Option<u64>,
    /// A CAS number below the item's will do, and marks what is stored as stale (`I` of `ms`).
    pub(super) invalidate: bool,
    /// A value that there is no room for takes what was there with it: none is better than a stale
    /// one.
    pub(super) no_room_removes: bool,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// With this CAS number.
    Yes(u64),
    /// The mode's condition was not met.
    No,
    /// The CAS number is another.
    Exists,
    /// There is nothing with a CAS number.
    NotFound,
    NoRoom(NoRoom),
}

/// Stores, or not (`protocol.txt`, *Storage commands*, *Meta Set*).
pub(super) fn store(
    items: &mut Shard,
    key: Hashed<'_>,
    how: &StoreOptions,
    mut new: NewItem<'_>,
    now: Now,
) -> Stored {
    let old = items.find(key, now);
    let bytes = key.key.len() + new.value[0].len();
    if super::item::is_too_large(bytes, new.flags) {
        return no_room(items, old, how, NoRoom::TooLarge);
    }
    items.counters.add(Count::Set);
    let replaces = matches!(how.mode, StoreMode::Set | StoreMode::Replace);
    match (old, how.compare) {
        (None, Some(_)) if replaces => {
            items.counters.add(Count::CasMiss);
            return Stored::NotFound;
        }
        (None, _) if !matches!(how.mode, StoreMode::Set | StoreMode::Add) => return Stored::No,
        (Some(old), _) if how.mode == StoreMode::Add => {
            items.at_mut(old).bump(now);
            return Stored::No;
        }
        (Some(old), Some(unique)) if replaces => {
            let item = items.at(old);
            if how.invalidate && unique != 0 && unique < item.cas {
                new.deadline_s = item.deadline_s;
                new.marks.add(Marks::STALE);
                new.marks.add(item.marks.only(Marks::WON));
            } else if unique != item.cas {
                items.counters.add(Count::CasBad);
                return Stored::Exists;
            }
            items.counters.add(Count::CasHit);
        }
        // To memcached 0 is no number to compare with here.
        (Some(old), Some(unique)) if unique != 0 && unique != items.at(old).cas => {
            return Stored::Exists;
        }
        _ => {}
    }
    let stored = match (how.mode, old) {
        (StoreMode::Append | StoreMode::Prepend, Some(old)) => {
            let stored = extend(items, key, old, how.mode, new.value[0], now);
            // Not an error to memcached, but as if the condition was not met.
            let Ok(number) = stored else {
                return Stored::No;
            };
            Ok(number)
        }
        _ => items.store(key, old, new, now),
    };
    match stored {
        Ok(number) => Stored::Yes(items.at(number).cas),
        Err(why) => no_room(items, old, how, why),
    }
}

fn no_room(items: &mut Shard, old: Option<u32>, how: &StoreOptions, why: NoRoom) -> Stored {
    items.counters.add(why.count());
    if let Some(old) = old.filter(|_| how.no_room_removes) {
        items.remove(old);
    }
    Stored::NoRoom(why)
}

/// Puts more at one end of a value. Flags and expiry stay; to memcached it is a new item, so what
/// it was marked with does not.
fn extend(
    items: &mut Shard,
    key: Hashed<'_>,
    old: u32,
    mode: StoreMode,
    more: &[u8],
    now: Now,
) -> Result<u32, NoRoom> {
    let item = items.at(old);
    let (flags, deadline_s) = (item.flags, item.deadline_s);
    let value = item.value().to_vec();
    let value = match mode {
        StoreMode::Prepend => [more, &value],
        _ => [&value, more],
    };
    let new = NewItem {
        value,
        flags,
        deadline_s,
        marks: Marks::default(),
    };
    items.store(key, Some(old), new, now)
}

/// What came of arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArithmeticResult {
    /// It comes to this.
    Done {
        /// The result.
        result: u64,
        /// The item's number.
        number: u32,
        /// It is the item that it was: see [`Shard::write_number`].
        same: bool,
    },
    NotFound,
    /// The CAS number is another.
    Exists,
    NotNumeric,
    /// The result has more digits, and there is no memory for them.
    OutOfMemory,
}

/// Adds to a number or subtracts from it (`protocol.txt`, *Increment/Decrement*).
pub(super) fn count(
    items: &mut Shard,
    key: Hashed<'_>,
    direction: Direction,
    delta: u64,
    compare: u64,
    now: Now,
) -> ArithmeticResult {
    let Some(number) = items.find(key, now) else {
        items.counters.add(match direction {
            Direction::Up => Count::IncrMiss,
            Direction::Down => Count::DecrMiss,
        });
        return ArithmeticResult::NotFound;
    };
    let item = items.at(number);
    // Before the CAS number, as memcached does.
    if item.value().is_empty() {
        return ArithmeticResult::NotNumeric;
    }
    if compare != 0 && compare != item.cas {
        return ArithmeticResult::Exists;
    }
    let Some(value) = number_in(item.value()) else {
        return ArithmeticResult::NotNumeric;
    };
    let (result, count) = match direction {
        Direction::Up => (value.wrapping_add(delta), Count::IncrHit),
        Direction::Down => (value.saturating_sub(delta), Count::DecrHit),
    };
    items.counters.add(count);
    let digits = itoa::Buffer::new().format(result).to_owned();
    match items.write_number(key, number, digits.as_bytes(), now) {
        Ok(same) => ArithmeticResult::Done {
            result,
            number,
            same,
        },
        // A number has 20 digits at most: it is never too large where there is memory for any item.
        Err(_) => ArithmeticResult::OutOfMemory,
    }
}

/// The number at the beginning of a value, as C's `strtoull` reads it: blanks, a sign, digits; then
/// the value's end or a blank, and whatever follows that.
fn number_in(value: &[u8]) -> Option<u64> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let start = value.iter().position(|byte| !is_blank(byte))?;
    let text = &value[start..];
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let (text, negative) = match text.strip_prefix(b"-") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let end = text.iter().position(|byte| !byte.is_ascii_digit());
    let (digits, rest) = text.split_at(end.unwrap_or(text.len()));
    if digits.is_empty()
        || rest
            .first()
            .is_some_and(|byte| !is_blank(byte) && *byte != 0)
    {
        return None;
    }
    let number = digits.iter().try_fold(0_u64, |number, digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })?;
    (!negative || number == 0).then_some(number)
}
