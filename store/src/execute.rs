//! A request on the store: does what it asks and appends memcached's reply.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use presenced_protocol::key::KEY_BYTES_MAX;
use presenced_protocol::meta::StoreMode;
use presenced_protocol::request::{ReceivedKeys, StoreVerb};
use presenced_protocol::{
    BadRequest, BadRequestKind, Received, ReceivedKey, Reply, Request, base64, encode,
};

use super::clock::Now;
use super::item::{Marks, NewItem, deadline_s};
use super::mutations::{self, ArithmeticResult, StoreOptions, Stored};
use super::no_room::NoRoom;
use super::replies::{NOT_NUMERIC, OUT_OF_MEMORY_COUNTING, VERSION};
use super::stat_counters::Count;
use super::store::Store;
use super::{meta, stats};
use crate::limits::{FEW_KEYS, PREFETCHED_MAX};

/// How a connection goes on after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Continue,
    Close,
}

/// Carries out any request but those for many keys ([`get`]), which do nothing here.
pub(super) fn execute(store: &Store, request: &Received<'_>, now: Now, out: &mut Vec<u8>) -> After {
    let (answer, noreply) = match *request {
        Request::Store { noreply, .. } => (stored(store, request, now), noreply),
        Request::Arithmetic { noreply, .. } => (counted(store, request, now), noreply),
        Request::Touch {
            key,
            exptime,
            noreply,
        } => (touch(store, key, exptime, now), noreply),
        Request::Delete { key, noreply } => (delete(store, key, now), noreply),
        Request::MetaGet { key, flags } => {
            meta::get(store, key, flags, now, out);
            return After::Continue;
        }
        Request::MetaSet { key, value, flags } => {
            meta::set(store, key, value, flags, now, out);
            return After::Continue;
        }
        Request::MetaDelete { key, flags } => {
            meta::delete(store, key, flags, now, out);
            return After::Continue;
        }
        Request::MetaArithmetic { key, flags } => {
            meta::arithmetic(store, key, flags, now, out);
            return After::Continue;
        }
        Request::MetaDebug { key, base64 } => {
            meta::debug(store, key, base64, now, out);
            return After::Continue;
        }
        Request::Stats { arguments } => {
            stats::write(out, store, arguments, now);
            return After::Continue;
        }
        Request::FlushAll { delay, noreply } => {
            store.flush_all(delay, now);
            (Reply::Ok, noreply)
        }
        // There is one log, and its level is a flag.
        Request::Verbosity { noreply, .. } => (Reply::Ok, noreply),
        Request::MetaNoop => (Reply::MetaNoop, false),
        Request::Version => (Reply::Version(VERSION.as_bytes()), false),
        Request::Quit => return After::Close,
        Request::Get { .. } | Request::GetAndTouch { .. } => return After::Continue,
        // What it does not have is an unknown command, whatever its line ends in.
        _ => (Reply::Error(&b""[..]), false),
    };
    if !noreply {
        encode::reply(out, &answer);
    }
    After::Continue
}

/// What a request for many keys asks for.
#[derive(Clone, Copy)]
pub(super) struct ManyKeys<'a> {
    pub(super) keys: ReceivedKeys<'a>,
    /// The new expiry time, for `gat` and `gats`.
    pub(super) exptime: Option<i64>,
    pub(super) with_cas: bool,
}

impl<'a> ManyKeys<'a> {
    /// What this request asks for, if it is one for many keys.
    #[inline]
    pub(super) fn by(request: &Received<'a>) -> Option<ManyKeys<'a>> {
        match *request {
            Request::Get { keys, with_cas } => Some(ManyKeys {
                keys,
                exptime: None,
                with_cas,
            }),
            Request::GetAndTouch {
                exptime,
                keys,
                with_cas,
            } => Some(ManyKeys {
                keys,
                exptime: Some(exptime),
                with_cas,
            }),
            _ => None,
        }
    }
}

/// Answers a request for many keys from the `done`-th on, until `out` holds `out_bytes_max`: so it
/// holds at most one value more than that. Returns how many keys are done then, or nothing when
/// the answer is whole.
pub(super) fn get(
    store: &Store,
    asked: &ManyKeys<'_>,
    done: usize,
    now: Now,
    out: &mut Vec<u8>,
    out_bytes_max: usize,
) -> Option<usize> {
    let mut keys = asked.keys.skip(done);
    let mut prefetched = done;
    let mut done = done;
    loop {
        if done == prefetched {
            prefetched += PREFETCHED_MAX;
            let ahead = keys.clone();
            // For a few it is not worth the while.
            if ahead.clone().nth(FEW_KEYS).is_some() {
                store.prefetch(ahead.map(|key| key.as_bytes()));
            }
        }
        let Some(key) = keys.next() else {
            break;
        };
        if out.len() >= out_bytes_max {
            return Some(done);
        }
        value(store, key, asked, now, out);
        done += 1;
    }
    encode::reply(out, &Reply::End);
    None
}

fn value(store: &Store, key: ReceivedKey<'_>, asked: &ManyKeys<'_>, now: Now, out: &mut Vec<u8>) {
    let (hit, miss) = match asked.exptime {
        None => (Count::GetHit, Count::GetMiss),
        Some(_) => (Count::TouchHit, Count::TouchMiss),
    };
    let (mut items, hashed) = store.shard(key.as_bytes());
    let Some(number) = items.find(hashed, now) else {
        items.counters.add(miss);
        return;
    };
    items.counters.add(hit);
    let item = items.at_mut(number);
    item.hit(now);
    if let Some(exptime) = asked.exptime {
        item.deadline_s = deadline_s(exptime, now);
    }
    let cas = asked.with_cas.then_some(item.cas);
    encode::value(out, hashed.key, item.flags, item.value(), cas);
}

fn stored(store: &Store, request: &Received<'_>, now: Now) -> Reply<&'static [u8]> {
    let Request::Store {
        verb,
        key,
        flags,
        exptime,
        value,
        ..
    } = *request
    else {
        return Reply::Error(b"");
    };
    let (mode, compare) = match verb {
        StoreVerb::Set => (StoreMode::Set, None),
        StoreVerb::Add => (StoreMode::Add, None),
        StoreVerb::Replace => (StoreMode::Replace, None),
        StoreVerb::Append => (StoreMode::Append, None),
        StoreVerb::Prepend => (StoreMode::Prepend, None),
        StoreVerb::Cas { unique } => (StoreMode::Set, Some(unique)),
    };
    let how = StoreOptions {
        mode,
        compare,
        invalidate: false,
        no_room_removes: verb == StoreVerb::Set,
    };
    let new = NewItem {
        value: [value, b""],
        flags,
        deadline_s: deadline_s(exptime, now),
        marks: Marks::default(),
    };
    let (mut items, key) = store.shard(key.as_bytes());
    match mutations::store(&mut items, key, &how, new, now) {
        Stored::Yes(_) => Reply::Stored,
        Stored::No => Reply::NotStored,
        Stored::Exists => Reply::Exists,
        Stored::NotFound => Reply::NotFound,
        Stored::NoRoom(why) => why.reply(),
    }
}

fn counted(store: &Store, request: &Received<'_>, now: Now) -> Reply<&'static [u8]> {
    let Request::Arithmetic {
        direction,
        key,
        delta,
        ..
    } = *request
    else {
        return Reply::Error(b"");
    };
    let (mut items, key) = store.shard(key.as_bytes());
    match mutations::count(&mut items, key, direction, delta, 0, now) {
        ArithmeticResult::Done { result, .. } => Reply::Number(result),
        ArithmeticResult::NotFound | ArithmeticResult::Exists => Reply::NotFound,
        ArithmeticResult::NotNumeric => NOT_NUMERIC,
        ArithmeticResult::OutOfMemory => OUT_OF_MEMORY_COUNTING,
    }
}

fn touch(store: &Store, key: ReceivedKey<'_>, exptime: i64, now: Now) -> Reply<&'static [u8]> {
    let (mut items, key) = store.shard(key.as_bytes());
    let Some(number) = items.find(key, now) else {
        items.counters.add(Count::TouchMiss);
        return Reply::NotFound;
    };
    items.counters.add(Count::TouchHit);
    let item = items.at_mut(number);
    item.hit(now);
    item.deadline_s = deadline_s(exptime, now);
    Reply::Touched
}

fn delete(store: &Store, key: ReceivedKey<'_>, now: Now) -> Reply<&'static [u8]> {
    let (mut items, key) = store.shard(key.as_bytes());
    let Some(number) = items.find(key, now) else {
        items.counters.add(Count::DeleteMiss);
        return Reply::NotFound;
    };
    items.counters.add(Count::DeleteHit);
    items.remove(number);
    Reply::Deleted
}

/// Does what a bad request does to the items. Returns what is answered, if anything is.
pub(super) fn refuse(
    store: &Store,
    bad: &BadRequest<'_>,
    noreply: bool,
    now: Now,
) -> Option<Reply<&'static [u8]>> {
    let refused = match bad.kind {
        BadRequestKind::TooLarge {
            key,
            base64,
            removes,
        } => Some((NoRoom::TooLarge, key, base64, removes)),
        BadRequestKind::OutOfMemory {
            key,
            base64,
            removes,
        } => Some((NoRoom::OutOfMemory, key, base64, removes)),
        _ => None,
    };
    if let Some((why, key, base64, removes)) = refused {
        let mut buffer = [0; KEY_BYTES_MAX];
        let decoded = base64.then(|| base64::decode(key, &mut buffer)).flatten();
        let (mut items, key) = store.shard(decoded.unwrap_or(key.as_bytes()));
        items.counters.add(why.count());
        if let Some(number) = items.find(key, now).filter(|_| removes) {
            items.remove(number);
        }
    }
    // A page that a browser was led to is told nothing, as memcached does.
    let silent = noreply || bad.kind == BadRequestKind::Http;
    (!silent).then(|| bad.reply())
}
