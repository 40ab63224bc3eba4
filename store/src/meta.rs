//! The meta commands (`protocol.txt`, *Meta Get* to *Meta Debug*), in the order in which memcached
//! goes through their flags, which shows in their answers.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use presenced_protocol::key::KEY_BYTES_MAX;
use presenced_protocol::meta::{Direction, Flag, Flags, ReplyFlag, StoreMode};
use presenced_protocol::reply::MetaStatus;
use presenced_protocol::{ReceivedKey, Reply, base64, encode};

use super::clock::Now;
use super::hash::Hashed;
use super::item::{Item, Marks, NEVER, NewItem, deadline_s, seconds_left};
use super::meta_reply::{Buffers, MetaRequest, ReplyFlags, shown};
use super::mutations::{self, ArithmeticResult, StoreOptions, Stored};
use super::replies::{NOT_NUMERIC, OUT_OF_MEMORY_COUNTING, OUT_OF_MEMORY_MAKING};
use super::shard::Shard;
use super::stat_counters::Count;
use super::store::Store;

/// `mg` (*Meta Get*).
pub(super) fn get(
    store: &Store,
    key: ReceivedKey<'_>,
    flags: Flags<'_>,
    now: Now,
    out: &mut Vec<u8>,
) {
    let mut buffers = Buffers::default();
    let asked = MetaRequest::new(key, flags, &mut buffers);
    let (mut items, hashed) = store.shard(asked.key);
    items.counters.add(Count::Meta);
    let found = items.find(hashed, now);
    let made = found.is_none() && flags.has(b'N');
    let number = found.or_else(|| made.then(|| vivify(&mut items, hashed, b"", now)).flatten());
    let touches = flags.has(b'T');
    let Some(number) = number else {
        items.counters.add(if touches {
            Count::TouchMiss
        } else {
            Count::GetMiss
        });
        if !flags.has(b'q') {
            encode::meta_reply(out, MetaStatus::Miss, asked.echo(asked.base64).iter());
        }
        return;
    };
    items.counters.add(if touches {
        Count::TouchHit
    } else {
        Count::GetHit
    });
    let item = items.at_mut(number);
    let answers = tell(item, &asked, made, now);
    if !flags.has(b'u') {
        item.hit(now);
    }
    if flags.has(b'v') {
        encode::meta_value(out, item.value(), answers.iter());
    } else {
        encode::meta_reply(out, MetaStatus::Done, answers.iter());
    }
}

/// Does to an item what the flags of an `mg` ask, and gathers what they ask to be told.
fn tell<'a>(item: &mut Item, asked: &MetaRequest<'a>, made: bool, now: Now) -> ReplyFlags<'a> {
    let base64 = item.marks.has(Marks::BASE64);
    let mut answers = ReplyFlags::new();
    let mut won = false;
    for flag in asked.flags {
        match flag {
            Flag::Exptime(exptime) => item.deadline_s = deadline_s(exptime, now),
            Flag::Vivify(exptime) if made => {
                item.deadline_s = deadline_s(exptime, now);
                won = true;
            }
            Flag::Recache(seconds) => {
                let soon = seconds != 0 && item.deadline_s < deadline_s(seconds, now);
                won |= soon && !made && item.deadline_s != NEVER && !item.marks.has(Marks::WON);
            }
            Flag::ReturnSize => answers.push(ReplyFlag::Size(item.value().len() as u64)),
            Flag::ReturnTtl => answers.push(ReplyFlag::Ttl(item.seconds_left(now))),
            Flag::ReturnCas => answers.push(ReplyFlag::Cas(item.cas)),
            Flag::ReturnClientFlags => answers.push(ReplyFlag::ClientFlags(item.flags)),
            Flag::ReturnLastAccess => {
                let seconds = now.uptime_s.saturating_sub(item.used_s);
                answers.push(ReplyFlag::LastAccess(seconds));
            }
            Flag::ReturnHit => answers.push(ReplyFlag::Hit(item.marks.has(Marks::FETCHED))),
            flag => answers.echo(flag, asked, base64),
        }
    }
    let told_before = item.marks.has(Marks::WON);
    if told_before {
        answers.push(ReplyFlag::AlreadyWon);
    }
    if item.marks.has(Marks::STALE) {
        answers.push(ReplyFlag::Stale);
        won |= !told_before;
    }
    if won {
        answers.push(ReplyFlag::Won);
        item.marks.add(Marks::WON);
    }
    answers
}

/// `ms` (*Meta Set*).
pub(super) fn set(
    store: &Store,
    key: ReceivedKey<'_>,
    value: &[u8],
    flags: Flags<'_>,
    now: Now,
    out: &mut Vec<u8>,
) {
    let mut buffers = Buffers::default();
    let asked = MetaRequest::new(key, flags, &mut buffers);
    let mut how = StoreOptions {
        mode: StoreMode::Set,
        compare: None,
        invalidate: flags.has(b'I'),
        no_room_removes: true,
    };
    let mut new = NewItem {
        value: [value, b""],
        flags: 0,
        deadline_s: NEVER,
        marks: Marks::default(),
    };
    if asked.base64 {
        new.marks.add(Marks::BASE64);
    }
    for flag in flags {
        match flag {
            Flag::StoreMode(mode) => how.mode = mode,
            Flag::CompareCas(unique) => how.compare = Some(unique),
            Flag::ClientFlags(flags) => new.flags = flags,
            Flag::Exptime(exptime) => new.deadline_s = deadline_s(exptime, now),
            _ => {}
        }
    }
    let (mut items, hashed) = store.shard(asked.key);
    items.counters.add(Count::Meta);
    let stored = mutations::store(&mut items, hashed, &how, new, now);
    drop(items);
    let (status, cas) = match stored {
        Stored::Yes(_) if flags.has(b'q') => return,
        Stored::Yes(cas) => (MetaStatus::Done, cas),
        Stored::No => (MetaStatus::NotStored, 0),
        Stored::Exists => (MetaStatus::Exists, 0),
        Stored::NotFound => (MetaStatus::NotFound, 0),
        Stored::NoRoom(why) => return encode::reply(out, &why.reply()),
    };
    let mut answers = ReplyFlags::new();
    for flag in flags {
        match flag {
            Flag::ReturnCas => answers.push(ReplyFlag::Cas(cas)),
            flag => answers.echo(flag, &asked, asked.base64),
        }
    }
    encode::meta_reply(out, status, answers.iter());
}

/// `md` (*Meta Delete*).
pub(super) fn delete(
    store: &Store,
    key: ReceivedKey<'_>,
    flags: Flags<'_>,
    now: Now,
    out: &mut Vec<u8>,
) {
    let mut buffers = Buffers::default();
    let asked = MetaRequest::new(key, flags, &mut buffers);
    let (mut compare, mut deadline) = (None, None);
    for flag in flags {
        match flag {
            Flag::CompareCas(unique) => compare = Some(unique),
            Flag::Exptime(exptime) => deadline = Some(deadline_s(exptime, now)),
            _ => {}
        }
    }
    let (mut items, hashed) = store.shard(asked.key);
    items.counters.add(Count::Meta);
    let status = match items.find(hashed, now) {
        None => {
            items.counters.add(Count::DeleteMiss);
            MetaStatus::NotFound
        }
        Some(number) if compare.is_some_and(|unique| unique != items.at(number).cas) => {
            items.counters.add(Count::DeleteMiss);
            MetaStatus::Exists
        }
        Some(number) if flags.has(b'I') => {
            let item = items.at_mut(number);
            item.deadline_s = deadline.unwrap_or(item.deadline_s);
            item.marks.add(Marks::STALE);
            // So that the next client is told to renew it.
            item.marks.remove(Marks::WON);
            items.renew_cas(number);
            MetaStatus::Done
        }
        Some(number) => {
            items.counters.add(Count::DeleteHit);
            items.remove(number);
            MetaStatus::Done
        }
    };
    if status != MetaStatus::Done || !flags.has(b'q') {
        encode::meta_reply(out, status, asked.echo(asked.base64).iter());
    }
}

/// `ma` (*Meta Arithmetic*).
pub(super) fn arithmetic(
    store: &Store,
    key: ReceivedKey<'_>,
    flags: Flags<'_>,
    now: Now,
    out: &mut Vec<u8>,
) {
    let mut buffers = Buffers::default();
    let asked = MetaRequest::new(key, flags, &mut buffers);
    let (mut direction, mut delta, mut initial, mut compare) = (Direction::Up, 1, 0, 0);
    for flag in flags {
        match flag {
            Flag::Direction(to) => direction = to,
            Flag::Delta(number) => delta = number,
            Flag::Initial(number) => initial = number,
            Flag::CompareCas(unique) => compare = unique,
            _ => {}
        }
    }
    let (mut items, hashed) = store.shard(asked.key);
    items.counters.add(Count::Meta);
    let counted = mutations::count(&mut items, hashed, direction, delta, compare, now);
    let (status, number, result, same, made) = match counted {
        ArithmeticResult::Done {
            result,
            number,
            same,
        } => (MetaStatus::Done, Some(number), result, same, false),
        ArithmeticResult::NotFound if flags.has(b'N') => {
            let digits = itoa::Buffer::new().format(initial).to_owned();
            let Some(made) = vivify(&mut items, hashed, digits.as_bytes(), now) else {
                return encode::reply(out, &OUT_OF_MEMORY_MAKING);
            };
            (MetaStatus::NotStored, Some(made), initial, true, true)
        }
        ArithmeticResult::NotFound => (MetaStatus::NotFound, None, 0, true, false),
        ArithmeticResult::Exists => (MetaStatus::Exists, None, 0, true, false),
        ArithmeticResult::NotNumeric => return encode::reply(out, &NOT_NUMERIC),
        ArithmeticResult::OutOfMemory => return encode::reply(out, &OUT_OF_MEMORY_COUNTING),
    };
    let Some(number) = number else {
        encode::meta_reply(out, status, asked.echo(asked.base64).iter());
        return;
    };
    let answers = tell_counted(items.at_mut(number), &asked, same, made, now);
    if flags.has(b'q') && !made {
        return;
    }
    if flags.has(b'v') {
        let mut digits = itoa::Buffer::new();
        encode::meta_value(out, digits.format(result).as_bytes(), answers.iter());
    } else {
        encode::meta_reply(out, MetaStatus::Done, answers.iter());
    }
}

/// Does to an item what the flags of an `ma` ask, and gathers what they ask to be told. Where the
/// number took a new item, memcached goes on with the old one: what `T` sets is told, but lost.
fn tell_counted<'a>(
    item: &mut Item,
    asked: &MetaRequest<'a>,
    same: bool,
    made: bool,
    now: Now,
) -> ReplyFlags<'a> {
    let mut deadline = item.deadline_s;
    let mut answers = ReplyFlags::new();
    for flag in asked.flags {
        match flag {
            Flag::ReturnCas => answers.push(ReplyFlag::Cas(item.cas)),
            Flag::ReturnTtl => answers.push(ReplyFlag::Ttl(seconds_left(deadline, now))),
            Flag::Exptime(exptime) => deadline = deadline_s(exptime, now),
            Flag::Vivify(exptime) if made => deadline = deadline_s(exptime, now),
            flag => answers.echo(flag, asked, asked.base64),
        }
    }
    if same {
        item.deadline_s = deadline;
    }
    answers
}

/// `me` (*Meta Debug*).
pub(super) fn debug(
    store: &Store,
    key: ReceivedKey<'_>,
    base64: bool,
    now: Now,
    out: &mut Vec<u8>,
) {
    let mut buffer = [0; KEY_BYTES_MAX];
    let decoded = base64.then(|| base64::decode(key, &mut buffer)).flatten();
    let (mut items, hashed) = store.shard(decoded.unwrap_or(key.as_bytes()));
    items.counters.add(Count::Meta);
    let Some(number) = items.find(hashed, now) else {
        encode::meta_reply(out, MetaStatus::Miss, []);
        return;
    };
    let item = items.at(number);
    // Below 0 in what is to come, as memcached has it.
    let expiry = item.seconds_left(now).map_or(-1, |left| -i64::from(left));
    let fetched = if item.marks.has(Marks::FETCHED) {
        "yes"
    } else {
        "no"
    };
    let fields = format!(
        "exp={expiry} la={} cas={} fetch={fetched} cls={} size={}",
        now.uptime_s.saturating_sub(item.used_s),
        item.cas,
        item.memcached_class(),
        item.memcached_bytes(),
    );
    let mut buffer = [0; KEY_BYTES_MAX];
    let key = shown(hashed.key, item.marks.has(Marks::BASE64), &mut buffer);
    let fields = fields.as_bytes();
    encode::reply(out, &Reply::MetaDebug { key, fields });
}

/// Makes an item that was not there. None if there is no memory for even that.
fn vivify(items: &mut Shard, key: Hashed<'_>, value: &[u8], now: Now) -> Option<u32> {
    let new = NewItem {
        value: [value, b""],
        flags: 0,
        deadline_s: NEVER,
        marks: Marks::default(),
    };
    items.store(key, None, new, now).ok()
}
