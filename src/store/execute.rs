//! A request on the items: does what it asks and appends memcached's reply.

use presenced_protocol::{
    BadRequest, BadRequestKind, Reply, Request, encode,
    request::{Keys, StoreVerb},
};

use super::{
    items::{Items, TooLarge},
    record::Now,
};

/// What `version` says.
///
/// The protocol spoken is that of memcached 1.6; its meta commands, which clients expect from
/// 1.6.10 on, are not.
pub(super) const VERSION: &str = "1.6.0-presenced";

/// How a connection goes on after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Continue,
    Close,
}

/// Carries out any request but `get`, which may have an answer without bound ([`get`]) and does
/// nothing here, and `stats`, which asks for more than the items know ([`super::stats`]).
pub(super) fn execute(
    items: &mut Items,
    request: &Request<'_>,
    now: Now,
    out: &mut Vec<u8>,
) -> After {
    let (answer, noreply) = match *request {
        Request::Store {
            verb: StoreVerb::Set,
            key,
            flags,
            exptime,
            value,
            noreply,
        } => {
            let answer = match items.set(key, flags, exptime, value, now) {
                Ok(()) => Reply::Stored,
                Err(TooLarge) => Reply::ServerError(&b"object too large for cache"[..]),
            };
            (answer, noreply)
        }
        Request::Touch {
            key,
            exptime,
            noreply,
        } => (touched(items.touch(key, exptime, now)), noreply),
        Request::Delete { key, noreply } => (deleted(items.delete(key, now)), noreply),
        Request::FlushAll { delay, noreply } => {
            items.flush_all(delay, now);
            (Reply::Ok, noreply)
        }
        Request::Version => (Reply::Version(VERSION.as_bytes()), false),
        Request::Quit => return After::Close,
        Request::Get { .. } => return After::Continue,
        // What it does not have is an unknown command, whatever its line ends in.
        _ => (Reply::Error(&b""[..]), false),
    };
    if !noreply {
        encode::reply(out, &answer);
    }
    After::Continue
}

/// Keys looked up in one call of [`get`], hence under one lock: bounds how long others wait for it.
const KEYS_PER_CALL: usize = 64;

/// Answers the next keys of a `get` and, after the last, ends the answer.
///
/// Stops after some keys, or as soon as `out` holds `out_bytes_max`, so it holds at most one value
/// more than that. Returns whether the answer is whole; if not, it is to be called again, and `out`
/// sent before if it is full.
pub(super) fn get(
    items: &mut Items,
    keys: &mut Keys<'_>,
    with_cas: bool,
    now: Now,
    out: &mut Vec<u8>,
    out_bytes_max: usize,
) -> bool {
    for _ in 0..KEYS_PER_CALL {
        if out.len() >= out_bytes_max {
            return false;
        }
        let Some(key) = keys.next() else {
            encode::reply(out, &Reply::End);
            return true;
        };
        items.get(key, now, |found| {
            let value = Reply::Value {
                key: key.as_bytes(),
                flags: found.flags,
                value: found.value,
                cas: with_cas.then_some(found.cas),
            };
            encode::reply(out, &value);
        });
    }
    false
}

/// Answers what could not be read as a request.
pub(super) fn refuse(items: &mut Items, bad: &BadRequest<'_>, noreply: bool, out: &mut Vec<u8>) {
    if let BadRequestKind::TooLarge {
        key,
        base64: false,
        removes: true,
    } = bad.kind
    {
        items.refuse_too_large(key);
    }
    if !noreply {
        encode::reply(out, &bad.reply());
    }
}

fn touched(found: bool) -> Reply<&'static [u8]> {
    if found {
        Reply::Touched
    } else {
        Reply::NotFound
    }
}

fn deleted(found: bool) -> Reply<&'static [u8]> {
    if found {
        Reply::Deleted
    } else {
        Reply::NotFound
    }
}
