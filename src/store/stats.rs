//! The answer to `stats` (`protocol.txt`, *General-purpose statistics*).
//!
//! Names and meanings are memcached's, in its order, so that its tools and exporters read them.
//! What memcached has and this store has not (slabs, threads of its own, its LRU's segments) is left
//! out rather than made up.

use presenced_protocol::{Reply, encode};

use super::{execute::VERSION, items::Items, record::Now};

/// What `stats` tells beside the items.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    pub(super) pid: u32,
    pub(super) uptime_s: u64,
    pub(super) bytes_max: u64,
    pub(super) connections_max: u64,
    pub(super) connections: u64,
    pub(super) connections_total: u64,
    pub(super) connections_rejected: u64,
}

/// Appends the whole answer.
pub(super) fn write(out: &mut Vec<u8>, server: &Server, items: &Items, now: Now) {
    let tally = items.tally();
    text(out, "pid", &server.pid.to_string());
    number(out, "uptime", server.uptime_s);
    number(out, "time", now.unix_s);
    text(out, "version", VERSION);
    number(out, "pointer_size", u64::from(usize::BITS));
    number(out, "max_connections", server.connections_max);
    number(out, "curr_connections", server.connections);
    number(out, "total_connections", server.connections_total);
    number(out, "rejected_connections", server.connections_rejected);
    number(out, "cmd_get", tally.get_hits + tally.get_misses);
    number(out, "cmd_set", tally.sets);
    number(out, "cmd_flush", tally.flushes);
    number(out, "cmd_touch", tally.touch_hits + tally.touch_misses);
    number(out, "get_hits", tally.get_hits);
    number(out, "get_misses", tally.get_misses);
    number(out, "get_expired", tally.get_expired);
    number(out, "get_flushed", tally.get_flushed);
    number(out, "delete_misses", tally.delete_misses);
    number(out, "delete_hits", tally.delete_hits);
    number(out, "touch_hits", tally.touch_hits);
    number(out, "touch_misses", tally.touch_misses);
    number(out, "store_too_large", tally.too_large);
    number(out, "limit_maxbytes", server.bytes_max);
    number(out, "bytes", items.bytes() as u64);
    number(out, "curr_items", items.len() as u64);
    number(out, "total_items", tally.sets);
    number(out, "evictions", tally.evictions);
    number(out, "reclaimed", tally.reclaimed);
    encode::reply(out, &Reply::End);
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    text(out, name, &value.to_string());
}

fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    let (name, value) = (name.as_bytes(), value.as_bytes());
    encode::reply(out, &Reply::Stat { name, value });
}
