//! What is written is what is read, and nothing besides: in both directions, for anything.

#![allow(clippy::panic, reason = "helpers of tests may")]

use presenced_protocol::{Key, KeyError, Limits, Parsed, Reply, Request, encode, reply, request};
use proptest::prelude::*;

fn key_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(
        any::<u8>().prop_filter("a key's", |byte| *byte > b' ' && *byte != 0x7f),
        1..=250,
    )
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(
        any::<u8>().prop_filter("on one line", |byte| !b"\r\n".contains(byte)),
        0..60,
    )
}

/// The one request that `bytes` hold.
fn only_request(bytes: &[u8]) -> Request<'_> {
    match request::parse(bytes, &Limits::default()) {
        Parsed::Request { request, consumed } if consumed == bytes.len() => request,
        other => panic!("not one request: {} is {other:?}", bytes.escape_ascii()),
    }
}

fn check_reply(reply: &Reply<'_>) {
    let mut out = Vec::new();
    encode::reply(&mut out, reply);
    assert_eq!(
        reply::parse(&out, &Limits::default()),
        Ok(Some((*reply, out.len())))
    );
}

proptest! {
    #[test]
    fn requests(
        keys in prop::collection::vec(key_bytes(), 1..20),
        flags: u32,
        exptime: i64,
        value in prop::collection::vec(any::<u8>(), 0..300),
        delay in prop::option::of(1_u32..),
    ) {
        let keys: Vec<Key<'_>> = keys.iter().map(|key| Key::new(key).unwrap()).collect();
        let key = keys[0];

        let mut out = Vec::new();
        encode::set(&mut out, key, flags, exptime, &value);
        let set = Request::Set { key, flags, exptime, value: &value, noreply: false };
        prop_assert_eq!(only_request(&out), set);

        for with_cas in [false, true] {
            out.clear();
            let asked = keys.iter().copied();
            let count = if with_cas { encode::gets(&mut out, asked) } else { encode::get(&mut out, asked) };
            prop_assert_eq!(count, keys.len());
            let Request::Get { keys: read, with_cas: read_cas } = only_request(&out) else {
                panic!("not a get");
            };
            prop_assert_eq!(read_cas, with_cas);
            prop_assert_eq!(read.collect::<Vec<_>>(), keys.clone());
        }

        out.clear();
        encode::touch(&mut out, key, exptime);
        prop_assert_eq!(only_request(&out), Request::Touch { key, exptime, noreply: false });

        out.clear();
        encode::delete(&mut out, key);
        prop_assert_eq!(only_request(&out), Request::Delete { key, noreply: false });

        out.clear();
        encode::flush_all(&mut out, delay);
        prop_assert_eq!(only_request(&out), Request::FlushAll { delay, noreply: false });
    }

    #[test]
    fn replies(
        key in key_bytes(),
        flags: u32,
        value in prop::collection::vec(any::<u8>(), 0..300),
        cas: Option<u64>,
        name in "[a-z_:0-9]{1,20}",
        text in text(),
    ) {
        check_reply(&Reply::Value { key: &key, flags, value: &value, cas });
        check_reply(&Reply::Stat { name: name.as_bytes(), value: &text });
        check_reply(&Reply::Version(&text));
        check_reply(&Reply::ClientError(&text));
        check_reply(&Reply::ServerError(&text));
    }

    /// A text with line ends is still one line.
    #[test]
    fn a_text_is_one_reply(text in prop::collection::vec(prop::sample::select(b"ab\r\n STORED".to_vec()), 0..40)) {
        let mut out = Vec::new();
        encode::reply(&mut out, &Reply::ServerError(&text));
        let parsed = reply::parse(&out, &Limits::default());
        prop_assert!(matches!(parsed, Ok(Some((Reply::ServerError(_), consumed))) if consumed == out.len()));
    }

    /// Whatever a user calls themself, the key made of it is refused or the command is the one
    /// that was meant.
    #[test]
    fn no_key_is_a_command(id in prop::collection::vec(prop::sample::select(b"ab 0\r\n\tflush_all\0".to_vec()), 0..40)) {
        let Ok(key) = Key::new(&id) else { return Ok(()) };
        let mut out = Vec::new();
        encode::get(&mut out, [key]);
        let Request::Get { keys, .. } = only_request(&out) else { panic!("not a get") };
        prop_assert_eq!(keys.collect::<Vec<_>>(), vec![key]);
    }
}

#[test]
fn requests_without_arguments() {
    let mut out = Vec::new();
    encode::version(&mut out);
    assert_eq!(only_request(&out), Request::Version);
    out.clear();
    encode::stats(&mut out);
    assert_eq!(only_request(&out), Request::Stats { argument: None });
    out.clear();
    encode::quit(&mut out);
    assert_eq!(only_request(&out), Request::Quit);
    out.clear();
    encode::flush_all(&mut out, None);
    assert_eq!(
        only_request(&out),
        Request::FlushAll {
            delay: None,
            noreply: false
        }
    );
}

#[test]
fn a_get_without_keys_writes_nothing() {
    let mut out = b"version\r\n".to_vec();
    assert_eq!(encode::get(&mut out, []), 0);
    assert_eq!(encode::gets(&mut out, []), 0);
    assert_eq!(out, b"version\r\n");
}

#[test]
fn a_user_id_can_not_inject_a_command() {
    for id in [
        "x 0 0 1\r\nv\r\nflush_all\r\n",
        "x\nflush_all",
        "x y",
        "x\0y",
        "x\r\nquit",
        "",
    ] {
        assert!(Key::new(id.as_bytes()).is_err(), "{id:?}");
    }
    let error = Key::new(b"user:x\r\nflush_all").unwrap_err();
    assert_eq!(error, KeyError::BadByte { byte: b'\r', at: 6 });
}
