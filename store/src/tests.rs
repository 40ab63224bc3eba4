//! The pure part with simulated time, against a plain model of what it should do; a connection over
//! a pipe that nobody reads.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use presenced_protocol::{Key, encode};
use presenced_tasks::{Task, catch};
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::clock::Now;
use super::connection::Connection;
use super::conversation::{Conversation, NextStep};
use super::listener::{Listener, serve};
use super::open::Open;
use super::stat_counters::Count;
use super::{Options, Store, item};
use crate::limits::CRAWL_PLACES;
use crate::listen;

const MANY: usize = 1 << 30;

/// Unix time at the start of each test.
const UNIX_S: u64 = 1_700_000_000;

fn at(uptime_s: u32) -> Now {
    Now {
        uptime_s,
        unix_s: UNIX_S + u64::from(uptime_s),
    }
}

/// What is answered to `input`, all of which must be whole requests.
fn answers(store: &Store, uptime_s: u32, mut input: &[u8]) -> String {
    let mut conversation = Conversation::new(MANY);
    let (mut out, mut all) = (Vec::new(), Vec::new());
    while !input.is_empty() {
        let (done, next_step) = conversation.answer(store, input, at(uptime_s), &mut out);
        assert!(
            done > 0 || next_step == NextStep::Write,
            "not whole: {}",
            input.escape_ascii()
        );
        input = &input[done..];
        all.append(&mut out);
    }
    String::from_utf8(all).unwrap().replace("\r\n", "|")
}

fn store() -> Store {
    Store::new(Options::new(MANY))
}

/// A store of one shard with so much memory.
fn small(bytes_max: usize) -> Store {
    Store::new(Options::new(bytes_max))
}

fn len(store: &Store) -> (u64, u64) {
    let counters = store.counters();
    (counters.items, counters.bytes)
}

fn count(store: &Store, count: Count) -> u64 {
    store.sum().counters.of(count)
}

fn check(store: &Store, uptime_s: u32, input: &str, expected: &str) {
    assert_eq!(
        answers(store, uptime_s, input.as_bytes()),
        expected,
        "at {uptime_s}: {input:?}"
    );
}

#[test]
fn answers_each_command() {
    let store = &small(1 << 20);
    check(
        store,
        5,
        "get a\r\ndelete a\r\ntouch a 0\r\n",
        "END|NOT_FOUND|NOT_FOUND|",
    );
    check(
        store,
        5,
        "set a 7 0 3\r\nxyz\r\nget a b a\r\n",
        "STORED|VALUE a 7 3|xyz|VALUE a 7 3|xyz|END|",
    );
    check(
        store,
        5,
        "set a 0 0 0\r\n\r\nset b 0 0 1\r\ny\r\n",
        "STORED|STORED|",
    );
    check(
        store,
        5,
        "gets a b\r\n",
        "VALUE a 0 0 2||VALUE b 0 1 3|y|END|",
    );
    check(
        store,
        5,
        "touch a 0\r\ndelete a\r\nget a\r\n",
        "TOUCHED|DELETED|END|",
    );
    check(
        store,
        5,
        "version\r\nflush_all\r\nget b\r\n",
        "VERSION 1.6.18|OK|END|",
    );
}

#[test]
fn says_nothing_when_told_so() {
    let store = &store();
    check(
        store,
        5,
        "set a 0 0 1 noreply\r\nx\r\ntouch a 0 noreply\r\nget a\r\n",
        "VALUE a 0 1|x|END|",
    );
    check(
        store,
        5,
        "delete a noreply\r\nflush_all noreply\r\nget a\r\n",
        "END|",
    );
    check(store, 5, "touch a x noreply\r\ndelete a x noreply\r\n", "");
}

#[test]
fn expires_to_the_second() {
    let store = &store();
    check(store, 5, "set a 0 60 1\r\nx\r\n", "STORED|");
    check(store, 64, "get a\r\n", "VALUE a 0 1|x|END|");
    check(
        store,
        65,
        "get a\r\ntouch a 9\r\ndelete a\r\n",
        "END|NOT_FOUND|NOT_FOUND|",
    );
    assert_eq!(len(store), (0, 0));
    // Each of the others finds it out too.
    for ask in ["touch a 9\r\n", "delete a\r\n"] {
        check(store, 70, "set a 0 1 1\r\nx\r\n", "STORED|");
        check(store, 71, ask, "NOT_FOUND|");
        assert_eq!(len(store), (0, 0));
    }
}

#[test]
fn reads_expiry_times_as_memcached_does() {
    let month = 60 * 60 * 24 * 30;
    let far = i64::try_from(UNIX_S).unwrap();
    // Expiry time, set at uptime 5, and how many seconds it lives.
    let cases = [
        (0, None),
        (-1, Some(0)),
        (i64::MIN, Some(0)),
        (1, Some(1)),
        (month, Some(2_592_000)),
        // Unix time from here on, and long ago.
        (month + 1, Some(0)),
        (far + 4, Some(0)),
        (far + 5, Some(0)),
        (far + 6, Some(1)),
        (far + 605, Some(600)),
        (i64::MAX, None),
    ];
    for (exptime, lives) in cases {
        for by_touch in [false, true] {
            let store = &store();
            if by_touch {
                check(store, 5, "set a 0 0 1\r\nx\r\n", "STORED|");
                check(store, 5, &format!("touch a {exptime}\r\n"), "TOUCHED|");
            } else {
                check(
                    store,
                    5,
                    &format!("set a 0 {exptime} 1\r\nx\r\n"),
                    "STORED|",
                );
            }
            let dead_at = lives.map_or(u32::MAX, |seconds| 5 + seconds);
            if dead_at > 5 {
                check(store, dead_at - 1, "get a\r\n", "VALUE a 0 1|x|END|");
            }
            if dead_at < u32::MAX {
                check(store, dead_at, "get a\r\n", "END|");
            }
        }
    }
}

/// Found by trial with memcached 1.6.18, and just so: see [`Shard::flush_all`].
#[test]
fn flushes_late() {
    let store = &store();
    check(
        store,
        10,
        "set a 0 0 1\r\nx\r\nflush_all 3\r\nset b 0 0 1\r\nx\r\n",
        "STORED|OK|STORED|",
    );
    check(store, 11, "get a b\r\n", "VALUE a 0 1|x|VALUE b 0 1|x|END|");
    check(
        store,
        12,
        "get a b\r\nset c 0 0 1\r\nx\r\nget c\r\n",
        "END|STORED|END|",
    );
    check(
        store,
        13,
        "get c\r\nset d 0 0 1\r\nx\r\nget d\r\n",
        "END|STORED|VALUE d 0 1|x|END|",
    );
    check(store, 14, "get d\r\n", "VALUE d 0 1|x|END|");
}

#[test]
fn flushes_even_if_nobody_asks_at_the_time() {
    let store = &store();
    check(
        store,
        10,
        "set a 0 0 1\r\nx\r\nflush_all 3\r\n",
        "STORED|OK|",
    );
    check(
        store,
        99,
        "set b 0 0 1\r\nx\r\nget a b\r\n",
        "STORED|VALUE b 0 1|x|END|",
    );
}

#[test]
fn a_later_flush_takes_the_place_of_one_to_come() {
    let store = &store();
    check(
        store,
        10,
        "flush_all 3\r\nflush_all\r\nset a 0 0 1\r\nx\r\n",
        "OK|OK|STORED|",
    );
    check(store, 12, "get a\r\n", "VALUE a 0 1|x|END|");
    check(store, 12, &format!("flush_all {}\r\n", UNIX_S + 14), "OK|");
    check(store, 13, "get a\r\n", "END|");
}

#[test]
fn a_value_too_large_removes_the_last() {
    let store = &store();
    for bytes in [1_048_517, 2_000_000] {
        check(store, 5, "set a 0 0 1\r\nx\r\n", "STORED|");
        let answer = answers(store, 5, &set("a", 0, 0, bytes));
        assert_eq!(answer, "SERVER_ERROR object too large for cache|");
        check(store, 5, "get a\r\n", "END|");
    }
}

/// It is dropped as it comes in, however long it is, and answered after it.
#[test]
fn a_refused_value_is_not_kept() {
    let store = &store();
    let (mut conversation, mut out) = (Conversation::new(MANY), Vec::new());
    let line = b"set a x 0 22000000\r\n";
    let told = conversation.answer(store, line, at(0), &mut out);
    assert_eq!((told, out.len()), ((line.len(), NextStep::Read), 0));
    let commands = b"flush_all\r\n".repeat(200_000);
    for _ in 0..10 {
        let told = conversation.answer(store, &commands, at(0), &mut out);
        assert_eq!((told, out.len()), ((commands.len(), NextStep::Read), 0));
    }
    let told = conversation.answer(store, b"\r\nmn\r\n", at(0), &mut out);
    assert_eq!(told, (6, NextStep::Read));
    assert_eq!(out, b"CLIENT_ERROR bad command line format\r\nMN\r\n");
}

/// An answer while the client still writes is one that a proxy may give to another client. Nor is
/// it lost where the value's end is wrong.
#[test]
fn a_refused_value_is_answered_when_it_has_come() {
    let large = "SERVER_ERROR object too large for cache\r\n";
    let format = "CLIENT_ERROR bad command line format\r\n";
    for (line, bytes, answer) in [
        ("set a 0 0 2000000", 2_000_000, large),
        ("ms a 2000000", 2_000_000, large),
        ("set a 0 0 2000000 noreply", 2_000_000, ""),
        ("add a x 0 5", 5, format),
        ("append a x 0 5 noreply", 5, ""),
        ("cas a 0 0 0 x", 0, format),
        ("ms a 5 Z", 5, "CLIENT_ERROR invalid flag\r\n"),
    ] {
        for (end, next_step) in [("\r\n", NextStep::Read), ("\rx", NextStep::Close)] {
            let store = &store();
            let (mut conversation, mut out) = (Conversation::new(MANY), Vec::new());
            let value = "v".repeat(bytes);
            for piece in [&format!("{line}\r\n"), &value, "\r"] {
                let (done, told) = conversation.answer(store, piece.as_bytes(), at(0), &mut out);
                let left = usize::from(piece == "\r");
                assert_eq!((done, told), (piece.len() - left, NextStep::Read), "{line}");
                assert!(out.is_empty(), "{line}: {}", out.escape_ascii());
            }
            let told = conversation.answer(store, end.as_bytes(), at(0), &mut out);
            assert_eq!(told, (2, next_step), "{line}");
            assert_eq!(str::from_utf8(&out), Ok(answer), "{line}");
        }
    }
}

/// `set` of a key with a value of this number of bytes.
fn set(key: &str, flags: u32, exptime: i64, value_bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let key = Key::new(key.as_bytes()).unwrap();
    encode::set(&mut out, key, flags, exptime, &vec![b'x'; value_bytes]);
    out
}

/// Found by trial with memcached 1.6.18.
#[test]
fn items_are_as_large_as_memcached_takes_them() {
    for (key_bytes, flags, value_bytes_max) in [
        (1, 0, 1_048_516),
        (1, 5, 1_048_512),
        (10, 0, 1_048_507),
        (250, 0, 1_048_267),
        (6, 1, 1_048_507),
    ] {
        let key = "k".repeat(key_bytes);
        let store = &store();
        let fits = set(&key, flags, 0, value_bytes_max);
        assert_eq!(answers(store, 0, &fits), "STORED|");
        let over = set(&key, flags, 0, value_bytes_max + 1);
        assert_eq!(
            answers(store, 0, &over),
            "SERVER_ERROR object too large for cache|"
        );
        assert_eq!(count(store, Count::TooLarge), 1);
    }
}

/// The sizes that memcached 1.6.18 puts into each class, and what `me` says of them.
#[test]
fn knows_memcached_s_slab_classes() {
    for (value_bytes, class) in [
        (1, 1),
        (35, 1),
        (36, 2),
        (40, 2),
        (200, 6),
        (900, 12),
        (5000, 19),
        (380_000, 38),
        (900_000, 39),
    ] {
        let store = &store();
        answers(store, 0, &set("ab", 0, 0, value_bytes));
        let told = answers(store, 0, b"me ab\r\n");
        let expected = format!(" cls={class} size={}|", value_bytes + 61);
        assert!(told.ends_with(&expected), "{told}");
    }
}

#[test]
fn a_value_over_the_whole_limit_is_too_large_too() {
    let cost = item::cost(1 + 30);
    let store = &small(cost);
    assert_eq!(answers(store, 0, &set("a", 0, 0, 30)), "STORED|");
    assert_eq!(
        answers(store, 0, &set("b", 0, 0, 60)),
        "SERVER_ERROR object too large for cache|"
    );
    // Nothing was evicted for it.
    check(store, 0, "get b\r\n", "END|");
    assert_eq!(
        (len(store), count(store, Count::Evicted)),
        ((1, cost as u64), 0)
    );
}

#[test]
fn evicts_the_least_recently_used() {
    let cost = item::cost(2);
    let store = &small(3 * cost);
    check(
        store,
        0,
        "set a 0 0 1\r\nx\r\nset b 0 0 1\r\nx\r\nset c 0 0 1\r\nx\r\n",
        "STORED|STORED|STORED|",
    );
    check(
        store,
        0,
        "get a\r\ntouch b 0\r\n",
        "VALUE a 0 1|x|END|TOUCHED|",
    );
    check(store, 0, "set d 0 0 1\r\nx\r\nget c\r\n", "STORED|END|");
    // A larger value of the same key has room made for it, the old one's counted.
    let larger = set("a", 0, 0, 30);
    assert_eq!(answers(store, 0, &larger), "STORED|");
    assert_eq!((len(store).0, count(store, Count::Evicted)), (2, 2));
    assert!(len(store).1 <= 3 * cost as u64);
    assert!(answers(store, 0, b"get a\r\n").starts_with("VALUE a 0 30|"));
}

/// When everything was used, one command looks at no more than a few of them.
#[test]
fn evicts_in_order_when_all_are_used() {
    let store = &small(100 * item::cost(4));
    for number in 0..100 {
        check(
            store,
            0,
            &format!("set k{number:03} 0 0 0\r\n\r\nget k{number:03}\r\n"),
            &format!("STORED|VALUE k{number:03} 0 0||END|"),
        );
    }
    check(store, 0, "set k100 0 0 0\r\n\r\n", "STORED|");
    assert_eq!((len(store).0, count(store, Count::Evicted)), (100, 1));
    // The first were given their second chance, and the next had to go.
    check(store, 0, "get k016 k017\r\n", "VALUE k017 0 0||END|");
}

#[test]
fn what_expired_goes_before_what_lives() {
    let store = &small(2 * item::cost(2));
    check(
        store,
        0,
        "set a 0 1 1\r\nx\r\nset b 0 0 1\r\nx\r\n",
        "STORED|STORED|",
    );
    check(
        store,
        1,
        "set c 0 0 1\r\nx\r\nget b c\r\n",
        "STORED|VALUE b 0 1|x|VALUE c 0 1|x|END|",
    );
    let expected = (0, 1, 1);
    assert_eq!(
        (
            count(store, Count::Evicted),
            count(store, Count::Reclaimed),
            count(store, Count::Expired)
        ),
        expected
    );
}

/// Wherever it is in the order of use, and no more places at once than told.
#[test]
fn the_crawl_drops_what_expired() {
    let store = &small(1 << 20);
    check(store, 0, "set first 0 0 0\r\n\r\n", "STORED|");
    for number in 0..600 {
        assert_eq!(
            answers(store, 0, &set(&format!("k{number}"), 0, 60, 1)),
            "STORED|"
        );
    }
    check(store, 0, "set last 0 0 0\r\n\r\n", "STORED|");
    let crawl = |places, uptime_s| store.shards[0].lock().crawl(places, at(uptime_s));
    assert!(!crawl(100, 59) && len(store).0 == 602);
    assert!(!crawl(100, 60));
    assert_eq!(len(store).0, 502);
    // To the end of the places, and from their beginning again.
    assert!(crawl(2000, 60) && crawl(2000, 60));
    assert_eq!((len(store).0, count(store, Count::Expired)), (2, 600));
    check(
        store,
        60,
        "get first k5 last\r\n",
        "VALUE first 0 0||VALUE last 0 0||END|",
    );
    check(store, 60, "flush_all\r\n", "OK|");
    crawl(2000, 60);
    assert_eq!(len(store), (0, 0));
}

/// Their places are given back, and what is left is where it was: to look-ups, and in the order of
/// use.
#[test]
fn places_of_many_items_are_given_back() {
    let store = &small(1 << 20);
    for number in 0..5000 {
        assert_eq!(
            answers(
                store,
                0,
                &set(&format!("k{number}"), 0, i64::from(number % 10 != 0), 1)
            ),
            "STORED|"
        );
    }
    let places = || store.shards[0].lock().places();
    let before = places();
    // Dead first, then moved.
    for _ in 0..100 {
        store.shards[0].lock().crawl(512, at(1));
    }
    assert!(
        before > 5000 && places() <= 500 + 4 * 512,
        "{before} to {}",
        places()
    );
    assert_eq!(len(store).0, 500);
    for number in 0..5000 {
        let key = format!("k{number}");
        let expected = if number % 10 == 0 { "HD|" } else { "EN|" };
        check(store, 1, &format!("mg {key} u\r\n"), expected);
    }
    // The oldest go first.
    for number in 0..20 {
        assert_eq!(
            answers(store, 1, &set(&format!("large{number}"), 0, 0, 50_000)),
            "STORED|"
        );
    }
    let evicted = count(store, Count::Evicted);
    assert!(evicted > 0 && evicted < 500);
    for number in 0..500 {
        let expected = if number < evicted { "EN|" } else { "HD|" };
        check(store, 1, &format!("mg k{} u\r\n", number * 10), expected);
    }
}

#[test]
fn a_step_goes_through_all_shards() {
    let store = store();
    for number in 0..10_000 {
        answers(&store, 0, &set(&format!("k{number}"), 0, 60, 1));
    }
    // By then everything has expired to the store's own clock.
    for shard in &store.shards {
        shard.lock().flush_all(None, at(0));
    }
    for _ in 0..600 {
        store.step();
    }
    assert_eq!(len(&store), (0, 0));
}

#[test]
fn one_round_drops_all_that_is_dead_though_places_are_given_back_meanwhile() {
    for live_every in [0, 2, 7] {
        let store = store();
        for number in 0..20_000 {
            answers(&store, 0, &set(&format!("k{number}"), 0, 60, 1));
        }
        for shard in &store.shards {
            shard.lock().flush_all(None, at(0));
        }
        let is_live = |number: &i32| live_every > 0 && number % live_every == 0;
        let live: Vec<_> = (0..20_000).filter(is_live).collect();
        for number in &live {
            answers(&store, 0, &set(&format!("k{number}"), 0, 60, 1));
        }
        for shard in &store.shards {
            while !shard.lock().crawl(CRAWL_PLACES, at(0)) {}
        }
        assert_eq!(len(&store).0, live.len() as u64, "every {live_every}");
        for number in live {
            check(&store, 0, &format!("mg k{number}\r\n"), "HD|");
        }
    }
}

#[test]
fn an_answer_is_made_in_parts() {
    let store = &store();
    answers(store, 0, &set("a", 0, 0, 10_000));
    let line = format!("get{}\r\nmn\r\n", " a".repeat(200));
    let mut conversation = Conversation::new(MANY);
    let (mut input, mut sent) = (line.as_bytes(), Vec::new());
    loop {
        let mut out = Vec::new();
        let (done, next_step) = conversation.answer(store, input, at(0), &mut out);
        assert!(out.len() < 64 * 1024 + 10_020);
        input = &input[done..];
        sent.append(&mut out);
        if next_step == NextStep::Read {
            break;
        }
    }
    let value = "VALUE a 0 10000\r\n".len() + 10_000 + 2;
    assert_eq!(
        (input.len(), sent.len()),
        (0, 200 * value + "END\r\nMN\r\n".len())
    );
}

/// Whoever speaks the binary protocol would wait for ever otherwise.
#[test]
fn a_binary_request_is_refused_at_once() {
    let mut request = [7; 30];
    request[0] = 0x80;
    let (mut conversation, mut out) = (Conversation::new(MANY), Vec::new());
    let part = conversation.answer(&store(), &request[..23], at(0), &mut out);
    assert_eq!((part, out.len()), ((0, NextStep::Read), 0));
    let whole = conversation.answer(&store(), &request, at(0), &mut out);
    assert_eq!(whole, (30, NextStep::Close));
    assert_eq!(out[..8], [0x81, 7, 0, 0, 0, 0, 0, 0x83]);
    assert_eq!(
        (usize::from(out[11]), &out[12..16]),
        (out.len() - 24, &[7; 4][..])
    );
    // Elsewhere it is a byte as any other.
    check(&store(), 0, "get \u{80}\r\n", "END|");
}

/// C's `strtoull`, as memcached uses it.
#[test]
fn reads_numbers_as_memcached_does() {
    for (value, answer) in [
        ("9", "10"),
        (" 9", "10"),
        ("+9", "10"),
        ("009", "10"),
        ("9 x", "10"),
        ("-0", "1"),
        ("18446744073709551615", "0"),
        ("", "NaN"),
        ("x", "NaN"),
        ("9x", "NaN"),
        ("-9", "NaN"),
        (" ", "NaN"),
        ("+", "NaN"),
        ("18446744073709551616", "NaN"),
    ] {
        let nan = "CLIENT_ERROR cannot increment or decrement non-numeric value";
        let answer = if answer == "NaN" { nan } else { answer };
        let command = format!("set a 0 0 {}\r\n{value}\r\nincr a 1\r\n", value.len());
        check(&store(), 0, &command, &format!("STORED|{answer}|"));
    }
}

/// No two items have the same, whatever shard they are in, and an item's own only grows.
#[test]
fn cas_numbers_are_unique() {
    let store = &store();
    let mut seen = std::collections::HashSet::new();
    for round in 0..3 {
        for number in 0..300 {
            let told = answers(
                store,
                0,
                format!("ms k{number} 1 c\r\n{round}\r\n").as_bytes(),
            );
            let cas: u64 = told
                .trim_start_matches("HD c")
                .trim_end_matches('|')
                .parse()
                .unwrap();
            assert!(seen.insert(cas) && cas > 0);
        }
    }
}

#[test]
fn counts_what_it_does() {
    let store = &small(1 << 20);
    check(
        store,
        0,
        "set a 0 0 1\r\nx\r\nget a b b\r\n",
        "STORED|VALUE a 0 1|x|END|",
    );
    check(store, 0, "set b 0 9 1\r\nx\r\n", "STORED|");
    check(store, 9, "get b\r\n", "END|");
    check(
        store,
        9,
        "touch a 0\r\ntouch b 0\r\ndelete b\r\n",
        "TOUCHED|NOT_FOUND|NOT_FOUND|",
    );
    let counters = store.counters();
    assert_eq!(len(store), (1, item::cost(2) as u64));
    assert_eq!((counters.sets, counters.expired), (2, 1));
    assert_eq!((counters.hits, counters.misses), (2, 4));
    let stats = answers(store, 9, b"stats\r\n");
    for line in [
        "cmd_get 4",
        "get_hits 1",
        "get_expired 1",
        "expired_unfetched 0",
        "reclaimed 0",
        "curr_items 1",
        "total_items 2",
        "touch_misses 1",
    ] {
        assert!(
            stats.contains(&format!("STAT {line}|")),
            "{line} in {stats}"
        );
    }
    assert!(stats.ends_with("|END|"));
    check(store, 9, "stats reset\r\nstats nothing\r\n", "RESET|ERROR|");
    assert_eq!((len(store).0, count(store, Count::Set)), (1, 0));
    check(
        store,
        9,
        "stats conns\r\nstats conns x\r\nstats detail dump\r\n",
        "END|END|END|",
    );
    for more in ["settings", "items", "slabs", "sizes"] {
        let stats = answers(store, 9, format!("stats {more}\r\n").as_bytes());
        assert!(
            stats.starts_with("STAT ") && stats.ends_with("|END|"),
            "{stats}"
        );
    }
}

/// What the store should be, without a limit: a map that looks at everything each time.
#[derive(Default)]
struct Model {
    /// Value and deadline.
    items: HashMap<u8, (u32, Option<u32>)>,
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Get(u8),
    Set(u8, i64),
    Touch(u8, i64),
    Delete(u8),
    FlushAll,
    Wait(u32),
    Crawl(u32),
}

impl Model {
    /// The answer at `uptime_s`; `number` makes each value another.
    fn answer(&mut self, operation: Operation, number: u32, uptime_s: u32) -> String {
        self.items
            .retain(|_, (_, deadline)| deadline.is_none_or(|deadline| deadline > uptime_s));
        let deadline = |exptime: i64| match exptime {
            0 => None,
            _ => Some(uptime_s + u32::try_from(exptime.max(0)).unwrap()),
        };
        match operation {
            Operation::Get(key) => match self.items.get(&key) {
                Some((value, _)) => {
                    format!("VALUE {key} 0 {}|{value}|END|", value.to_string().len())
                }
                None => "END|".into(),
            },
            Operation::Set(key, exptime) => {
                self.items.insert(key, (number, deadline(exptime)));
                "STORED|".into()
            }
            Operation::Touch(key, exptime) => match self.items.get_mut(&key) {
                Some(item) => {
                    item.1 = deadline(exptime);
                    "TOUCHED|".into()
                }
                None => "NOT_FOUND|".into(),
            },
            Operation::Delete(key) => match self.items.remove(&key) {
                Some(_) => "DELETED|".into(),
                None => "NOT_FOUND|".into(),
            },
            Operation::FlushAll => {
                self.items.clear();
                "OK|".into()
            }
            Operation::Wait(_) | Operation::Crawl(_) => String::new(),
        }
    }
}

fn operation() -> impl Strategy<Value = Operation> {
    let key = 0_u8..6;
    let exptime = prop_oneof![Just(0_i64), -1_i64..4];
    prop_oneof![
        6 => key.clone().prop_map(Operation::Get),
        4 => (key.clone(), exptime.clone()).prop_map(|(key, exptime)| Operation::Set(key, exptime)),
        2 => (key.clone(), exptime).prop_map(|(key, exptime)| Operation::Touch(key, exptime)),
        1 => key.prop_map(Operation::Delete),
        1 => Just(Operation::FlushAll),
        2 => (0_u32..3).prop_map(Operation::Wait),
        1 => (0_u32..3).prop_map(Operation::Crawl),
    ]
}

proptest! {
    #[test]
    fn answers_as_the_model_does(operations in prop::collection::vec(operation(), 0..80)) {
        let store = &store();
        let mut model = Model::default();
        let mut uptime_s = 3;
        for (number, operation) in (0_u32..).zip(operations) {
            let value = number.to_string();
            let command = match operation {
                Operation::Get(key) => format!("get {key}\r\n"),
                Operation::Set(key, exptime) => format!("set {key} 0 {exptime} {}\r\n{value}\r\n", value.len()),
                Operation::Touch(key, exptime) => format!("touch {key} {exptime}\r\n"),
                Operation::Delete(key) => format!("delete {key}\r\n"),
                Operation::FlushAll => "flush_all\r\n".into(),
                Operation::Wait(seconds) => {
                    uptime_s += seconds;
                    continue;
                }
                Operation::Crawl(places) => {
                    store.shards[0].lock().crawl(places, at(uptime_s));
                    continue;
                }
            };
            let expected = model.answer(operation, number, uptime_s);
            prop_assert_eq!(answers(store, uptime_s, command.as_bytes()), expected, "{:?}", operation);
            prop_assert_eq!(len(store).0 == 0, len(store).1 == 0);
        }
    }

    /// The bytes never exceed the limit, are what the items add up to, and what was stored last is
    /// still there.
    #[test]
    fn keeps_the_limit(
        bytes_max in 0_usize..4000,
        sets in prop::collection::vec((0_u8..20, 0_usize..600, any::<bool>()), 0..60),
    ) {
        let store = &small(bytes_max);
        let mut last: HashMap<u8, usize> = HashMap::new();
        for (name, value_bytes, read) in sets {
            let key = format!("{name:02}");
            if read {
                let answer = answers(store, 0, format!("get {key}\r\n").as_bytes());
                if answer != "END|" {
                    let value = format!("VALUE {key} 0 {}|", last[&name]);
                    prop_assert!(answer.starts_with(&value));
                }
                continue;
            }
            let fits = item::cost(2 + value_bytes) <= bytes_max;
            let stored = answers(store, 0, &set(&key, 0, 0, value_bytes));
            prop_assert_eq!(stored == "STORED|", fits);
            last.insert(name, value_bytes);
            let left: Vec<_> = (0..20_u8).filter(|name| {
                answers(store, 0, format!("mg {name:02} u\r\n").as_bytes()) == "HD|"
            }).collect();
            prop_assert_eq!(left.contains(&name), fits);
            let bytes: usize = left.iter().map(|name| item::cost(2 + last[name])).sum();
            prop_assert_eq!(len(store), (left.len() as u64, bytes as u64));
            prop_assert!(bytes <= bytes_max);
        }
    }
}

/// What a connection that serves a duplex pipe is given.
fn open(store: &Arc<Store>) -> Open {
    Open::new(store).unwrap()
}

/// A client that asks and never reads is, in the end, not read from.
#[tokio::test]
async fn a_slow_reader_is_not_read_from() {
    let store = Arc::new(store());
    answers(&store, 0, &set("a", 0, 0, 1000));
    let (mut client, server) = tokio::io::duplex(4096);
    let connection = Connection::new(server, open(&store));
    let serving = tokio::spawn(connection.run());
    let question = b"get a a a a a a a a\r\n".repeat(100);
    let asking = async {
        let mut asked = 0;
        while tokio::time::timeout(Duration::from_millis(200), client.write_all(&question))
            .await
            .is_ok()
        {
            asked += question.len();
            assert!(asked < 1 << 20, "it takes what it can't answer");
        }
        asked
    };
    let asked = asking.await;
    assert!(asked < 64 * 1024, "{asked} bytes were taken");
    // Once the client reads, everything comes.
    let mut answer = vec![0; 100_000];
    client.read_exact(&mut answer).await.unwrap();
    drop(client);
    assert!(serving.await.unwrap().is_err());
    assert_eq!(store.counters().connections, 0);
}

/// A client whose socket fails us when it is written to.
struct Faulty(&'static [u8]);

impl AsyncRead for Faulty {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        buffer.put_slice(std::mem::take(&mut self.0));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Faulty {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        panic!("a fault of the test's")
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The connections of a thread share what they answer in.
#[tokio::test]
async fn what_a_connection_had_to_say_that_panicked_is_said_to_no_other() {
    let store = Arc::new(store());
    answers(&store, 0, &set("secret", 0, 0, 100));
    let failing = Connection::new(Faulty(b"get secret\r\n"), open(&store)).run();
    assert!(catch(Task::Store, failing).await.is_none());
    let (mut client, server) = tokio::io::duplex(4096);
    let serving = tokio::spawn(Connection::new(server, open(&store)).run());
    client.write_all(b"mn\r\nquit\r\n").await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "MN\r\n");
    serving.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_if_told_so() {
    let idle = Duration::from_secs(60);
    for idle_timeout in [None, Some(idle)] {
        let options = Options {
            idle_timeout,
            ..Options::new(MANY)
        };
        let store = Arc::new(Store::new(options));
        let (mut client, server) = tokio::io::duplex(4096);
        let serving = tokio::spawn(Connection::new(server, open(&store)).run());
        for _ in 0..3 {
            tokio::time::sleep(idle / 2).await;
            client.write_all(b"mn\r\n").await.unwrap();
            let mut answer = [0; 4];
            client.read_exact(&mut answer).await.unwrap();
        }
        tokio::time::sleep(idle * 2).await;
        assert_eq!(serving.is_finished(), idle_timeout.is_some());
        serving.abort();
    }
}

/// As many connections as are allowed are there already, and one more comes.
#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let options = Options {
        connections_max: 3,
        ..Options::new(MANY)
    };
    let store = Arc::new(Store::new(options));
    let others: Vec<Open> = (0..3).map(|_| open(&store)).collect();
    let listener = listen::tcp("127.0.0.1:0".parse().unwrap(), 1)
        .unwrap()
        .remove(0);
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let listener = Listener::Tcp(listener);
    let serving = tokio::spawn(serve(listener, Arc::clone(&store), stop.clone()));
    let mut told = String::new();
    let mut client = TcpStream::connect(address).await.unwrap();
    client.read_to_string(&mut told).await.unwrap();
    assert_eq!(told, "ERROR Too many open connections\r\n");
    drop(others);
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"get a\r\nquit\r\n").await.unwrap();
    told.clear();
    client.read_to_string(&mut told).await.unwrap();
    assert_eq!(told, "END\r\n");
    stop.cancel();
    serving.await.unwrap().unwrap();
    let counters = store.counters();
    assert_eq!(
        (counters.connections, counters.connections_rejected),
        (0, 1)
    );
    assert_eq!(counters.connections_total, 4);
}
