//! Records that no real client sends, and what must never happen with a key.

use proptest::prelude::*;
use rustls::{AlertDescription, SupportedCipherSuite};

use crate::limits::{FRAGMENT_BYTES_MAX, IDLE_RECORDS_MAX};
use crate::record_layer::{End, Opened, RecordLayer, SealError};
use crate::testing::{craft, ends, go_on_to_next_write_key, suites};

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
const UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
const UPDATE_WANTED: [u8; 5] = [24, 0, 0, 1, 1];

/// What comes of `bytes`: the data, and what is said to them.
fn open(to: &mut RecordLayer, bytes: &[u8]) -> (Opened, Vec<u8>, Vec<u8>) {
    let (mut bytes, mut out) = (bytes.to_vec(), Vec::new());
    let opened = to.open(&mut bytes, &mut out);
    (opened, bytes[..opened.data].to_vec(), out)
}

fn sealed(from: &mut RecordLayer, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    from.seal(data, &mut out).unwrap();
    out
}

/// The alert with which `bytes` end the connection. The client understands it, and nothing follows.
fn fault(client: &mut RecordLayer, server: &mut RecordLayer, bytes: &[u8]) -> AlertDescription {
    let (opened, _, out) = open(server, bytes);
    let Some(End::Fault(alert)) = opened.end else {
        panic!("{opened:?}");
    };
    assert_eq!(open(client, &out).0.end, Some(End::Alert(alert)));
    let mut more = Vec::new();
    assert_eq!(server.seal(b"x", &mut more), Err(SealError::Closed));
    server.close(&mut more);
    server.update_write(&mut more);
    assert_eq!(more, b"", "nothing follows the alert");
    let (after, data, out) = open(server, &sealed_anyhow(client));
    assert_eq!(
        (after.end, data.len(), out.len()),
        (opened.end, 0, 0),
        "a fault stays one"
    );
    alert
}

/// A record of a client that does not care that the connection has ended.
fn sealed_anyhow(client: &mut RecordLayer) -> Vec<u8> {
    craft(client, DATA, b"x", 0)
}

fn are_tls13(suite: &SupportedCipherSuite) -> bool {
    suite.tls13().is_some()
}

#[test]
fn a_record_with_any_bit_changed_is_refused() {
    for suite in suites() {
        let (mut client, server) = ends(suite);
        drop(server);
        let bytes = sealed(&mut client, b"hello").len();
        for place in 0..bytes {
            for bit in [0, 7] {
                let (mut client, mut server) = ends(suite);
                let mut bad = sealed(&mut client, b"hello");
                bad[place] ^= 1 << bit;
                let (opened, data, _) = open(&mut server, &bad);
                assert_eq!(data, b"", "{place}");
                match opened.end {
                    // Its length has grown: it is refused when the rest has come.
                    None => {
                        assert!(opened.taken == 0 && (3..5).contains(&place), "{place}");
                        bad.resize(FRAGMENT_BYTES_MAX + 300, 0);
                        let (opened, data, _) = open(&mut server, &bad);
                        assert!(matches!(opened.end, Some(End::Fault(_))));
                        assert_eq!(data, b"");
                    }
                    Some(End::Fault(_)) => {}
                    other => panic!("{place}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn a_record_that_comes_twice_or_too_early_is_refused() {
    for suite in suites() {
        let (mut client, mut server) = ends(suite);
        let first = sealed(&mut client, b"first");
        assert_eq!(open(&mut server, &first).1, b"first");
        let alert = fault(&mut client, &mut server, &first);
        assert_eq!(alert, AlertDescription::BadRecordMac);

        let (mut client, mut server) = ends(suite);
        sealed(&mut client, b"first");
        let second = sealed(&mut client, b"second");
        let alert = fault(&mut client, &mut server, &second);
        assert_eq!(alert, AlertDescription::BadRecordMac);
    }
}

#[test]
fn what_tls13_forbids_has_its_alert() {
    use AlertDescription as Is;
    let long = vec![b'x'; FRAGMENT_BYTES_MAX + 1];
    let twice = [UPDATE, UPDATE].concat();
    let cut = &UPDATE[..3];
    let inner: [(u8, &[u8], usize, AlertDescription); 14] = [
        (0, b"", 0, Is::UnexpectedMessage),
        (0, b"", 9, Is::UnexpectedMessage),
        (20, b"\x01", 0, Is::UnexpectedMessage),
        (99, b"x", 0, Is::UnexpectedMessage),
        (ALERT, b"", 0, Is::UnexpectedMessage),
        (ALERT, b"\x01", 0, Is::DecodeError),
        (ALERT, b"\x01\0\0", 0, Is::DecodeError),
        (ALERT, b"\x07\x28", 0, Is::IllegalParameter),
        (HANDSHAKE, b"", 3, Is::UnexpectedMessage),
        (HANDSHAKE, b"\x18\0\0\x01\x02", 0, Is::IllegalParameter),
        (HANDSHAKE, &twice, 0, Is::UnexpectedMessage),
        (HANDSHAKE, cut, 0, Is::UnexpectedMessage),
        (HANDSHAKE, b"\x01\0\0\0", 0, Is::UnexpectedMessage),
        (DATA, &long, 0, Is::RecordOverflow),
    ];
    for suite in suites().into_iter().filter(are_tls13) {
        for (kind, text, zeros, expected) in inner {
            let (mut client, mut server) = ends(suite);
            let bytes = craft(&mut client, kind, text, zeros);
            let alert = fault(&mut client, &mut server, &bytes);
            assert_eq!(alert, expected, "{kind} {text:.9?} {zeros}");
        }
        let outer: [(&[u8], AlertDescription); 7] = [
            (b"\x14\x03\x03\0\x01\x01", Is::UnexpectedMessage),
            (b"\x15\x03\x03\0\x02\x01\0", Is::UnexpectedMessage),
            (b"\x16\x03\x03\0\x05\x18\0\0\x01\0", Is::UnexpectedMessage),
            (b"\x17\x02\x03\0\x11", Is::ProtocolVersion),
            (b"\x17\x03\x03\x41\x01", Is::RecordOverflow),
            (b"\x17\x03\x03\0\0", Is::BadRecordMac),
            (b"\x17\x03\x03\0\x0f123456789012345", Is::BadRecordMac),
        ];
        for (bytes, expected) in outer {
            let (mut client, mut server) = ends(suite);
            assert_eq!(
                fault(&mut client, &mut server, bytes),
                expected,
                "{bytes:?}"
            );
        }
    }
}

#[test]
fn what_tls12_forbids_has_its_alert() {
    use AlertDescription as Is;
    let long = vec![b'x'; FRAGMENT_BYTES_MAX + 1];
    for suite in suites().into_iter().filter(|suite| !are_tls13(suite)) {
        let bad: [(u8, &[u8], AlertDescription); 7] = [
            (ALERT, b"", Is::DecodeError),
            (ALERT, b"\x01", Is::DecodeError),
            (ALERT, b"\x07\x28", Is::IllegalParameter),
            (HANDSHAKE, b"", Is::UnexpectedMessage),
            (HANDSHAKE, b"\x10\0\0\0", Is::UnexpectedMessage),
            (HANDSHAKE, b"\x01\0\0\x01", Is::UnexpectedMessage),
            (DATA, &long, Is::RecordOverflow),
        ];
        for (kind, text, expected) in bad {
            let (mut client, mut server) = ends(suite);
            let bytes = craft(&mut client, kind, text, 0);
            let alert = fault(&mut client, &mut server, &bytes);
            assert_eq!(alert, expected, "{kind} {text:.9?}");
        }
        let (mut client, mut server) = ends(suite);
        let bytes = craft(&mut client, 20, b"\x01", 0);
        assert_eq!(
            fault(&mut client, &mut server, &bytes),
            Is::UnexpectedMessage
        );
    }
}

#[test]
fn padding_is_taken_off() {
    for suite in suites().into_iter().filter(are_tls13) {
        let (mut client, mut server) = ends(suite);
        let full = vec![b'x'; FRAGMENT_BYTES_MAX];
        for (text, zeros) in [(&b"hello"[..], 1), (b"\0\0", 1000), (b"", 50), (&full, 0)] {
            let bytes = craft(&mut client, DATA, text, zeros);
            let (opened, data, out) = open(&mut server, &bytes);
            assert_eq!((opened.end, &*data, out.len()), (None, text, 0));
        }
    }
}

#[test]
fn a_client_that_wants_to_renegotiate_is_told_no_and_may_go_on() {
    for suite in suites().into_iter().filter(|suite| !are_tls13(suite)) {
        let (mut client, mut server) = ends(suite);
        let hello = craft(&mut client, HANDSHAKE, b"\x01\0\0\x02xx", 0);
        let (opened, _, out) = open(&mut server, &hello);
        assert_eq!(opened.end, None);
        // A warning ends nothing.
        assert_eq!(open(&mut client, &out).0.end, None);
        let data = sealed(&mut client, b"on");
        assert_eq!(open(&mut server, &data).1, b"on");
    }
}

#[test]
fn an_alert_of_the_client_ends_the_connection() {
    for suite in suites() {
        let (mut client, mut server) = ends(suite);
        let alert = craft(&mut client, ALERT, &[2, 42], 0);
        let (opened, _, out) = open(&mut server, &alert);
        let expected = End::Alert(AlertDescription::BadCertificate);
        assert_eq!((opened.end, out.len()), (Some(expected), 0));
        assert_eq!(open(&mut server, b"").0.end, Some(expected));
        assert_eq!(server.seal(b"x", &mut Vec::new()), Err(SealError::Closed));
        // As an error it ends the connection, too.
        let (mut client, mut server) = ends(suite);
        let mut alert = craft(&mut client, ALERT, &[2, 90], 0);
        alert.extend(b"what comes behind is ignored");
        let (opened, ..) = open(&mut server, &alert);
        let expected = End::Alert(AlertDescription::UserCanceled);
        assert_eq!((opened.end, opened.taken), (Some(expected), alert.len()));
        // It takes back what it was about to do, and closes then.
        let (mut client, mut server) = ends(suite);
        let mut alerts = craft(&mut client, ALERT, &[1, 90], 0);
        alerts.extend(craft(&mut client, ALERT, &[1, 0], 0));
        assert_eq!(open(&mut server, &alerts).0.end, Some(End::Closed));
        server.seal(b"x", &mut Vec::new()).unwrap();
    }
}

#[test]
fn few_records_without_data_may_come_in_a_row() {
    for suite in suites() {
        let kinds: &[(u8, &[u8])] = match suite.tls13() {
            Some(_) => &[
                (DATA, b""),
                (HANDSHAKE, &UPDATE),
                (HANDSHAKE, &UPDATE_WANTED),
            ],
            None => &[(DATA, b"")],
        };
        for &(kind, text) in kinds {
            let (mut client, mut server) = ends(suite);
            for _ in 0..2 {
                for _ in 0..IDLE_RECORDS_MAX {
                    let bytes = idle(&mut client, kind, text);
                    let (opened, _, out) = open(&mut server, &bytes);
                    assert_eq!(opened.end, None);
                    assert_eq!(open(&mut client, &out).0.end, None);
                    // What the server answers is no data for the client, either.
                    let data = sealed(&mut server, b"y");
                    assert_eq!(open(&mut client, &data).1, b"y");
                }
                let data = sealed(&mut client, b"data");
                assert_eq!(open(&mut server, &data).1, b"data");
            }
            for _ in 0..IDLE_RECORDS_MAX {
                let bytes = idle(&mut client, kind, text);
                assert_eq!(open(&mut server, &bytes).0.end, None);
            }
            let bytes = idle(&mut client, kind, text);
            let (opened, ..) = open(&mut server, &bytes);
            let expected = End::Fault(AlertDescription::UnexpectedMessage);
            assert_eq!(opened.end, Some(expected), "{kind} {text:?}");
        }
    }
}

/// Such a record, after which a client that updates its key does so.
fn idle(client: &mut RecordLayer, kind: u8, text: &[u8]) -> Vec<u8> {
    let bytes = craft(client, kind, text, 0);
    if text.first() == Some(&24) {
        go_on_to_next_write_key(client);
    }
    bytes
}

#[test]
fn several_requests_for_an_update_have_one_answer() {
    for suite in suites().into_iter().filter(are_tls13) {
        let (mut client, mut server) = ends(suite);
        let mut bytes = Vec::new();
        for number in 0..3 {
            bytes.extend(idle(&mut client, HANDSHAKE, &UPDATE_WANTED));
            bytes.extend(sealed(&mut client, format!("{number}").as_bytes()));
        }
        let (opened, data, mut out) = open(&mut server, &bytes);
        assert_eq!((opened.end, &*data), (None, &b"012"[..]));
        let answer = out.len();
        server.seal(b"after", &mut out).unwrap();
        assert_eq!(out[3..5], [0, 22], "one update");
        assert_eq!(answer, 27);
        assert_eq!(open(&mut client, &out).1, b"after");
        // One that has closed its side owes no answer.
        server.close(&mut Vec::new());
        let bytes = idle(&mut client, HANDSHAKE, &UPDATE_WANTED);
        let (opened, _, out) = open(&mut server, &bytes);
        assert_eq!((opened.end, out.len()), (None, 0));
    }
}

#[test]
fn a_request_for_an_update_is_answered_though_the_peer_closes_behind_it() {
    for suite in suites().into_iter().filter(are_tls13) {
        let (mut client, mut server) = ends(suite);
        let mut bytes = idle(&mut client, HANDSHAKE, &UPDATE_WANTED);
        client.close(&mut bytes);
        let (opened, _, mut out) = open(&mut server, &bytes);
        assert_eq!(opened.end, Some(End::Closed));
        assert_eq!(out.len(), 27, "one update");
        server.seal(b"last words", &mut out).unwrap();
        assert_eq!(open(&mut client, &out).1, b"last words");
        // After a fault nothing is said but the alert.
        let (mut client, mut server) = ends(suite);
        let mut bytes = idle(&mut client, HANDSHAKE, &UPDATE_WANTED);
        bytes.extend(craft(&mut client, 99, b"x", 0));
        let (_, _, out) = open(&mut server, &bytes);
        assert_eq!(out.len(), 24, "one alert");
    }
}

#[test]
fn a_key_that_is_used_up_seals_no_more() {
    for suite in suites() {
        let (mut client, mut server) = ends(suite);
        let last = server.cipher.records_per_key_max() - 1;
        if server.cipher.is_gcm() {
            assert!(last < 1 << 24, "RFC 8446 §5.5");
        }
        server.write.set_sequence(last);
        client.read.set_sequence(last);
        let mut out = Vec::new();
        server.seal(b"the last", &mut out).unwrap();
        let result = server.seal(b", then the next", &mut out);
        let (opened, data, _) = open(&mut client, &out);
        match suite.tls13() {
            Some(_) => {
                result.unwrap();
                assert_eq!(
                    (opened.end, &*data),
                    (None, &b"the last, then the next"[..])
                );
            }
            None => {
                assert_eq!(result, Err(SealError::UsedUp));
                assert_eq!((opened.end, &*data), (Some(End::Closed), &b"the last"[..]));
            }
        }
    }
}

#[test]
fn data_that_a_key_of_tls12_cannot_seal_whole_is_not_sealed_in_part() {
    for suite in suites().into_iter().filter(|suite| !are_tls13(suite)) {
        let (mut client, mut server) = ends(suite);
        let last = server.cipher.records_per_key_max() - 1;
        server.write.set_sequence(last);
        client.read.set_sequence(last);
        let mut out = Vec::new();
        let result = server.seal(&[b'x'; FRAGMENT_BYTES_MAX + 1], &mut out);
        assert_eq!(result, Err(SealError::UsedUp));
        let (opened, data, _) = open(&mut client, &out);
        assert_eq!((opened.end, &*data), (Some(End::Closed), &b""[..]));
    }
}

#[test]
fn one_that_is_put_into_its_place_goes_on() {
    for suite in suites() {
        let (mut client, mut server) = ends(suite);
        // Some records and, with TLS 1.3, a key that is not the first.
        let to_server = sealed(&mut client, b"before");
        let (_, data, _) = open(&mut server, &to_server);
        assert_eq!(data, b"before");
        let mut out = sealed(&mut server, b"before");
        server.update_write(&mut out);
        let mut place = None;
        server.settle(&mut place);
        let server = place.as_mut().unwrap();
        server.seal(b" and behind", &mut out).unwrap();
        let (_, data, _) = open(&mut client, &out);
        assert_eq!(data, b"before and behind", "{suite:?}");
        let to_server = sealed(&mut client, b"behind");
        let (_, data, _) = open(server, &to_server);
        assert_eq!(data, b"behind");
        // What has ended stays so.
        server.close(&mut out);
        let mut again = None;
        Box::new(place.unwrap()).settle(&mut again);
        assert!(again.unwrap().is_write_closed());
    }
}

#[test]
fn it_is_small_and_shows_no_secret() {
    assert!(
        size_of::<RecordLayer>() <= 224,
        "{}",
        size_of::<RecordLayer>()
    );
    for suite in suites() {
        let (_, server) = ends(suite);
        let shown = format!("{server:?}");
        let end = format!("is_tls13: {}, .. }}", suite.tls13().is_some());
        assert!(shown.starts_with("RecordLayer { cipher: ") && shown.ends_with(&end));
        assert!(shown.len() < 70, "{shown}");
    }
}

/// What a side may do.
#[derive(Clone, Debug)]
enum Act {
    Seal(usize),
    Update,
    AskForUpdate,
    Close,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => prop_oneof![0..50_usize, 16_000..70_000_usize].prop_map(Act::Seal),
        2 => Just(Act::Update),
        2 => Just(Act::AskForUpdate),
        1 => Just(Act::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whoever opens counts up with each record, and begins anew with each key. So if it can open everything, in
    /// order, then no nonce was used twice with one key.
    #[test]
    fn no_nonce_is_used_twice(
        suite in 0..suites().len(),
        acts in prop::collection::vec((any::<bool>(), act()), 1..40),
        cut in 1..40_000_usize,
    ) {
        let suite = suites()[suite];
        let (mut client, mut server) = ends(suite);
        let mut ways = [Way::default(), Way::default()];
        for (is_client, act) in acts {
            let (own, peer) = match is_client {
                true => (&mut client, &mut server),
                false => (&mut server, &mut client),
            };
            let [way, back] = &mut ways;
            let (way, back) = if is_client { (way, back) } else { (back, way) };
            match act {
                Act::Seal(length) => {
                    let data = vec![length as u8; length];
                    if own.seal(&data, &mut way.wire).is_ok() {
                        way.sent.extend(data);
                    } else {
                        prop_assert!(way.is_closed);
                    }
                }
                Act::Update => own.update_write(&mut way.wire),
                Act::AskForUpdate if suite.tls13().is_some() && !way.is_closed => {
                    way.wire.extend(idle(own, HANDSHAKE, &UPDATE_WANTED));
                }
                Act::AskForUpdate => {}
                Act::Close => {
                    own.close(&mut way.wire);
                    way.is_closed = true;
                }
            }
            // Some of it goes out.
            let some = way.wire.len().min(cut);
            way.inbox.extend(way.wire.drain(..some));
            let opened = peer.open(&mut way.inbox, &mut back.wire);
            way.received.extend(&way.inbox[..opened.data]);
            way.inbox.drain(..opened.taken);
            prop_assert!(matches!(opened.end, None | Some(End::Closed)), "{:?}", opened.end);
        }
        for (peer, way) in [&mut server, &mut client].into_iter().zip(&mut ways) {
            let mut rest = [&way.inbox[..], &way.wire].concat();
            let opened = peer.open(&mut rest, &mut Vec::new());
            way.received.extend(&rest[..opened.data]);
            prop_assert!(matches!(opened.end, None | Some(End::Closed)), "{:?}", opened.end);
            prop_assert!(way.received == way.sent);
        }
    }

    /// Whatever comes, nothing panics, and nothing that was not sealed is ever data.
    #[test]
    fn noise_is_never_data(
        suite in 0..suites().len(),
        kind in prop_oneof![Just(20_u8), Just(21), Just(22), Just(23), any::<u8>()],
        noise in prop::collection::vec(any::<u8>(), 0..200),
        is_framed in any::<bool>(),
    ) {
        let (_, mut server) = ends(suites()[suite]);
        let mut bytes = noise;
        if is_framed {
            let length = bytes.len() as u8;
            bytes.splice(..0, [kind, 3, 3, 0, length]);
        }
        let opened = server.open(&mut bytes, &mut Vec::new());
        prop_assert_eq!(opened.data, 0);
        prop_assert!(!matches!(opened.end, Some(End::Closed | End::Alert(_))));
    }
}

/// One direction of a connection.
#[derive(Default)]
struct Way {
    sent: Vec<u8>,
    is_closed: bool,
    /// Sealed, and not yet on its way.
    wire: Vec<u8>,
    /// Has come, and is no whole record yet.
    inbox: Vec<u8>,
    received: Vec<u8>,
}
