//! Requests as memcached 1.6.18 reads them. Each line of the table was sent to a real memcached and
//! its answer noted; `differs` marks the few that differ on purpose.

mod common;

use common::{CHUNK_QUIET, FORMAT, FORMAT_QUIET, LARGE, LARGE_QUIET, Reader, TABLES, read};
use presenced_protocol::{
    BadRequest, BadRequestKind, Key, Limits, Next, Parsed, ReceivedKey, Request, encode, request,
};
use proptest::prelude::*;

/// The same in whatever two pieces it comes, and byte by byte.
fn check(input: &[u8], expected: &[&str], limits: &Limits) {
    let shown = input[..input.len().min(100)].escape_ascii();
    assert_eq!(read(input, limits), expected, "{shown}");
    for cut in 0..=input.len() {
        let mut reader = Reader::new(limits);
        reader.feed(&input[..cut]);
        reader.feed(&input[cut..]);
        assert_eq!(reader.finish(), expected, "{shown} cut at {cut}");
    }
    let mut reader = Reader::new(limits);
    input.iter().for_each(|byte| reader.feed(&[*byte]));
    assert_eq!(reader.finish(), expected, "{shown} byte by byte");
}

#[test]
fn reads_lines_as_memcached_does() {
    for (input, expected) in TABLES.iter().copied().flatten() {
        check(input.as_bytes(), expected, &Limits::default());
    }
}

#[test]
fn keys_have_250_bytes_and_not_251() {
    let (longest, longer) = ("k".repeat(250), "k".repeat(251));
    let limits = Limits::default();
    check(
        format!("get {longest}\r\n").as_bytes(),
        &[&format!("get({longest})")],
        &limits,
    );
    let get = format!("get a {longer}\r\nversion\r\n");
    check(get.as_bytes(), &[FORMAT, "version"], &limits);
    let set = format!("set {longer} 0 0 4\r\nquit\r\nversion\r\n");
    check(set.as_bytes(), &[FORMAT, "version"], &limits);
    let quiet = format!("set {longer} 0 0 4 noreply\r\nquit\r\n");
    check(quiet.as_bytes(), &[FORMAT_QUIET], &limits);
    let meta = format!("ms {longer} 4 T0\r\nquit\r\nversion\r\n");
    check(meta.as_bytes(), &[FORMAT, "version"], &limits);
    let unknown = format!("ms {longer} x\r\nquit\r\nversion\r\n");
    check(unknown.as_bytes(), &[FORMAT, "closed"], &limits);
    check(
        format!("delete {longer}\r\n").as_bytes(),
        &[FORMAT],
        &limits,
    );
    check(
        format!("delete {longer} noreply\r\n").as_bytes(),
        &[FORMAT_QUIET],
        &limits,
    );
    check(
        format!("touch {longer} 0\r\n").as_bytes(),
        &[FORMAT],
        &limits,
    );
    check(
        format!("touch {longer} x noreply\r\n").as_bytes(),
        &[FORMAT_QUIET],
        &limits,
    );
}

/// Lines in which `K` is a key.
const KEYED: [&str; 22] = [
    "get K",
    "gets K",
    "gat 0 K",
    "gats 0 K",
    "set K 0 0 1",
    "add K 0 0 1",
    "replace K 0 0 1",
    "append K 0 0 1 noreply",
    "prepend K 0 0 1",
    "cas K 0 0 1 5",
    "incr K 1",
    "decr K 1 noreply",
    "touch K 0",
    "delete K",
    "mg K v k",
    "mg K",
    "ms K 1",
    "ms K 1 T0",
    "md K",
    "md K q",
    "ma K",
    "me K",
];

/// Whatever memcached takes, in each command; what may not be sent can't be.
#[test]
fn a_key_may_have_any_byte_but_those_that_end_it() {
    for byte in 0..=255 {
        let key = [b'a', byte, b'b', byte];
        for line in KEYED {
            let (before, after) = line.split_once('K').unwrap();
            let input = [before.as_bytes(), &key, after.as_bytes(), b"\r\nx\r\n"].concat();
            let parsed = request::Parser::default().parse(&input);
            let taken = !b" \n\0".contains(&byte);
            let Parsed::Request { request, .. } = parsed else {
                assert!(!taken, "{line} with {byte:#04x}: {parsed:?}");
                continue;
            };
            let shown = format!("{request:?}");
            let whole = shown.contains(&format!("\"{}\"", key.escape_ascii()));
            assert_eq!(whole, taken, "{line} with {byte:#04x}: {shown}");
            if taken {
                let sendable = <Request<'_>>::try_from(request);
                assert_eq!(sendable.is_ok(), Key::new(&key).is_ok(), "{sendable:?}");
            }
        }
    }
}

#[test]
fn swallows_a_value_that_is_too_large() {
    let limits = Limits {
        value_bytes_max: 4,
        ..Limits::default()
    };
    check(b"set a 0 0 4\r\nwxyz\r\n", &["set(a,0,0,wxyz)"], &limits);
    check(
        b"set a 0 0 5\r\nvwxyz\r\nversion\r\n",
        &[LARGE, "version"],
        &limits,
    );
    check(
        b"set a 0 0 5\r\nvwxyz??version\r\n",
        &[LARGE, CHUNK_QUIET, "closed"],
        &limits,
    );
    check(
        b"set a 0 0 5 noreply\r\nvwxyz\r\nversion\r\n",
        &[LARGE_QUIET, "version"],
        &limits,
    );
    check(
        b"set a 0 0 2147483645\r\nversion\r\n",
        &[LARGE, "…"],
        &limits,
    );
    let parsed = request::Parser::new(limits).parse(b"set a 0 0 5\r\n");
    let Parsed::Bad {
        answer:
            BadRequest {
                kind:
                    BadRequestKind::TooLarge {
                        key,
                        base64: false,
                        removes: true,
                    },
                at: 13,
            },
        ..
    } = parsed
    else {
        panic!("not too large: {parsed:?}");
    };
    assert_eq!(key, ReceivedKey::new(b"a").unwrap());
}

#[test]
fn closes_on_a_line_without_end_unless_it_is_a_get() {
    let limits = Limits {
        line_bytes_max: 16,
        get_line_bytes_max: 32,
        ..Limits::default()
    };
    check(b"version        \n", &["version"], &limits);
    check(b"version        ", &["…"], &limits);
    check(
        b"version         \n",
        &["CLIENT_ERROR line too long", "closed"],
        &limits,
    );
    check(
        b"                \nversion\n",
        &["CLIENT_ERROR line too long", "closed"],
        &limits,
    );
    check(b"get a b c d e f g h\n", &["get(a,b,c,d,e,f,g,h)"], &limits);
    check(
        b" gets aaaaaaaaaaaaaaaaaaaaaaaaa\n",
        &["gets(aaaaaaaaaaaaaaaaaaaaaaaaa)"],
        &limits,
    );
    check(
        b" gets aaaaaaaaaaaaaaaaaaaaaaaaaa\n",
        &["CLIENT_ERROR line too long", "closed"],
        &limits,
    );
    // `get` must show in the first `line_bytes_max` bytes.
    check(
        b"             get a b c\n",
        &["CLIENT_ERROR line too long", "closed"],
        &limits,
    );
    check(
        b"get a b c d e f g h i\n",
        &["get(a,b,c,d,e,f,g,h,i)"],
        &limits,
    );
}

#[test]
fn a_thousand_longest_keys_fit() {
    let key = [b'k'; 250];
    let mut line = Vec::new();
    assert_eq!(
        encode::gets(&mut line, (0..1000).map(|_| Key::new(&key).unwrap())),
        1000
    );
    let Parsed::Request {
        request: Request::Get {
            keys,
            with_cas: true,
        },
        consumed,
    } = request::Parser::default().parse(&line)
    else {
        panic!("not a gets");
    };
    assert_eq!((keys.count(), consumed), (1000, line.len()));
}

/// What a client may put in the place of a key or a number, if it does not look: anything but a line
/// end. Long enough to be too long, at times.
fn unchecked() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "a",
        "0",
        "1",
        "9",
        "17",
        "-1",
        "+7",
        "noreply",
        "undefined",
        "q",
        " ",
        " ",
        "\0",
        "\t",
        "\u{1}",
        "\r",
        "\u{eb}",
    ]);
    prop_oneof![
        6 => Just("0".to_owned()),
        4 => prop::collection::vec(words, 0..5).prop_map(|words| words.concat()),
        1 => Just("k".repeat(251)),
    ]
}

/// Storage commands, all that stands before the length and behind it.
fn storage() -> impl Strategy<Value = (String, String)> {
    let noreply = prop::sample::select(vec!["", " noreply"]);
    let verb = prop::sample::select(vec!["set", "add", "replace", "append", "prepend", "cas"]);
    let classic = (
        verb,
        [unchecked(), unchecked(), unchecked()],
        noreply,
        any::<u64>(),
    )
        .prop_map(|(verb, words, noreply, unique)| {
            let unique = if verb == "cas" {
                format!(" {unique}")
            } else {
                String::new()
            };
            (
                format!("{verb} {}", words.join(" ")),
                format!("{unique}{noreply}"),
            )
        });
    let flag = prop::sample::select(vec![
        "T0", "T60", "Tx", "q", "k", "c", "MS", "MX", "M", "b", "F-1", "I", "O7", "?", "\u{1}",
    ]);
    let flags = prop::collection::vec(flag, 0..20);
    let meta = (unchecked(), flags).prop_map(|(key, flags)| {
        let flags = flags.iter().map(|flag| format!(" {flag}"));
        (format!("ms {key}"), flags.collect())
    });
    prop_oneof![classic, meta]
}

/// Values that are commands, none of which is an `mn`.
fn commands() -> impl Strategy<Value = String> {
    let lines = prop::sample::select(vec![
        "\r\n",
        "flush_all\r\n",
        "quit\r\n",
        "get a\r\n",
        "set a 0 0 9\r\n",
        "x",
        "xx",
    ]);
    prop::collection::vec(lines, 0..8).prop_map(|lines| lines.concat())
}

/// A value without memory is refused like one that is too large; a line that is not whole has no value.
#[test]
fn a_begun_value_is_refused_for_want_of_memory() {
    for (line, removes, base64) in [
        ("set a 0 0 5 noreply", true, false),
        ("add a 0 0 5", false, false),
        ("ms YQ== 5 b", true, true),
    ] {
        let noreply = line.ends_with("noreply");
        let line = format!("{line}\r\n");
        let begun = format!("{line}vw");
        let mut parser = request::Parser::default();
        assert_eq!(parser.parse(begun.as_bytes()), Parsed::Incomplete);
        assert_eq!(parser.need(), line.len() + 7);
        let Some(Parsed::Bad {
            answer,
            noreply: quiet,
            consumed,
            next: Next::Swallow,
        }) = parser.out_of_memory(begun.as_bytes())
        else {
            panic!("{line}");
        };
        assert_eq!((quiet, consumed, parser.need()), (noreply, line.len(), 0));
        let BadRequestKind::OutOfMemory {
            key,
            base64: in_base64,
            removes: takes,
        } = answer.kind
        else {
            panic!("{answer:?}");
        };
        assert_eq!((takes, in_base64), (removes, base64));
        assert_eq!(key.as_bytes(), line.split(' ').nth(1).unwrap().as_bytes());
        let mut swallowed = |input: &[u8]| parser.parse(input) == swallow(input.len(), false);
        assert!(swallowed(b"vw") && swallowed(b"xyz"));
        assert_eq!(parser.parse(b"\r"), Parsed::Incomplete);
        assert_eq!(parser.parse(b"\r\nmn\r\n"), swallow(2, true));
    }
    for part in ["get a", "set a 0 0 5", "get a\r\n", "", "set a x 0 5\r\nvw"] {
        let mut parser = request::Parser::default();
        let begun = parser.parse(part.as_bytes()) == Parsed::Incomplete && parser.need() > 0;
        let refused = parser.out_of_memory(part.as_bytes()).is_some();
        assert!(!begun && !refused, "{part:?}");
    }
}

fn swallow(consumed: usize, ended: bool) -> Parsed<'static> {
    Parsed::Swallowed { consumed, ended }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Whatever a client puts on the line, as long as it writes the value's true length there.
    #[test]
    fn no_value_is_run((before, after) in storage(), value in commands()) {
        let line = format!("{before} {}{after}", value.len());
        let input = format!("{line}\r\n{value}\r\nmn\r\n");
        let limits = Limits { value_bytes_max: 30, ..Limits::default() };
        let seen = read(input.as_bytes(), &limits);
        let (last, first) = seen.split_last().unwrap();
        prop_assert!(first.len() == 1 && (last == "mn" || last == "closed"), "{}: {:?}", line, seen);
    }

    /// A length that is too small: what is beyond it is not run, unless a line end stands just there.
    #[test]
    fn no_value_is_run_beyond_its_length(
        (before, after) in storage(),
        value in commands(),
        short in any::<prop::sample::Index>(),
    ) {
        let whole = format!("{value}\r\nmn\r\n");
        let is_seen = |bytes: &usize| !whole[*bytes..].starts_with("\r\n");
        let places: Vec<_> = (0..value.len()).filter(is_seen).collect();
        if places.is_empty() {
            return Ok(());
        }
        let line = format!("{before} {}{after}", short.get(&places));
        let limits = Limits { value_bytes_max: 10, ..Limits::default() };
        let seen = read(format!("{line}\r\n{whole}").as_bytes(), &limits);
        let (last, first) = seen.split_last().unwrap();
        let one = match first {
            [_] => true,
            // Its answer is known from the line.
            [_, chunk] => chunk == CHUNK_QUIET,
            _ => false,
        };
        prop_assert!(one && last == "closed", "{}: {:?}", line, seen);
    }
}

/// Bytes as an attacker would choose them: pieces of commands, numbers, line ends, anything.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "get ",
        "gets ",
        "set ",
        "touch ",
        "delete ",
        "version",
        "stats",
        "flush_all ",
        "quit",
        "noreply",
        "\r\n",
        "\r\n",
        "\n",
        " ",
        "a ",
        "b ",
        "0 ",
        "1 ",
        "3\r\n",
        "-1 ",
        "9999999 ",
        "x",
        "\0",
        "\r",
    ]);
    let piece = prop_oneof![
        9 => words.prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_cuts_give_the_same(input in bytes(), mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5)) {
        let limits = Limits { line_bytes_max: 24, get_line_bytes_max: 40, value_bytes_max: 8 };
        let mut reader = Reader::new(&limits);
        let mut at = 0;
        cuts.sort_by_key(|cut| cut.index(input.len() + 1));
        for cut in cuts {
            let cut = cut.index(input.len() + 1);
            reader.feed(&input[at..cut]);
            at = cut;
        }
        reader.feed(&input[at..]);
        prop_assert_eq!(reader.finish(), read(&input, &limits));
    }

    #[test]
    fn anything_is_read_without_panic(input in prop::collection::vec(any::<u8>(), 0..300)) {
        // `feed` asserts what is consumed.
        read(&input, &Limits::default());
    }
}

#[test]
fn says_where_it_went_wrong() {
    for (input, at) in [
        ("foo\r\n", 0),
        ("  set a 0 x 1\r\n", 10),
        ("get a b\0c\r\n", 6),
        ("incr a 1x\r\n", 7),
        ("touch a x\r\n", 8),
        ("ms a 2 v Tx\r\n", 9),
        ("md a v v\r\n", 7),
        ("set a 0 0 1\r\nxyz", 14),
    ] {
        let parsed = request::Parser::default().parse(input.as_bytes());
        let Parsed::Bad { answer, .. } = parsed else {
            panic!("not wrong: {parsed:?}");
        };
        assert_eq!(answer.at, at, "{input:?}");
        let text = answer.to_string();
        assert!(
            text.ends_with(&format!("(at byte {at})")) && !text.contains('\n'),
            "{text}"
        );
    }
}

/// Found by the fuzzer: it said so by how much of the value had come before.
#[test]
fn says_where_a_swallowed_value_went_wrong_however_it_is_cut() {
    let input = b"set a x 0 3\r\nvalue\r\n";
    for cut in 0..=input.len() {
        let mut parser = request::Parser::default();
        let (mut waiting, mut wrong) = (Vec::new(), Vec::new());
        for piece in [&input[..cut], &input[cut..]] {
            waiting.extend_from_slice(piece);
            loop {
                let consumed = match parser.parse(&waiting) {
                    Parsed::Incomplete => break,
                    Parsed::Swallowed { consumed, .. } => consumed,
                    Parsed::Bad {
                        answer, consumed, ..
                    } => {
                        wrong.push(answer.to_string());
                        consumed
                    }
                    Parsed::Request { request, .. } => panic!("{request:?}"),
                };
                waiting.drain(..consumed);
            }
        }
        let expected = [
            "bad memcached request: a bad key or number (at byte 6)",
            "bad memcached request: a value that is not as long as its line says (at byte 0)",
        ];
        assert_eq!(wrong, expected, "cut at {cut}");
    }
}

/// The work for each piece does not grow with what has come before.
#[test]
fn a_value_in_small_pieces_costs_no_more_than_whole() {
    let mut parser = request::Parser::default();
    let line = b"set a 0 0 1000000\r\n";
    assert_eq!(parser.parse(line), Parsed::Incomplete);
    // It has not looked at what is not the value's last byte: nothing but the length matters.
    let nothing = vec![b'\n'; line.len() + 1_000_001];
    assert_eq!(parser.parse(&nothing), Parsed::Incomplete);

    let mut parser = request::Parser::default();
    let long = b"get "
        .iter()
        .copied()
        .chain([b'k'; 100].into_iter().chain([b' ']).cycle());
    let long: Vec<u8> = long.take(200_000).collect();
    assert_eq!(parser.parse(&long), Parsed::Incomplete);
    let mut spoilt = [&long[..], b"k"].concat();
    spoilt[100_000] = b'\n';
    assert_eq!(parser.parse(&spoilt), Parsed::Incomplete);
}
