//! A real memcached as the judge: it takes what is written here for what was meant, says nothing
//! that is not understood, and answers what is wrong as is answered here.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests may")]

mod common;

use common::{MOVED, TABLES};
use presenced_protocol::key::{KEY_BYTES_MAX, Opaque};
use presenced_protocol::meta::{Direction, Flag, Hint, ReplyFlag, StoreMode};
use presenced_protocol::reply::{self, MetaStatus};
use presenced_protocol::request::{self, Keys, StoreVerb};
use presenced_protocol::{Key, Limits, Next, Parsed, Reply, Request, base64, encode};
use presenced_testkit::blocking::{answers, memcached};
use presenced_testkit::memcached::Memcached;

/// What this crate would answer as a server, if it takes no store to know: what is wrong, and the
/// few commands that say nothing of items. And how much of that comes before the first value that
/// is not read as requests, which memcached may do.
fn ours(mut input: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut out, mut before) = (Vec::new(), None);
    let mut parser = request::Parser::default();
    loop {
        let consumed = match parser.parse(input) {
            Parsed::Incomplete => break,
            Parsed::Request { request, consumed } => {
                match request {
                    Request::MetaNoop => encode::reply(&mut out, &Reply::MetaNoop),
                    Request::Quit => break,
                    _ => return None,
                }
                consumed
            }
            Parsed::Swallowed { consumed, .. } => {
                before.get_or_insert(out.len());
                consumed
            }
            Parsed::Bad {
                answer,
                noreply,
                consumed,
                next,
            } => {
                if !noreply {
                    encode::reply(&mut out, &answer.reply());
                }
                if next == Next::Close {
                    before.get_or_insert(out.len());
                    break;
                }
                consumed
            }
        };
        input = &input[consumed..];
    }
    let before = before.unwrap_or(out.len());
    Some((out, before))
}

/// Where memcached is followed on purpose no further: see the crate's page.
fn differs(line: &str) -> bool {
    let is_moved = MOVED.iter().any(|(input, _)| *input == line);
    let in_token = line.starts_with("mg a O\u{1}") || line.starts_with("mg a P\t");
    in_token || is_moved || line.contains('\0') || line.contains("4294967296")
}

#[test]
fn what_is_wrong_is_answered_as_memcached_answers_it() {
    let memcached = memcached(&[]);
    let long_key = "k".repeat(251);
    let keyed = [
        "mg K v",
        "ms K 2",
        "md K",
        "ma K",
        "me K",
        "incr K 1",
        "set K 0 0 1",
        "cas K 0 0 1 1",
        "gat 0 K",
        "get a K",
    ];
    let long = keyed.map(|line| line.replace('K', &long_key) + "\r\n");
    let large = format!(
        "ms a 2000000 q\r\n{}\r\nadd a 0 0 2000000\r\n{0}\r\nadd a 0 0 2000000 noreply\r\n{0}\r\n",
        "v".repeat(2_000_000)
    );
    let table = TABLES.iter().copied().flatten().map(|(input, _)| *input);
    let (mut compared, mut commands) = (0, 0);
    for line in table
        .chain(long.iter().map(String::as_str))
        .chain([large.as_str()])
    {
        // Shows that both are in step; what isn't whole is left open.
        let input = if line.ends_with('\n') {
            format!("{line}mn\r\n")
        } else {
            line.to_owned()
        };
        commands += 1;
        let Some((mut expected, before)) = ours(input.as_bytes()).filter(|_| !differs(line)) else {
            continue;
        };
        compared += 1;
        let mut theirs = answers(memcached.address(), input.as_bytes(), usize::MAX);
        if theirs != expected {
            theirs.truncate(before);
            expected.truncate(before);
        }
        let shown = &line[..line.len().min(100)];
        assert_eq!(
            theirs.escape_ascii().to_string(),
            expected.escape_ascii().to_string(),
            "to {shown:?}"
        );
    }
    assert!(
        compared > 130 && compared * 2 > commands,
        "{compared} of {commands}"
    );
}

/// Sends what was written, and reads what comes, whole and byte by byte, and as `Bytes`.
fn replies(memcached: &Memcached, requests: &[u8]) -> Vec<String> {
    let input = answers(memcached.address(), requests, usize::MAX);
    let mut whole = reply::Parser::default();
    let (mut at, mut seen, mut written) = (0, Vec::new(), Vec::new());
    while let Some((reply, consumed)) = whole.parse(&input[at..]).unwrap() {
        encode::reply(&mut written, &reply);
        seen.push(format!("{reply:?}"));
        at += consumed;
    }
    assert_eq!(at, input.len(), "left: {}", input[at..].escape_ascii());
    // A reply is written back as it came.
    assert_eq!(
        written.escape_ascii().to_string(),
        input.escape_ascii().to_string()
    );

    let mut cut = reply::Parser::default();
    let (mut buffer, mut taken) = (bytes::BytesMut::new(), Vec::new());
    for byte in &input {
        buffer.extend_from_slice(&[*byte]);
        while let Some(reply) = cut.take(&mut buffer).unwrap() {
            taken.push(format!("{reply:?}"));
        }
    }
    assert_eq!(taken, seen);
    seen
}

/// A second may end between two commands.
fn in_one_second(replies: Vec<String>) -> Vec<String> {
    let later = [("t99 ", "t100 "), ("t49", "t50"), ("l1 ", "l0 ")];
    let settle = |reply: String| {
        later
            .iter()
            .fold(reply, |reply, (from, to)| reply.replace(from, to))
    };
    replies.into_iter().map(settle).collect()
}

fn key(text: &str) -> Key<'_> {
    Key::new(text.as_bytes()).unwrap()
}

fn store(verb: StoreVerb, name: &str, value: &'static str) -> Vec<u8> {
    written(&Request::Store {
        verb,
        key: key(name),
        flags: 7,
        exptime: 0,
        value: value.as_bytes(),
        noreply: false,
    })
}

fn written(request: &Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode::request(&mut out, request);
    out
}

/// The CAS number that the last reply tells.
fn cas_of(memcached: &Memcached, name: &str) -> u64 {
    let mut out = Vec::new();
    encode::meta_get(&mut out, key(name), [Flag::ReturnCas]);
    let answer = answers(memcached.address(), &out, usize::MAX);
    let Ok(Some((Reply::Meta { flags: answers, .. }, _))) =
        reply::parse(&answer, &Limits::default())
    else {
        panic!("not HD: {}", answer.escape_ascii());
    };
    let Some(ReplyFlag::Cas(number)) = answers.iter().next() else {
        panic!("no CAS number: {answers:?}");
    };
    number
}

#[test]
fn storage_and_retrieval_are_understood_both_ways() {
    let memcached = memcached(&[]);
    let mut out = Vec::new();
    encode::set(&mut out, key("a"), 7, 0, b"1\r\n2");
    out.extend(store(StoreVerb::Add, "a", "x"));
    out.extend(store(StoreVerb::Add, "b", "x"));
    out.extend(store(StoreVerb::Replace, "c", "x"));
    out.extend(store(StoreVerb::Append, "b", "y"));
    out.extend(store(StoreVerb::Prepend, "b", "w"));
    out.extend(store(StoreVerb::Cas { unique: 0 }, "c", "x"));
    encode::get(&mut out, ["a", "nothing", "b"].map(key));
    encode::gat(&mut out, 100, ["b"].map(key));
    let expected = [
        "Stored",
        "NotStored",
        "Stored",
        "NotStored",
        "Stored",
        "Stored",
        "NotFound",
        r#"Value("a", 7, "1\r\n2", None)"#,
        r#"Value("b", 7, "wxy", None)"#,
        "End",
        r#"Value("b", 7, "wxy", None)"#,
        "End",
    ];
    assert_eq!(replies(&memcached, &out), expected);

    let unique = cas_of(&memcached, "a");
    let mut out = Vec::new();
    encode::gets(&mut out, ["a"].map(key));
    out.extend(store(
        StoreVerb::Cas {
            unique: unique + 1000,
        },
        "a",
        "z",
    ));
    out.extend(store(StoreVerb::Cas { unique }, "a", "z"));
    encode::gats(&mut out, 100, ["nothing"].map(key));
    let value = format!(r#"Value("a", 7, "1\r\n2", Some({unique}))"#);
    assert_eq!(
        replies(&memcached, &out),
        [&value, "End", "Exists", "Stored", "End"]
    );
}

#[test]
fn single_line_commands_are_understood_both_ways() {
    let memcached = memcached(&[]);
    let (n, a) = (key("n"), key("a"));
    let arithmetic = |direction, name, delta| Request::Arithmetic {
        direction,
        key: key(name),
        delta,
        noreply: false,
    };
    let requests = [
        (
            Request::Store {
                verb: StoreVerb::Set,
                key: n,
                flags: 0,
                exptime: 0,
                value: b"10",
                noreply: true,
            },
            None,
        ),
        (arithmetic(Direction::Up, "n", u64::MAX), Some("Number(9)")),
        (arithmetic(Direction::Down, "n", 10), Some("Number(0)")),
        (arithmetic(Direction::Up, "nothing", 1), Some("NotFound")),
        (
            Request::Arithmetic {
                direction: Direction::Up,
                key: n,
                delta: 3,
                noreply: true,
            },
            None,
        ),
        (arithmetic(Direction::Up, "n", 1), Some("Number(4)")),
        (
            Request::Store {
                verb: StoreVerb::Add,
                key: a,
                flags: 0,
                exptime: 0,
                value: b"x",
                noreply: false,
            },
            Some("Stored"),
        ),
        (
            arithmetic(Direction::Up, "a", 1),
            Some(r#"ClientError("cannot increment or decrement non-numeric value")"#),
        ),
        (
            Request::Touch {
                key: a,
                exptime: -1,
                noreply: false,
            },
            Some("Touched"),
        ),
        (
            Request::Touch {
                key: a,
                exptime: 100,
                noreply: false,
            },
            Some("NotFound"),
        ),
        (
            Request::Touch {
                key: n,
                exptime: 100,
                noreply: true,
            },
            None,
        ),
        (
            Request::Delete {
                key: n,
                noreply: false,
            },
            Some("Deleted"),
        ),
        (
            Request::Delete {
                key: n,
                noreply: false,
            },
            Some("NotFound"),
        ),
        (
            Request::Delete {
                key: n,
                noreply: true,
            },
            None,
        ),
        (
            Request::Verbosity {
                level: 0,
                noreply: false,
            },
            Some("Ok"),
        ),
        (
            Request::Verbosity {
                level: 0,
                noreply: true,
            },
            None,
        ),
        (
            Request::FlushAll {
                delay: Some(100),
                noreply: false,
            },
            Some("Ok"),
        ),
        (
            Request::FlushAll {
                delay: None,
                noreply: true,
            },
            None,
        ),
        (
            Request::FlushAll {
                delay: None,
                noreply: false,
            },
            Some("Ok"),
        ),
        (
            Request::Stats {
                arguments: Keys::from(key("reset")),
            },
            Some("Reset"),
        ),
        (
            Request::Stats {
                arguments: Keys::from(key("unheard-of")),
            },
            Some(r#"Error("")"#),
        ),
        (Request::MetaNoop, Some("MetaNoop")),
        (Request::Quit, None),
    ];
    let out = requests.iter().flat_map(|(request, _)| written(request));
    let expected: Vec<_> = requests.iter().filter_map(|(_, reply)| *reply).collect();
    assert_eq!(replies(&memcached, &out.collect::<Vec<_>>()), expected);

    let version = replies(&memcached, &written(&Request::Version));
    assert!(version[0].starts_with("Version(\"1."), "{version:?}");
    for arguments in ["", "settings", "items", "slabs", "sizes", "conns"] {
        let arguments = Key::new(arguments.as_bytes())
            .map(Keys::from)
            .unwrap_or_default();
        let stats = replies(&memcached, &written(&Request::Stats { arguments }));
        let (last, all) = stats.split_last().unwrap();
        assert_eq!(last, "End");
        assert!(all.iter().all(|stat| stat.starts_with("Stat(")), "{all:?}");
    }
}

#[test]
fn meta_commands_are_understood_both_ways() {
    let memcached = memcached(&[]);
    let opaque = Flag::Opaque(Opaque::new(&[b'7'; 31]).unwrap());
    let ours = [
        Flag::ReturnKey,
        opaque,
        Flag::ProxyPath(Hint::new(b"p/").unwrap()),
        Flag::ProxyHint(Hint::new(b"").unwrap()),
    ];
    let told = format!("ka O{}", "7".repeat(31));
    let mut out = Vec::new();
    encode::meta_get(&mut out, key("a"), ours);
    encode::meta_get(&mut out, key("a"), [Flag::Quiet, Flag::ReturnValue]);
    encode::meta_set(
        &mut out,
        key("a"),
        b"x\r\ny",
        ours.into_iter()
            .chain([Flag::ClientFlags(9), Flag::Exptime(100)]),
    );
    for (mode, value) in [
        (StoreMode::Add, "no"),
        (StoreMode::Append, "z"),
        (StoreMode::Prepend, "w"),
        (StoreMode::Replace, "r"),
        (StoreMode::Set, "s\r\n"),
    ] {
        encode::meta_set(
            &mut out,
            key("a"),
            value.as_bytes(),
            [Flag::StoreMode(mode)],
        );
    }
    encode::meta_set(
        &mut out,
        key("a"),
        b"",
        [Flag::CompareCas(u64::MAX), Flag::Quiet],
    );
    encode::meta_set(&mut out, key("none"), b"", [Flag::CompareCas(1)]);
    encode::meta_set(
        &mut out,
        key("a"),
        b"12",
        [Flag::Quiet, Flag::ClientFlags(9), Flag::Exptime(0)],
    );
    encode::meta_get(
        &mut out,
        key("a"),
        [
            Flag::ReturnValue,
            Flag::ReturnClientFlags,
            Flag::ReturnHit,
            Flag::ReturnLastAccess,
            Flag::ReturnSize,
            Flag::ReturnTtl,
            Flag::NoBump,
            Flag::ReturnKey,
        ],
    );
    encode::meta_get(
        &mut out,
        key("a"),
        [Flag::Exptime(100), Flag::Recache(200), Flag::ReturnTtl],
    );
    encode::meta_get(&mut out, key("a"), []);
    encode::meta_get(&mut out, key("made"), [Flag::Vivify(60), Flag::ReturnValue]);
    out.extend(written(&Request::MetaNoop));
    let expected = [
        format!(r#"Meta(Miss, "{told}")"#),
        format!(r#"Meta(Done, "{told}")"#),
        r#"Meta(NotStored, "")"#.into(),
        r#"Meta(Done, "")"#.into(),
        r#"Meta(Done, "")"#.into(),
        r#"Meta(Done, "")"#.into(),
        r#"Meta(Done, "")"#.into(),
        r#"Meta(Exists, "")"#.into(),
        r#"Meta(NotFound, "")"#.into(),
        r#"MetaValue("12", "f9 h0 l0 s2 t-1 ka")"#.into(),
        r#"Meta(Done, "t100 W")"#.into(),
        r#"Meta(Done, "Z")"#.into(),
        r#"MetaValue("", "W")"#.into(),
        "MetaNoop".into(),
    ];
    assert_eq!(in_one_second(replies(&memcached, &out)), expected);
}

#[test]
fn meta_deletes_and_numbers_are_understood_both_ways() {
    let memcached = memcached(&[]);
    let mut out = Vec::new();
    encode::meta_delete(&mut out, key("a"), [Flag::ReturnKey]);
    encode::meta_set(&mut out, key("a"), b"12", []);
    encode::meta_delete(&mut out, key("a"), [Flag::CompareCas(u64::MAX)]);
    encode::meta_delete(
        &mut out,
        key("a"),
        [Flag::Invalidate, Flag::Exptime(50), Flag::Quiet],
    );
    encode::meta_get(&mut out, key("a"), [Flag::ReturnTtl]);
    encode::meta_arithmetic(&mut out, key("a"), [Flag::ReturnValue, Flag::Delta(30)]);
    encode::meta_arithmetic(
        &mut out,
        key("a"),
        [Flag::Direction(Direction::Down), Flag::ReturnTtl],
    );
    encode::meta_arithmetic(&mut out, key("n"), []);
    encode::meta_arithmetic(
        &mut out,
        key("n"),
        [
            Flag::Vivify(0),
            Flag::Initial(13),
            Flag::ReturnValue,
            Flag::ReturnTtl,
        ],
    );
    encode::meta_arithmetic(
        &mut out,
        key("n"),
        [Flag::CompareCas(u64::MAX), Flag::Quiet],
    );
    out.extend(written(&Request::MetaDebug {
        key: key("n"),
        base64: false,
    }));
    out.extend(written(&Request::MetaDebug {
        key: key("none"),
        base64: false,
    }));
    let seen = in_one_second(replies(&memcached, &out));
    let expected = [
        r#"Meta(NotFound, "ka")"#,
        r#"Meta(Done, "")"#,
        r#"Meta(Exists, "")"#,
        r#"Meta(Done, "t50 X W")"#,
        r#"MetaValue("42", "")"#,
        r#"Meta(Done, "t50")"#,
        r#"Meta(NotFound, "")"#,
        r#"MetaValue("13", "t-1")"#,
        r#"Meta(Exists, "")"#,
    ];
    assert_eq!(seen[..expected.len()], expected);
    assert!(
        seen[9].starts_with(r#"MetaDebug("n", "exp=-1 "#),
        "{}",
        seen[9]
    );
    assert_eq!(seen[10], r#"Meta(Miss, "")"#);
}

#[test]
fn binary_keys_are_the_same_bytes_to_memcached() {
    let memcached = memcached(&[]);
    let name = b"\0 \r\n\xff any bytes";
    let mut buffer = [0; KEY_BYTES_MAX];
    let binary = base64::encode(name, &mut buffer).unwrap();
    let mut out = Vec::new();
    encode::meta_set(&mut out, binary, b"x", [Flag::Base64Key]);
    encode::meta_get(&mut out, binary, [Flag::Base64Key, Flag::ReturnKey]);
    out.extend(written(&Request::MetaDebug {
        key: binary,
        base64: true,
    }));
    let answers = answers(memcached.address(), &out, usize::MAX);
    let mut parser = reply::Parser::default();
    let (_, first) = parser.parse(&answers).unwrap().unwrap();
    let Ok(Some((
        Reply::Meta {
            status: MetaStatus::Done,
            flags: told,
        },
        second,
    ))) = parser.parse(&answers[first..])
    else {
        panic!("not HD: {}", answers.escape_ascii());
    };
    assert_eq!(
        told.iter().collect::<Vec<_>>(),
        [ReplyFlag::Key(binary.as_bytes()), ReplyFlag::Base64Key]
    );
    let debug = parser.parse(&answers[first + second..]);
    assert!(
        matches!(debug, Ok(Some((Reply::MetaDebug { key, .. }, _))) if key == binary.as_bytes()),
        "{debug:?}"
    );
}
