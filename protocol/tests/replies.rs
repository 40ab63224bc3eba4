//! Replies, whole and cut anywhere.

use presenced_protocol::{Limits, Reply, ReplyError, encode, reply};
use proptest::prelude::*;

/// The replies in `input`, and what ended it: an error, or input that isn't whole.
fn read(input: &[u8], limits: &Limits) -> (Vec<String>, Option<ReplyError>) {
    let mut reader = Reader::default();
    reader.feed(input, limits);
    (reader.seen, reader.failed)
}

#[derive(Default)]
struct Reader {
    waiting: Vec<u8>,
    seen: Vec<String>,
    failed: Option<ReplyError>,
}

impl Reader {
    fn feed(&mut self, input: &[u8], limits: &Limits) {
        self.waiting.extend_from_slice(input);
        while self.failed.is_none() {
            match reply::parse(&self.waiting, limits) {
                Ok(None) => return,
                Ok(Some((reply, consumed))) => {
                    self.seen.push(format!("{reply:?}"));
                    assert!(consumed > 0 && consumed <= self.waiting.len());
                    self.waiting.drain(..consumed);
                }
                Err(error) => self.failed = Some(error),
            }
        }
    }
}

fn value<'a>(key: &'a [u8], flags: u32, value: &'a [u8], cas: Option<u64>) -> Reply<'a> {
    Reply::Value {
        key,
        flags,
        value,
        cas,
    }
}

#[test]
fn reads_every_kind() {
    let all: &[(&[u8], Reply<'_>)] = &[
        (b"STORED\r\n", Reply::Stored),
        (b"NOT_STORED\r\n", Reply::NotStored),
        (b"EXISTS\r\n", Reply::Exists),
        (b"NOT_FOUND\r\n", Reply::NotFound),
        (b"DELETED\r\n", Reply::Deleted),
        (b"TOUCHED\r\n", Reply::Touched),
        (b"OK\r\n", Reply::Ok),
        (b"END\r\n", Reply::End),
        (b"ERROR\r\n", Reply::Error),
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

/// What memcached says before it hangs up on one connection too many.
#[test]
fn reads_an_error_with_a_text() {
    let input = b"ERROR Too many open connections\r\n";
    assert_eq!(
        reply::parse(input, &Limits::default()),
        Ok(Some((Reply::Error, input.len())))
    );
}

#[test]
fn refuses_what_is_no_reply() {
    let limits = Limits {
        line_bytes_max: 48,
        value_bytes_max: 100,
        ..Limits::default()
    };
    let long = [b'x'; 48];
    let cases: &[(&[u8], ReplyError)] = &[
        (b"\r\n", ReplyError::Unknown),
        (b"stored\r\n", ReplyError::Unknown),
        (b"STORED \r\n", ReplyError::Unknown),
        (b" STORED\r\n", ReplyError::Unknown),
        (b"STOREDSTORED\r\n", ReplyError::Unknown),
        (b"VALUE\r\n", ReplyError::Unknown),
        (b"VERSION\r\n", ReplyError::Unknown),
        (b"12\r\n", ReplyError::Unknown),
        (b"HD\r\n", ReplyError::Unknown),
        (b"STORED\n", ReplyError::LineEnd),
        (b"\n", ReplyError::LineEnd),
        (b"STORED\r\r\n", ReplyError::LineEnd),
        (b"VERSION 1\r2\r\n", ReplyError::LineEnd),
        (&long, ReplyError::LineTooLong),
        (b"STAT\r\n", ReplyError::Unknown),
        (b"STAT pid\r\n", ReplyError::Malformed),
        (b"STAT  7\r\n", ReplyError::Malformed),
        (b"VALUE \r\n", ReplyError::Malformed),
        (b"VALUE a\r\n", ReplyError::Malformed),
        (b"VALUE a 0\r\n", ReplyError::Malformed),
        (b"VALUE a 0 1 2 3\r\n", ReplyError::Malformed),
        (b"VALUE a 0 1 \r\n", ReplyError::Malformed),
        (b"VALUE  0 1\r\n", ReplyError::Malformed),
        (b"VALUE a  1\r\n", ReplyError::Malformed),
        (b"VALUE a\tb 0 1\r\n", ReplyError::Malformed),
        (b"VALUE a -1 1\r\n", ReplyError::Malformed),
        (b"VALUE a 4294967296 1\r\n", ReplyError::Malformed),
        (b"VALUE a 0 01\r\n", ReplyError::Malformed),
        (b"VALUE a 0 18446744073709551616\r\n", ReplyError::Malformed),
        (
            b"VALUE a 0 101\r\n",
            ReplyError::ValueTooLarge { bytes: 101 },
        ),
        (
            b"VALUE a 0 18446744073709551615\r\n",
            ReplyError::ValueTooLarge { bytes: u64::MAX },
        ),
        (b"VALUE a 0 1\r\nxy", ReplyError::ValueEnd),
        (b"VALUE a 0 1\r\nx\n", ReplyError::ValueEnd),
        (b"VALUE a 0 1\r\nx\r\r", ReplyError::ValueEnd),
    ];
    for (bytes, error) in cases {
        let shown = bytes.escape_ascii();
        assert_eq!(reply::parse(bytes, &limits), Err(*error), "{shown}");
        assert!(!error.to_string().contains('\n'));
        // Not a byte earlier, and whatever follows.
        assert_eq!(
            reply::parse(&bytes[..bytes.len() - 1], &limits),
            Ok(None),
            "{shown} less one"
        );
        let followed = [*bytes, &b"STORED\r\n"[..]].concat();
        assert_eq!(
            reply::parse(&followed, &limits),
            Err(*error),
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
        "VALUE ",
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
        let mut reader = Reader::default();
        let mut at = 0;
        cuts.sort_by_key(|cut| cut.index(input.len() + 1));
        for cut in cuts {
            let cut = cut.index(input.len() + 1);
            reader.feed(&input[at..cut], &limits);
            at = cut;
        }
        reader.feed(&input[at..], &limits);
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
