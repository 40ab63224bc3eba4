//! The answers to `stats` (`protocol.txt`, *General-purpose statistics*, *Settings statistics*).
//!
//! Names and meanings are memcached's, in its order, so that its tools and exporters read them.
//! What memcached has and this store has not (threads of its own for the LRU, its segments, a
//! watcher's log) is left out rather than made up. There are no slab classes; tools that want some
//! find one, number 1, with chunks of a byte, as memory is counted by the byte.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use presenced_protocol::limits::VALUE_BYTES_MAX;
use presenced_protocol::request::ReceivedKeys;
use presenced_protocol::{Reply, encode};

use super::clock::Now;
use super::processor_time::ProcessorTime;
use super::replies::VERSION;
use super::stat_counters::Count;
use super::store::{Store, Sum};

/// Bytes of a page in `stats slabs`, memcached's.
const PAGE_BYTES: u64 = 1024 * 1024;

/// How many slab classes memcached may have.
const SLAB_CLASSES: u32 = 64;

/// Appends the whole answer.
pub(super) fn write(out: &mut Vec<u8>, store: &Store, mut arguments: ReceivedKeys<'_>, now: Now) {
    let argument = arguments.next();
    match argument.map(|word| word.as_bytes()) {
        None => general(out, store, now),
        Some(b"settings") => settings(out, store),
        Some(b"items") => items(out, store, now),
        Some(b"slabs") => slabs(out, store),
        Some(b"sizes") => text(out, "sizes_status", "disabled"),
        Some(b"reset") => {
            store.reset();
            return encode::reply(out, &Reply::Reset);
        }
        // Who is connected is not listed.
        Some(b"conns") => {}
        Some(b"detail") => return encode::reply(out, &detail(arguments)),
        Some(b"cachedump") => return encode::reply(out, &cachedump(arguments)),
        Some(_) => return encode::reply(out, &Reply::Error(b"")),
    }
    encode::reply(out, &Reply::End);
}

/// Statistics by the beginning of the key are never collected, so none are dumped.
fn detail(mut arguments: ReceivedKeys<'_>) -> Reply<&'static [u8]> {
    match arguments.next().map(|word| word.as_bytes()) {
        Some(b"on" | b"off") => Reply::Ok,
        Some(b"dump") => Reply::End,
        _ => Reply::ClientError(b"usage: stats detail on|off|dump"),
    }
}

/// The keys of a slab class, of which none is listed: memcached itself lists no more than the first
/// megabytes of those that were not used for a while.
fn cachedump(mut arguments: ReceivedKeys<'_>) -> Reply<&'static [u8]> {
    let (Some(class), Some(count)) = (arguments.next(), arguments.next()) else {
        return Reply::ClientError(b"bad command line");
    };
    let number = |word: &[u8]| str::from_utf8(word).ok()?.parse::<u32>().ok();
    match (number(class.as_bytes()), number(count.as_bytes())) {
        (Some(class), Some(_)) if class < SLAB_CLASSES => Reply::End,
        (Some(_), Some(_)) => Reply::ClientError(b"Illegal slab id"),
        _ => Reply::ClientError(b"bad command line format"),
    }
}

fn general(out: &mut Vec<u8>, store: &Store, now: Now) {
    let sum = store.sum();
    process(out, store, now);
    connections(out, store, &sum);
    commands(out, store, &sum);
    traffic(out, store);
    contents(out, &sum);
}

/// The process, and the time.
fn process(out: &mut Vec<u8>, store: &Store, now: Now) {
    number(out, "pid", std::process::id().into());
    number(out, "uptime", store.clock.uptime_s());
    number(out, "time", now.unix_s);
    text(out, "version", VERSION);
    number(out, "pointer_size", usize::BITS.into());
    if let Some(time) = ProcessorTime::now() {
        seconds(out, "rusage_user", time.user);
        seconds(out, "rusage_system", time.system);
    }
}

/// Connections, and what is held for them.
fn connections(out: &mut Vec<u8>, store: &Store, sum: &Sum) {
    let connections = &store.connections;
    let max = store.options().connections_max;
    number(out, "max_connections", max.into());
    number(out, "curr_connections", load(&connections.open));
    number(out, "total_connections", load(&connections.total));
    number(out, "rejected_connections", load(&connections.rejected));
    // None is kept for a connection to come.
    number(out, "connection_structures", load(&connections.open));
    number(out, "response_obj_oom", load(&connections.unread));
    number(out, "read_buf_bytes", sum.held_bytes);
    number(out, "read_buf_oom", load(&connections.unended));
}

/// Commands, and how they ended.
fn commands(out: &mut Vec<u8>, store: &Store, sum: &Sum) {
    let count = |count| sum.counters.of(count);
    number(out, "cmd_get", count(Count::GetHit) + count(Count::GetMiss));
    number(out, "cmd_set", count(Count::Set));
    number(out, "cmd_flush", load(&store.flushes));
    number(
        out,
        "cmd_touch",
        count(Count::TouchHit) + count(Count::TouchMiss),
    );
    number(out, "cmd_meta", count(Count::Meta));
    number(out, "get_hits", count(Count::GetHit));
    number(out, "get_misses", count(Count::GetMiss));
    number(out, "get_expired", count(Count::GetExpired));
    number(out, "get_flushed", count(Count::GetFlushed));
    number(out, "delete_misses", count(Count::DeleteMiss));
    number(out, "delete_hits", count(Count::DeleteHit));
    number(out, "incr_misses", count(Count::IncrMiss));
    number(out, "incr_hits", count(Count::IncrHit));
    number(out, "decr_misses", count(Count::DecrMiss));
    number(out, "decr_hits", count(Count::DecrHit));
    number(out, "cas_misses", count(Count::CasMiss));
    number(out, "cas_hits", count(Count::CasHit));
    number(out, "cas_badval", count(Count::CasBad));
    number(out, "touch_hits", count(Count::TouchHit));
    number(out, "touch_misses", count(Count::TouchMiss));
    number(out, "store_too_large", count(Count::TooLarge));
    number(out, "store_no_memory", count(Count::OutOfMemory));
}

/// What goes through connections, and the limits on it.
fn traffic(out: &mut Vec<u8>, store: &Store) {
    let (connections, options) = (&store.connections, store.options());
    if options.idle_timeout.is_some() {
        number(out, "idle_kicks", load(&connections.idle_kicks));
    }
    number(out, "bytes_read", load(&connections.bytes_read));
    number(out, "bytes_written", load(&connections.bytes_written));
    number(out, "limit_maxbytes", options.memory_bytes_max as u64);
    // Connections over the limit are answered and closed, never left to wait.
    number(out, "accepting_conns", 1);
    number(out, "listen_disabled_num", 0);
    number(out, "threads", options.threads as u64);
    number(out, "conn_yields", load(&connections.yields));
}

/// Items, and what became of those that are gone.
fn contents(out: &mut Vec<u8>, sum: &Sum) {
    let count = |count| sum.counters.of(count);
    number(out, "bytes", sum.bytes);
    number(out, "curr_items", sum.items);
    number(out, "total_items", count(Count::Stored));
    number(out, "expired_unfetched", count(Count::ExpiredUnfetched));
    number(out, "evicted_unfetched", count(Count::EvictedUnfetched));
    number(out, "evictions", count(Count::Evicted));
    number(out, "reclaimed", count(Count::Reclaimed));
    // See `Count::Reclaimed`.
    number(out, "crawler_reclaimed", 0);
    number(out, "crawler_items_checked", 0);
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn settings(out: &mut Vec<u8>, store: &Store) {
    let options = store.options();
    number(out, "maxbytes", options.memory_bytes_max as u64);
    number(out, "maxconns", options.connections_max.into());
    number(out, "udpport", 0);
    text(out, "evictions", "on");
    number(out, "num_threads", options.threads as u64);
    text(out, "detail_enabled", "no");
    text(out, "cas_enabled", "yes");
    text(out, "binding_protocol", "ascii");
    text(out, "auth_enabled_sasl", "no");
    text(out, "auth_enabled_ascii", "no");
    number(out, "item_size_max", VALUE_BYTES_MAX as u64);
    text(out, "maxconns_fast", "yes");
    text(out, "flush_enabled", "yes");
    text(out, "dump_enabled", "no");
    let idle = options.idle_timeout.unwrap_or_default();
    number(out, "idle_timeout", idle.as_secs());
}

fn items(out: &mut Vec<u8>, store: &Store, now: Now) {
    let sum = store.sum();
    if sum.items == 0 {
        return;
    }
    let count = |count| sum.counters.of(count);
    let used_s = sum.oldest_used_s.unwrap_or(now.uptime_s);
    let age_s = now.uptime_s.saturating_sub(used_s);
    number(out, "items:1:number", sum.items);
    number(out, "items:1:age", age_s.into());
    number(out, "items:1:mem_requested", sum.bytes);
    number(out, "items:1:evicted", count(Count::Evicted));
    number(out, "items:1:evicted_nonzero", count(Count::EvictedNonzero));
    let idle_s = sum.evicted_idle_s.unwrap_or_default();
    number(out, "items:1:evicted_time", idle_s.into());
    number(out, "items:1:outofmemory", count(Count::OutOfMemory));
    number(out, "items:1:tailrepairs", 0);
    number(out, "items:1:reclaimed", count(Count::Reclaimed));
    number(
        out,
        "items:1:expired_unfetched",
        count(Count::ExpiredUnfetched),
    );
    number(
        out,
        "items:1:evicted_unfetched",
        count(Count::EvictedUnfetched),
    );
    number(out, "items:1:crawler_reclaimed", 0);
    number(out, "items:1:crawler_items_checked", 0);
}

fn slabs(out: &mut Vec<u8>, store: &Store) {
    let sum = store.sum();
    let count = |count| sum.counters.of(count);
    let bytes_max = store.options().memory_bytes_max as u64;
    number(out, "1:chunk_size", 1);
    number(out, "1:chunks_per_page", PAGE_BYTES);
    number(out, "1:total_pages", bytes_max.div_ceil(PAGE_BYTES));
    number(out, "1:total_chunks", bytes_max);
    number(out, "1:used_chunks", sum.bytes);
    number(out, "1:free_chunks", bytes_max - sum.bytes - sum.held_bytes);
    number(out, "1:free_chunks_end", 0);
    number(out, "1:get_hits", count(Count::GetHit));
    number(out, "1:cmd_set", count(Count::Set));
    number(out, "1:delete_hits", count(Count::DeleteHit));
    number(out, "1:incr_hits", count(Count::IncrHit));
    number(out, "1:decr_hits", count(Count::DecrHit));
    number(out, "1:cas_hits", count(Count::CasHit));
    number(out, "1:cas_badval", count(Count::CasBad));
    number(out, "1:touch_hits", count(Count::TouchHit));
    number(out, "active_slabs", 1);
    number(out, "total_malloced", sum.bytes);
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    text(out, name, itoa::Buffer::new().format(value));
}

fn seconds(out: &mut Vec<u8>, name: &str, time: Duration) {
    let (whole_s, rest_us) = (time.as_secs(), time.subsec_micros());
    text(out, name, &format!("{whole_s}.{rest_us:06}"));
}

fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    let (name, value) = (name.as_bytes(), value.as_bytes());
    encode::reply(out, &Reply::Stat { name, value });
}
