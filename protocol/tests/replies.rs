//! Replies, whole and cut anywhere.

use bytes::BytesMut;
use presenced_protocol::meta::ReplyFlags;
use presenced_protocol::reply::{self, MetaStatus};
use presenced_protocol::{Limits, Reply, ReplyError, ReplyErrorKind, encode};
use proptest::prelude::*;

/// The replies in `input`, and what ended it: an error, or input that isn't whole.
fn read(input: &[u8], limits: &Limits) -> (Vec<String>, Option<ReplyError>) {
    let mut reader = Reader::new(limits);
    reader.feed(input);
    (reader.seen, reader.failed)
}

struct Reader {
    parser: reply::Parser,
    taker: reply::Parser,
    limits: Limits,
    waiting: Vec<u8>,
    buffer: BytesMut,
    seen: Vec<String>,
    failed: Option<ReplyError>,
}

impl Reader {
    fn new(limits: &Limits) -> Reader {
        Reader {
            parser: reply::Parser::new(*limits),
            taker: reply::Parser::new(*limits),
            limits: *limits,
            waiting: Vec::new(),
            buffer: BytesMut::new(),
            seen: Vec::new(),
            failed: None,
        }
    }

    /// The parser that remembers, and the one that takes, must say what one without memory says.
    fn feed(&mut self, input: &[u8]) {
        self.waiting.extend_from_slice(input);
        self.buffer.extend_from_slice(input);
        while self.failed.is_none() {
            let parsed = self.parser.parse(&self.waiting);
            assert_eq!(parsed, reply::parse(&self.waiting, &self.limits));
            let taken = self.taker.take(&mut self.buffer);
            let shown = parsed.map(|found| found.map(|(reply, _)| format!("{reply:?}")));
            assert_eq!(
                taken.map(|found| found.map(|reply| format!("{reply:?}"))),
                shown
            );
            match parsed {
                Ok(None) => return,
                Ok(Some((reply, consumed))) => {
                    self.seen.push(format!("{reply:?}"));
                    assert!(consumed > 0 && consumed <= self.waiting.len());
                    self.waiting.drain(..consumed);
                    assert_eq!(self.waiting, self.buffer);
                }
                Err(error) => self.failed = Some(error),
            }
        }
    }
}

fn value<'a>(key: &'a [u8], flags: u32, value: &'a [u8], cas: Option<u64>) -> Reply<&'a [u8]> {
    Reply::Value {
        key,
        flags,
        value,
        cas,
    }
}

fn meta(status: MetaStatus, answers: &[u8]) -> Reply<&[u8]> {
    let answers = ReplyFlags::from(answers);
    Reply::Meta {
        status,
        flags: answers,
    }
}

fn meta_value<'a>(value: &'a [u8], answers: &'a [u8]) -> Reply<&'a [u8]> {
    let answers = ReplyFlags::from(answers);
    Reply::MetaValue {
        value,
        flags: answers,
    }
}

#[test]
fn reads_every_kind() {
    let all: &[(&[u8], Reply<&[u8]>)] = &[
        (b"STORED\r\n", Reply::Stored),
        (b"NOT_STORED\r\n", Reply::NotStored),
        (b"EXISTS\r\n", Reply::Exists),
        (b"NOT_FOUND\r\n", Reply::NotFound),
        (b"DELETED\r\n", Reply::Deleted),
        (b"TOUCHED\r\n", Reply::Touched),
        (b"OK\r\n", Reply::Ok),
        (b"END\r\n", Reply::End),
        (b"ERROR\r\n", Reply::Error(b"")),
        (
            b"ERROR Too many open connections\r\n",
            Reply::Error(b"Too many open connections"),
        ),
        (b"RESET\r\n", Reply::Reset),
        (b"0\r\n", Reply::Number(0)),
        (b"18446744073709551615\r\n", Reply::Number(u64::MAX)),
        (b"MN\r\n", Reply::MetaNoop),
        (b"HD\r\n", meta(MetaStatus::Done, b"")),
        (b"HD ka O1 W\r\n", meta(MetaStatus::Done, b"ka O1 W")),
        (b"EN\r\n", meta(MetaStatus::Miss, b"")),
        (b"NF kb\r\n", meta(MetaStatus::NotFound, b"kb")),
        (b"NS\r\n", meta(MetaStatus::NotStored, b"")),
        (b"EX c0\r\n", meta(MetaStatus::Exists, b"c0")),
        (b"VA 0\r\n\r\n", meta_value(b"", b"")),
        (
            b"VA 4 f7 t-1\r\n\r\nMN\r\n",
            meta_value(b"\r\nMN", b"f7 t-1"),
        ),
        (
            b"ME a exp=-1 la=0\r\n",
            Reply::MetaDebug {
                key: b"a",
                fields: b"exp=-1 la=0",
            },
        ),
        (b"VALUE a 0 0\r\n\r\n", value(b"a", 0, b"", None)),
        (
            b"VALUE a 4294967295 2\r\n\r\n\r\n",
            value(b"a", u32::MAX, b"\r\n", None),
        ),
        (
            b"VALUE a 7 3 18446744073709551615\r\nEND\r\n",
            value(b"a", 7, b"END", Some(u64::MAX)),
        ),
        (
            b"STAT pid 7\r\n",
            Reply::Stat {
                name: b"pid",
                value: b"7",
            },
        ),
        (
            b"STAT path \r\n",
            Reply::Stat {
                name: b"path",
                value: b"",
            },
        ),
        (
            b"STAT path a b\r\n",
            Reply::Stat {
                name: b"path",
                value: b"a b",
            },
        ),
        (b"VERSION 1.6.18\r\n", Reply::Version(b"1.6.18")),
        (
            b"CLIENT_ERROR bad data chunk\r\n",
            Reply::ClientError(b"bad data chunk"),
        ),
        (
            b"SERVER_ERROR out of memory\r\n",
            Reply::ServerError(b"out of memory"),
        ),
    ];
    let limits = Limits::default();
    for (bytes, reply) in all {
        assert_eq!(
            reply::parse(bytes, &limits),
            Ok(Some((*reply, bytes.len())))
        );
        for cut in 0..bytes.len() {
            assert_eq!(
                reply::parse(&bytes[..cut], &limits),
                Ok(None),
                "{reply:?} cut at {cut}"
            );
        }
        let whole = (vec![format!("{reply:?}")], None);
        assert_eq!(read(bytes, &limits), whole);
        for cut in 0..=bytes.len() {
            let mut reader = Reader::new(&limits);
            reader.feed(&bytes[..cut]);
            reader.feed(&bytes[cut..]);
            assert_eq!((reader.seen, reader.failed), whole, "cut at {cut}");
        }
        let mut followed = bytes.to_vec();
        followed.extend_from_slice(b"XYZ");
        assert_eq!(
            reply::parse(&followed, &limits),
            Ok(Some((*reply, bytes.len())))
        );
        let mut out = Vec::new();
        encode::reply(&mut out, reply);
        assert_eq!(out, *bytes);
    }
}

#[test]
fn refuses_what_is_no_reply() {
    let limits = Limits {
        line_bytes_max: 48,
        value_bytes_max: 100,
        ..Limits::default()
    };
    let long = [b'x'; 48];
    let too_large = |bytes| ReplyErrorKind::ValueTooLarge { bytes };
    let cases: &[(&[u8], ReplyErrorKind, usize)] = &[
        (b"\r\n", ReplyErrorKind::Unknown, 0),
        (b"stored\r\n", ReplyErrorKind::Unknown, 0),
        (b"STORED \r\n", ReplyErrorKind::Unknown, 0),
        (b" STORED\r\n", ReplyErrorKind::Unknown, 0),
        (b"STOREDSTORED\r\n", ReplyErrorKind::Unknown, 0),
        (b"VALUE\r\n", ReplyErrorKind::Unknown, 0),
        (b"VERSION\r\n", ReplyErrorKind::Unknown, 0),
        (b"012\r\n", ReplyErrorKind::Unknown, 0),
        (b"-1\r\n", ReplyErrorKind::Unknown, 0),
        (b"12 \r\n", ReplyErrorKind::Unknown, 0),
        (b"18446744073709551616\r\n", ReplyErrorKind::Unknown, 0),
        (b"HDx\r\n", ReplyErrorKind::Unknown, 0),
        (b"MN \r\n", ReplyErrorKind::Unknown, 0),
        (b"BUSY x\r\n", ReplyErrorKind::Unknown, 0),
        (b"STORED\n", ReplyErrorKind::LineEnd, 6),
        (b"\n", ReplyErrorKind::LineEnd, 0),
        (b"STORED\r\r\n", ReplyErrorKind::LineEnd, 6),
        (b"VERSION 1\r2\r\n", ReplyErrorKind::LineEnd, 9),
        (b"HD k\r\r\n", ReplyErrorKind::LineEnd, 4),
        (&long, ReplyErrorKind::LineTooLong, 48),
        (b"STAT\r\n", ReplyErrorKind::Unknown, 0),
        (b"STAT pid\r\n", ReplyErrorKind::Malformed, 8),
        (b"STAT  7\r\n", ReplyErrorKind::Malformed, 5),
        (b"VALUE \r\n", ReplyErrorKind::Malformed, 6),
        (b"VALUE a\r\n", ReplyErrorKind::Malformed, 7),
        (b"VALUE a 0\r\n", ReplyErrorKind::Malformed, 9),
        (b"VALUE a 0 1 2 3\r\n", ReplyErrorKind::Malformed, 14),
        (b"VALUE a 0 1 \r\n", ReplyErrorKind::Malformed, 12),
        (b"VALUE  0 1\r\n", ReplyErrorKind::Malformed, 6),
        (b"VALUE a  1\r\n", ReplyErrorKind::Malformed, 8),
        (b"VALUE a\tb 0 1\r\n", ReplyErrorKind::Malformed, 6),
        (b"VALUE a -1 1\r\n", ReplyErrorKind::Malformed, 8),
        (b"VALUE a 4294967296 1\r\n", ReplyErrorKind::Malformed, 8),
        (b"VALUE a 0 01\r\n", ReplyErrorKind::Malformed, 10),
        (
            b"VALUE a 0 18446744073709551616\r\n",
            ReplyErrorKind::Malformed,
            10,
        ),
        (b"VALUE a 0 101\r\n", too_large(101), 10),
        (
            b"VALUE a 0 18446744073709551615\r\n",
            too_large(u64::MAX),
            10,
        ),
        (b"VALUE a 0 1\r\nxy", ReplyErrorKind::ValueEnd, 14),
        (b"VALUE a 0 1\r\nx\n", ReplyErrorKind::ValueEnd, 14),
        (b"VALUE a 0 1\r\nx\r\r", ReplyErrorKind::ValueEnd, 15),
        (b"VA\r\n", ReplyErrorKind::Unknown, 0),
        (b"VA \r\n", ReplyErrorKind::Malformed, 3),
        (b"VA x\r\n", ReplyErrorKind::Malformed, 3),
        (b"VA 1x f0\r\n", ReplyErrorKind::Malformed, 3),
        (b"VA 101 f0\r\n", too_large(101), 3),
        (b"VA 1\r\nxy", ReplyErrorKind::ValueEnd, 7),
        (b"ME\r\n", ReplyErrorKind::Unknown, 0),
        (b"ME  exp=1\r\n", ReplyErrorKind::Malformed, 3),
    ];
    for &(bytes, kind, at) in cases {
        let error = ReplyError { kind, at };
        let shown = bytes.escape_ascii();
        assert_eq!(reply::parse(bytes, &limits), Err(error), "{shown}");
        assert!(!error.to_string().contains('\n'));
        // Not a byte earlier, and whatever follows.
        assert_eq!(
            reply::parse(&bytes[..bytes.len() - 1], &limits),
            Ok(None),
            "{shown} less one"
        );
        for cut in 0..bytes.len() {
            let mut reader = Reader::new(&limits);
            reader.feed(&bytes[..cut]);
            reader.feed(&bytes[cut..]);
            assert_eq!(reader.failed, Some(error), "{shown} cut at {cut}");
        }
        let followed = [bytes, &b"STORED\r\n"[..]].concat();
        assert_eq!(
            reply::parse(&followed, &limits),
            Err(error),
            "{shown} and more"
        );
    }
}

#[test]
fn counts_runs_of_stored() {
    let run = b"STORED\r\n".repeat(5);
    assert_eq!(reply::stored_run(&run), 5);
    for cut in 0..=run.len() {
        assert_eq!(reply::stored_run(&run[..cut]), cut / 8);
    }
    for at in 0..run.len() {
        let mut spoilt = run.clone();
        spoilt[at] ^= 0x20;
        assert_eq!(reply::stored_run(&spoilt), at / 8);
    }
    assert_eq!(reply::stored_run(b"SERVER_ERROR x\r\nSTORED\r\n"), 0);
}

/// Replies, some of them spoilt.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "STORED\r\n",
        "END\r\n",
        "NOT_FOUND\r\n",
        "VALUE a 0 3\r\nabc\r\n",
        "VALUE b 7 0 12\r\n\r\n",
        "STAT a b c\r\n",
        "VERSION 1\r\n",
        "SERVER_ERROR x\r\n",
        "ERROR\r\n",
        "HD k O1\r\n",
        "EN\r\n",
        "MN\r\n",
        "VA 2 t-1\r\nhi\r\n",
        "ME a b=c\r\n",
        "12\r\n",
        "VALUE ",
        "VA ",
        "a ",
        "3\r\n",
        "\r\n",
        "x",
    ]);
    let piece = prop_oneof![
        30 => pieces.prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_cuts_give_the_same(input in bytes(), mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5)) {
        let limits = Limits { line_bytes_max: 32, value_bytes_max: 8, ..Limits::default() };
        let mut reader = Reader::new(&limits);
        let mut at = 0;
        cuts.sort_by_key(|cut| cut.index(input.len() + 1));
        for cut in cuts {
            let cut = cut.index(input.len() + 1);
            reader.feed(&input[at..cut]);
            at = cut;
        }
        reader.feed(&input[at..]);
        prop_assert_eq!((reader.seen, reader.failed), read(&input, &limits));
    }

    #[test]
    fn anything_is_read_without_panic(input in prop::collection::vec(any::<u8>(), 0..300)) {
        // `feed` asserts what is consumed.
        read(&input, &Limits::default());
        let run = reply::stored_run(&input);
        prop_assert!(run * 8 <= input.len());
    }
}
