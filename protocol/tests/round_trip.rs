//! What is written is what is read, and nothing besides: in both directions, for anything.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests may")]

use presenced_protocol::key::Opaque;
use presenced_protocol::meta::{Direction, Flag, Hint, ReplyFlag, ReplyFlags, StoreMode};
use presenced_protocol::reply::{self, MetaStatus};
use presenced_protocol::request::{self, Keys, StoreVerb};
use presenced_protocol::{Key, Limits, Parsed, Reply, Request, WordError, encode};
use proptest::prelude::*;

fn word(bytes: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("a word's", |byte| *byte > b' ' && *byte != 0x7f);
    prop::collection::vec(byte, bytes)
}

fn key_bytes() -> impl Strategy<Value = Vec<u8>> {
    word(1..=250)
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("on one line", |byte| !b"\r\n".contains(byte));
    prop::collection::vec(byte, 0..60)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..300)
}

fn verb() -> impl Strategy<Value = StoreVerb> {
    prop_oneof![
        Just(StoreVerb::Set),
        Just(StoreVerb::Add),
        Just(StoreVerb::Replace),
        Just(StoreVerb::Append),
        Just(StoreVerb::Prepend),
        any::<u64>().prop_map(|unique| StoreVerb::Cas { unique }),
    ]
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Up), Just(Direction::Down)]
}

/// Numbers and a token for flags, and which of them to take in which order.
fn flags<'a>(
    numbers: &[u64; 4],
    token: &'a [u8],
    modes: &[Flag<'a>],
    order: &[prop::sample::Index],
) -> Vec<Flag<'a>> {
    let exptime = |place: usize| numbers[place].cast_signed();
    let mut all = vec![
        Flag::ReturnCas,
        Flag::ReturnClientFlags,
        Flag::ReturnHit,
        Flag::ReturnKey,
        Flag::ReturnLastAccess,
        Flag::ReturnSize,
        Flag::ReturnTtl,
        Flag::ReturnValue,
        Flag::Quiet,
        Flag::NoBump,
        Flag::Invalidate,
        Flag::Opaque(Opaque::new(token).unwrap()),
        Flag::ProxyPath(Hint::new(token).unwrap()),
        Flag::ProxyHint(Hint::new(b"").unwrap()),
        Flag::Vivify(exptime(0)),
        Flag::Recache(exptime(1)),
        Flag::Exptime(exptime(2)),
        Flag::CompareCas(numbers[3]),
        Flag::ClientFlags(u32::try_from(numbers[0] >> 32).unwrap()),
        Flag::Initial(numbers[1]),
        Flag::Delta(numbers[2]),
    ];
    all.extend(modes.first());
    let take = |place: &prop::sample::Index| all.remove(place.index(all.len()));
    order.iter().map(take).collect()
}

/// The one request that `bytes` hold, which may be sent again.
fn only_request(bytes: &[u8]) -> Request<'_> {
    match request::Parser::default().parse(bytes) {
        Parsed::Request { request, consumed } if consumed == bytes.len() => {
            request.try_into().unwrap()
        }
        other => panic!("not one request: {} is {other:?}", bytes.escape_ascii()),
    }
}

/// It is written as one request, and read as the same.
fn check_request(request: &Request<'_>) {
    let mut out = Vec::new();
    encode::request(&mut out, request);
    assert_eq!(only_request(&out), *request);
}

/// The request is read with these flags and written as it was.
fn check_flags(out: &[u8], flags: &[Flag<'_>]) {
    let request = only_request(out);
    let (Request::MetaGet { flags: read, .. }
    | Request::MetaSet { flags: read, .. }
    | Request::MetaDelete { flags: read, .. }
    | Request::MetaArithmetic { flags: read, .. }) = request
    else {
        panic!("not a meta command: {request:?}");
    };
    assert_eq!(read.collect::<Vec<_>>(), flags);
    let mut again = Vec::new();
    encode::request(&mut again, &request);
    assert_eq!(again, out);
}

fn check_reply(reply: &Reply<&[u8]>) {
    let mut out = Vec::new();
    encode::reply(&mut out, reply);
    let whole = Ok(Some((*reply, out.len())));
    assert_eq!(reply::parse(&out, &Limits::default()), whole);
    let mut buffer = bytes::BytesMut::from(&out[..]);
    let taken = reply::Parser::default().take(&mut buffer).unwrap().unwrap();
    assert_eq!(format!("{taken:?}"), format!("{reply:?}"));
    assert!(buffer.is_empty());
    let mut again = Vec::new();
    encode::reply_bytes(&mut again, &taken);
    assert_eq!(again, out);
}

proptest! {
    #[test]
    fn classic_requests(
        key in key_bytes(),
        verb in verb(),
        direction in direction(),
        (flags, level) in any::<(u32, u32)>(),
        (exptime, delta) in any::<(i64, u64)>(),
        value in value(),
        delay in prop::option::of(1_u32..),
        noreply: bool,
    ) {
        let key = Key::new(&key).unwrap();
        let value = &value[..];
        let unflagged = Request::Store { verb: StoreVerb::Set, key, flags, exptime, value, noreply: false };
        let mut out = Vec::new();
        encode::set(&mut out, key, flags, exptime, value);
        prop_assert_eq!(only_request(&out), unflagged);
        check_request(&Request::Store { verb, key, flags, exptime, value, noreply });
        check_request(&Request::Arithmetic { direction, key, delta, noreply });
        check_request(&Request::Touch { key, exptime, noreply });
        check_request(&Request::Delete { key, noreply });
        check_request(&Request::Verbosity { level, noreply });
        check_request(&Request::FlushAll { delay, noreply });
        check_request(&Request::Stats { arguments: Keys::from(key) });
    }

    #[test]
    fn requests_for_keys(keys in prop::collection::vec(key_bytes(), 1..20), exptime: i64, with_cas: bool) {
        let keys: Vec<Key<'_>> = keys.iter().map(|key| Key::new(key).unwrap()).collect();
        let asked = || keys.iter().copied();
        let mut out = Vec::new();
        let count = if with_cas { encode::gets(&mut out, asked()) } else { encode::get(&mut out, asked()) };
        prop_assert_eq!(count, keys.len());
        let request = only_request(&out);
        let Request::Get { keys: read, with_cas: read_cas } = request else { panic!("not a get") };
        prop_assert_eq!((read.collect::<Vec<_>>(), read_cas), (keys.clone(), with_cas));
        check_request(&request);

        out.clear();
        let count = if with_cas { encode::gats(&mut out, exptime, asked()) } else { encode::gat(&mut out, exptime, asked()) };
        prop_assert_eq!(count, keys.len());
        let request = only_request(&out);
        let Request::GetAndTouch { exptime: read_exptime, keys: read, with_cas: read_cas } = request else {
            panic!("not a gat");
        };
        prop_assert_eq!((read.collect::<Vec<_>>(), read_cas, read_exptime), (keys.clone(), with_cas, exptime));
        check_request(&request);
    }

    #[test]
    fn meta_requests(
        key in key_bytes(),
        value in value(),
        numbers: [u64; 4],
        token in word(0..=31),
        mode in prop::sample::select(vec![StoreMode::Set, StoreMode::Add, StoreMode::Append, StoreMode::Prepend, StoreMode::Replace]),
        direction in direction(),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..=16),
    ) {
        let key = Key::new(&key).unwrap();
        let mut out = Vec::new();
        let store = flags(&numbers, &token, &[Flag::StoreMode(mode)], &order);
        let any = flags(&numbers, &token, &[Flag::Direction(direction)], &order);
        encode::meta_set(&mut out, key, &value, store.iter().copied());
        check_flags(&out, &store);
        out.clear();
        encode::meta_arithmetic(&mut out, key, any.iter().copied());
        check_flags(&out, &any);
        out.clear();
        encode::meta_get(&mut out, key, any.iter().copied());
        check_flags(&out, &any);
        out.clear();
        encode::meta_delete(&mut out, key, store.iter().copied());
        check_flags(&out, &store);
        check_request(&Request::MetaDebug { key, base64: false });
    }

    #[test]
    fn replies(
        key in key_bytes(),
        flags: u32,
        value in value(),
        cas: Option<u64>,
        number: u64,
        name in "[a-z_:0-9]{1,20}",
        text in text(),
        status in prop::sample::select(vec![MetaStatus::Done, MetaStatus::Miss, MetaStatus::NotFound, MetaStatus::NotStored, MetaStatus::Exists]),
    ) {
        let answers = ReplyFlags::from(&text[..]);
        check_reply(&Reply::Value { key: &key, flags, value: &value, cas });
        check_reply(&Reply::Stat { name: name.as_bytes(), value: &text });
        check_reply(&Reply::Version(&text));
        check_reply(&Reply::Error(&text));
        check_reply(&Reply::ClientError(&text));
        check_reply(&Reply::ServerError(&text));
        check_reply(&Reply::Number(number));
        check_reply(&Reply::Meta { status, flags: answers });
        check_reply(&Reply::MetaValue { value: &value, flags: answers });
        check_reply(&Reply::MetaDebug { key: &key, fields: &text });
    }

    #[test]
    fn meta_answers(
        key in key_bytes(),
        value in value(),
        token in word(0..=31),
        (number, seconds, hit) in any::<(u64, u32, bool)>(),
        letter in prop::sample::select(b"aBdgijQ".to_vec()),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..=14),
    ) {
        let mut all = vec![
            ReplyFlag::Base64Key, ReplyFlag::Cas(number), ReplyFlag::ClientFlags(seconds), ReplyFlag::Hit(hit),
            ReplyFlag::Key(&key), ReplyFlag::LastAccess(seconds), ReplyFlag::Opaque(&token), ReplyFlag::Size(number),
            ReplyFlag::Ttl(None), ReplyFlag::Ttl(Some(seconds)), ReplyFlag::Won, ReplyFlag::Stale, ReplyFlag::AlreadyWon,
            ReplyFlag::Other { letter, token: &token },
        ];
        let told: Vec<_> = order.iter().map(|place| all.remove(place.index(all.len()))).collect();
        let mut out = Vec::new();
        encode::meta_value(&mut out, &value, told.iter().copied());
        let parsed = reply::parse(&out, &Limits::default());
        let Ok(Some((Reply::MetaValue { value: read, flags: answers }, consumed))) = parsed else {
            panic!("not a value: {parsed:?}");
        };
        prop_assert_eq!((read, consumed), (&value[..], out.len()));
        prop_assert_eq!(answers.iter().collect::<Vec<_>>(), told.clone());
        out.clear();
        encode::meta_reply(&mut out, MetaStatus::Miss, told.iter().copied());
        let parsed = reply::parse(&out, &Limits::default());
        let Ok(Some((Reply::Meta { status: MetaStatus::Miss, flags: answers }, _))) = parsed else {
            panic!("not a miss: {parsed:?}");
        };
        prop_assert_eq!(answers.iter().collect::<Vec<_>>(), told);
    }

    /// A text with line ends is still one line.
    #[test]
    fn a_text_is_one_reply(text in prop::collection::vec(prop::sample::select(b"ab\r\n STORED".to_vec()), 0..40)) {
        let mut out = Vec::new();
        encode::reply(&mut out, &Reply::ServerError(&text));
        let parsed = reply::parse(&out, &Limits::default());
        prop_assert!(matches!(parsed, Ok(Some((Reply::ServerError(_), consumed))) if consumed == out.len()));
        out.clear();
        encode::meta_reply(&mut out, MetaStatus::Done, [ReplyFlag::Other { letter: b'?', token: &text }, ReplyFlag::Opaque(&text)]);
        let parsed = reply::parse(&out, &Limits::default());
        let whole = matches!(parsed, Ok(Some((Reply::Meta { .. }, consumed))) if consumed == out.len());
        prop_assert!(whole);
    }

    /// Nor does a key, which keeps a CR, as in memcached. Our own client asks for no such key, and
    /// takes none.
    #[test]
    fn a_key_is_on_one_line(key in prop::collection::vec(prop::sample::select(b"ab\r\n STORED".to_vec()), 0..40)) {
        let mut out = Vec::new();
        encode::meta_reply(&mut out, MetaStatus::Done, [ReplyFlag::Key(&key)]);
        encode::reply(&mut out, &Reply::MetaDebug { key: &key, fields: b"exp=-1" });
        let shown: Vec<u8> = key.iter().map(|&byte| if byte == b'\n' { b' ' } else { byte }).collect();
        let expected = [b"HD k", &shown[..], b"\r\nME ", &shown, b" exp=-1\r\n"].concat();
        prop_assert_eq!(out, expected);
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
    let arguments = Keys::default();
    let flush = |noreply| Request::FlushAll {
        delay: None,
        noreply,
    };
    for request in [
        Request::Version,
        Request::Quit,
        Request::MetaNoop,
        Request::Stats { arguments },
        flush(false),
        flush(true),
    ] {
        check_request(&request);
    }
}

#[test]
fn a_get_without_keys_writes_nothing() {
    let mut out = b"version\r\n".to_vec();
    assert_eq!(encode::get(&mut out, []), 0);
    assert_eq!(encode::gats(&mut out, 0, []), 0);
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
    assert_eq!(error, WordError::BadByte { byte: b'\r', at: 6 });
}
