//! Values that are too long, passed over as they come.

use presenced_protocol::limits::ITEM_BYTES_MAX;
use presenced_protocol::reply::{self, Parser, Skimmed, Skimmer};
use presenced_protocol::{Limits, Reply, ReplyError, ReplyErrorKind, encode};
use proptest::prelude::*;

const LIMITS: Limits = Limits {
    line_bytes_max: 48,
    get_line_bytes_max: 80,
    value_bytes_max: 8,
};

/// What a skimmer makes of input that comes in pieces.
struct Reader {
    skimmer: Skimmer,
    waiting: Vec<u8>,
    seen: Vec<String>,
    failed: Option<ReplyError>,
}

impl Reader {
    fn new() -> Reader {
        Reader {
            skimmer: Skimmer::new(LIMITS),
            waiting: Vec::new(),
            seen: Vec::new(),
            failed: None,
        }
    }

    fn feed(&mut self, piece: &[u8]) {
        self.waiting.extend_from_slice(piece);
        while self.failed.is_none() {
            let (skimmed, taken) = match self.skimmer.parse(&self.waiting) {
                Ok(read) => read,
                Err(error) => {
                    self.failed = Some(error);
                    return;
                }
            };
            let is_last = skimmed.is_none();
            self.seen.extend(skimmed.map(|skimmed| shown(&skimmed)));
            self.waiting.drain(..taken);
            if is_last {
                break;
            }
        }
        let whole = LIMITS.line_bytes_max + LIMITS.value_bytes_max + 2;
        assert!(self.failed.is_some() || self.waiting.len() < whole);
    }

    /// Whole, byte by byte, and in two pieces cut at each place, it is the same.
    fn read(input: &[u8]) -> (Vec<String>, Option<ReplyError>) {
        let read = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let mut reader = Reader::new();
            pieces.for_each(|piece| reader.feed(piece));
            (reader.seen, reader.failed)
        };
        let whole = read(&mut [input].into_iter());
        assert_eq!(read(&mut input.chunks(1)), whole, "byte by byte");
        for cut in 0..=input.len() {
            let (one, two) = input.split_at(cut);
            assert_eq!(read(&mut [one, two].into_iter()), whole, "cut at {cut}");
        }
        whole
    }
}

fn shown(skimmed: &Skimmed<'_>) -> String {
    match skimmed {
        Skimmed::Whole(reply) => format!("{reply:?}"),
        Skimmed::Large { head, bytes } => format!("{bytes} bytes of {head:?}"),
    }
}

/// The same, as a parser without a limit for values reads it.
fn parsed(input: &[u8]) -> (Vec<String>, Option<ReplyError>) {
    let mut parser = Parser::new(Limits {
        value_bytes_max: usize::MAX,
        ..LIMITS
    });
    let (mut rest, mut seen) = (input, Vec::new());
    loop {
        let (reply, taken) = match parser.parse(rest) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return (seen, None),
            Err(error) => return (seen, Some(error)),
        };
        let bytes = match reply {
            Reply::Value { value, .. } | Reply::MetaValue { value, .. } => value.len(),
            _ => 0,
        };
        seen.push(shown(&if bytes > LIMITS.value_bytes_max {
            let head = reply.map(|part| if part.len() == bytes { &b""[..] } else { part });
            Skimmed::Large { head, bytes }
        } else {
            Skimmed::Whole(reply)
        }));
        rest = &rest[taken..];
    }
}

#[test]
fn values_over_the_limit_are_passed_over() {
    let mut input = b"VALUE a 7 8\r\n12345678\r\nVALUE b 7 9 5\r\n123456789\r\n".to_vec();
    input.extend_from_slice(b"VALUE c 0 14\r\n\r\nEND\r\n\r\nEND\r\n\r\nVALUE d 0 0\r\n\r\n");
    input.extend_from_slice(b"VA 10 kx\r\nVA 10 kx\r\n\r\nEND\r\nSTORED\r\n");
    let seen = [
        r#"Value("a", 7, "12345678", None)"#,
        r#"9 bytes of Value("b", 7, "", Some(5))"#,
        r#"14 bytes of Value("c", 0, "", None)"#,
        r#"Value("d", 0, "", None)"#,
        r#"10 bytes of MetaValue("", "kx")"#,
        "End",
        "Stored",
    ];
    assert_eq!(Reader::read(&input), (seen.map(Into::into).into(), None));
}

#[test]
fn a_large_value_ends_as_any_other() {
    let line = "VALUE a 0 9\r\n";
    for (end, at) in [("xy", 9), ("x\n", 9), ("\r\r", 10), ("\n", 9), ("\rx", 10)] {
        let (seen, failed) = Reader::read(format!("{line}123456789{end}").as_bytes());
        let kind = ReplyErrorKind::ValueEnd;
        let at = line.len() + at;
        assert_eq!(seen, [r#"9 bytes of Value("a", 0, "", None)"#]);
        assert_eq!(failed, Some(ReplyError { kind, at }), "{end:?}");
    }
}

#[test]
fn what_no_memcached_could_have_is_refused() {
    let most = ITEM_BYTES_MAX as u64;
    for bytes in [most, most + 1, 1 << 31, u64::MAX] {
        for (line, at) in [
            (format!("VALUE a 0 {bytes}\r\n"), 10),
            (format!("VA {bytes} kx\r\n"), 3),
        ] {
            let (seen, failed) = Reader::read(line.as_bytes());
            let kind = ReplyErrorKind::ValueTooLarge { bytes };
            let refused = (bytes > most).then_some(ReplyError { kind, at });
            assert_eq!(failed, refused, "{line}");
            assert_eq!(seen.len(), usize::from(failed.is_none()));
        }
    }
    // Whatever else a parser refuses is refused, too.
    let (_, failed) = Reader::read(b"VALUE a 0 9\r\n123456789\r\nVALUE a 0 x\r\n");
    let error = reply::parse(b"VALUE a 0 x\r\n", &LIMITS);
    assert_eq!(failed, error.err());
}

/// Replies with values of any length, some of them spoilt.
fn replies() -> impl Strategy<Value = Vec<u8>> {
    let contents = ["x", "\r\n", "\r\nEND\r\n", "VALUE a 0 1\r\n"];
    let value = (prop::sample::select(contents.to_vec()), 0..40_usize);
    let value = value.prop_map(|(content, bytes)| {
        let mut out = Vec::new();
        let value: Vec<u8> = content.bytes().cycle().take(bytes).collect();
        encode::value(&mut out, b"key", 0, &value, None);
        out
    });
    let other = prop::sample::select(vec![
        "END\r\n",
        "STORED\r\n",
        "VA 9\r\n123456789\r\n",
        "VA ",
    ]);
    let reply = prop_oneof![
        6 => value,
        3 => other.prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..3),
    ];
    prop::collection::vec(reply, 0..8).prop_map(|replies| replies.concat())
}

proptest! {
    #[test]
    fn all_but_large_values_is_as_a_parser_reads_it(input in replies()) {
        let (mut seen, failed) = Reader::read(&input);
        let (by_parser, error) = parsed(&input);
        prop_assert_eq!(failed, error);
        // The line of a large value is told before its end has come, if it ever does.
        if seen.len() > by_parser.len() {
            let last = seen.pop().unwrap();
            prop_assert!(last.contains("bytes of"), "{}", last);
        }
        prop_assert_eq!(seen, by_parser);
    }
}
