//! A client of rustls's beside the record layer.

use std::io::Write;
use std::sync::Arc;

use rustls::AlertDescription;

use super::{client, client_config, heard, said, shake_hands};
use crate::handshake::{HandshakeError, Progress, Server};
use crate::limits::HANDSHAKE_BYTES_MAX;
use crate::record_layer::{End, RecordLayer, SealError};
use crate::testing::{certificates, suites};

/// Gives the server's records what a client has said, in pieces; the data, and the end.
fn opened(
    records: &mut RecordLayer,
    bytes: &[u8],
    piece: usize,
    out: &mut Vec<u8>,
) -> (Vec<u8>, Option<End>) {
    let (mut data, mut inbox, mut end) = (Vec::new(), Vec::new(), None);
    for bytes in bytes.chunks(piece) {
        inbox.extend_from_slice(bytes);
        let opened = records.open(&mut inbox, out);
        data.extend_from_slice(&inbox[..opened.data]);
        inbox.drain(..opened.taken);
        end = end.or(opened.end);
    }
    assert!(inbox.is_empty(), "all records were whole");
    (data, end)
}

#[test]
fn data_goes_both_ways_however_it_is_cut_and_keys_are_updated_by_either_side() {
    let server = Server::new(certificates()).unwrap();
    for suite in suites() {
        for piece in [1, 7, 100_000] {
            let mut client = client(&Arc::new(client_config(suite)));
            let mut established = shake_hands(&server, &mut client, piece);
            assert_eq!(client.alpn_protocol(), Some(&b"http/1.1"[..]));
            let records = &mut established.records;
            assert_eq!(records.is_tls13(), suite.tls13().is_some());
            let mut random = fastrand::Rng::with_seed(7);
            for round in 0..60 {
                let sent: Vec<u8> = (0..random.usize(..3_000)).map(|_| random.u8(..)).collect();
                client.writer().write_all(&sent).unwrap();
                if round % 3 == 0 && records.is_tls13() {
                    client.refresh_traffic_keys().unwrap();
                    client.writer().write_all(b"behind").unwrap();
                }
                let bytes = [std::mem::take(&mut established.rest), said(&mut client)].concat();
                let mut out = Vec::new();
                let (data, end) = opened(records, &bytes, piece, &mut out);
                assert_eq!((data.starts_with(&sent), end), (true, None));
                if round % 5 == 0 {
                    records.update_write(&mut out);
                }
                records.seal(&data, &mut out).unwrap();
                assert_eq!(heard(&mut client, &out), data, "{suite:?} {piece} {round}");
            }
            // Long texts are several records.
            let long = vec![b'x'; 100_000];
            let mut out = Vec::new();
            records.seal(&long, &mut out).unwrap();
            assert_eq!(heard(&mut client, &out), long);
            client.send_close_notify();
            let mut out = Vec::new();
            let (data, end) = opened(records, &said(&mut client), piece, &mut out);
            assert_eq!((data, end), (Vec::new(), Some(End::Closed)));
            // This side may still speak.
            records.seal(b"last words", &mut out).unwrap();
            records.close(&mut out);
            assert_eq!(heard(&mut client, &out), b"last words");
            assert_eq!(records.seal(b"x", &mut out), Err(SealError::Closed));
            let ended = client.process_new_packets().unwrap();
            assert!(ended.peer_has_closed());
        }
    }
}

#[test]
fn a_client_that_comes_back_has_a_ticket() {
    let server = Server::new(certificates()).unwrap();
    for suite in suites() {
        let config = Arc::new(client_config(suite));
        for number in 0..3 {
            let mut client = client(&config);
            let mut established = shake_hands(&server, &mut client, usize::MAX);
            assert_eq!(established.is_resumed, number > 0, "{suite:?}");
            let mut out = Vec::new();
            established.records.seal(b"hello", &mut out).unwrap();
            assert_eq!(heard(&mut client, &out), b"hello");
        }
    }
}

#[test]
fn what_comes_right_behind_the_handshake_is_not_lost() {
    let server = Server::new(certificates()).unwrap();
    for suite in suites() {
        let config = Arc::new(client_config(suite));
        // The second time with a ticket: then the client is the last to speak with TLS 1.2, too.
        for _ in 0..2 {
            let mut client = client(&config);
            // rustls sends it as soon as it may.
            client.writer().write_all(b"early").unwrap();
            let mut established = shake_hands(&server, &mut client, usize::MAX);
            let mut bytes = established.rest;
            bytes.extend(said(&mut client));
            let opened = established.records.open(&mut bytes, &mut Vec::new());
            assert_eq!(&bytes[..opened.data], b"early", "{suite:?}");
        }
    }
}

#[test]
fn what_is_no_handshake_is_refused() {
    let server = Server::new(certificates()).unwrap();
    let refused = |bytes: &[u8]| {
        let mut out = Vec::new();
        let error = server
            .handshake()
            .unwrap()
            .receive(bytes, &mut out)
            .unwrap_err();
        (error, out)
    };
    for bytes in [
        &b"G"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x80\x2e\x01",
        b"\x15\x03\x01\0\x02\x02\x28",
    ] {
        let (error, out) = refused(bytes);
        assert!(matches!(error, HandshakeError::NotTls), "{error:?}");
        assert_eq!(out, b"");
    }
    let (error, out) = refused(b"\x16\x03\x01\xff\xff");
    assert!(matches!(error, HandshakeError::Rustls(_)), "{error:?}");
    assert_eq!(out[0], 21, "an alert");
    let (error, out) = refused(b"\x16\x03\x01\0\x04\x02\0\0\0");
    assert!(matches!(error, HandshakeError::Rustls(_)));
    assert_eq!(out[0], 21, "an alert");
    // A ClientHello that never ends.
    let mut handshake = server.handshake().unwrap();
    let piece = [&b"\x16\x03\x01\x04\0"[..], &[0; 1024]].concat();
    let mut hello = [&b"\x16\x03\x01\x04\0\x01\0\xff\xff"[..], &[0; 1020]].concat();
    let mut sent = 0;
    let error = loop {
        sent += hello.len();
        match handshake.receive(&hello, &mut Vec::new()) {
            Ok(Progress::Wait(waits)) => handshake = waits,
            Ok(Progress::Done(_)) => panic!("it is not done"),
            Err(error) => break error,
        }
        assert!(sent < 2 * HANDSHAKE_BYTES_MAX, "it has no end");
        hello.clone_from(&piece);
    };
    assert!(sent <= HANDSHAKE_BYTES_MAX + piece.len(), "{error:?}");
}

#[test]
fn a_client_that_wants_another_protocol_is_told_so() {
    let server = Server::new(certificates()).unwrap();
    let mut config = client_config(suites()[0]);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut client = client(&Arc::new(config));
    let mut out = Vec::new();
    let handshake = server.handshake().unwrap();
    let refused = handshake.receive(&said(&mut client), &mut out);
    assert!(matches!(refused, Err(HandshakeError::Rustls(_))));
    client.read_tls(&mut &*out).unwrap();
    let told = client.process_new_packets().unwrap_err();
    let expected = AlertDescription::NoApplicationProtocol;
    assert_eq!(told, rustls::Error::AlertReceived(expected));
}
