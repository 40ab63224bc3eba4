//! Sealed bytes that a socket does not take at once, and keys that change meanwhile: what is sealed goes out in its order.

use presenced_session::Config;
use presenced_session::close_reason::CloseReason;
use presenced_session::dialect::Plain;
use presenced_session::limits::WHEEL_TICK;
use presenced_testkit::client_end::{ClientEnd, Over, SUITES};
use presenced_testkit::frame::{PING, PONG, TEXT, closed, frame, pong_of, sent};
use presenced_testkit::lone_worker::{Client, LoneWorker};
use presenced_tls::End;
use presenced_tls::rustls::AlertDescription;

use super::worker::{Echo, plain, unlimited};
use super::{ended, open_over, says_to, suites_of_tls13};

/// Lets the client read `step` bytes at a time, until there is nothing more.
fn reads_slowly(tried: &mut LoneWorker<Echo>, (key, client): &Client, step: usize) -> Vec<u8> {
    let mut heard = client.take();
    loop {
        let taken = client.taken();
        client.set_room(step);
        tried.read(*key);
        heard.extend(client.take());
        if client.taken() == taken {
            client.set_room(usize::MAX);
            return heard;
        }
    }
}

/// Lets time pass until the first session is pinged, who may not read it.
fn until_pinged(tried: &mut LoneWorker<Echo>) {
    while tried.worker.metrics().pings.value() == 0 {
        tried.pass(WHEEL_TICK);
    }
}

#[test]
fn what_waits_goes_out_in_order_however_little_a_socket_takes() {
    for &suite in SUITES.iter() {
        let is_tls13 = suite.tls13().is_some();
        for step in [1, 2, 7, 21, 22, 40, 1000] {
            for room in [0, 1, 30] {
                let mut tried = unlimited();
                let session = open_over(&mut tried, suite);
                let client = &session.1;
                client.set_room(room);
                client.send(&[frame(TEXT, b"one"), frame(PING, b"two")].concat());
                tried.read(session.0);
                // A ping of the server's goes behind it.
                until_pinged(&mut tried);
                // This waits until the client has read.
                if is_tls13 {
                    client.send_bytes(&client.key_update(true));
                }
                client.send(&frame(TEXT, b"three"));
                tried.read(session.0);
                let mut heard = reads_slowly(&mut tried, &session, step);
                let first = [sent(TEXT, b"one"), sent(PONG, b"two")].concat();
                assert!(heard.starts_with(&first), "{suite:?} {room} {step}");
                let ping: Vec<_> = heard.drain(..first.len() + 10).skip(first.len()).collect();
                assert_eq!(ping[..2], [PING, 8]);
                assert_eq!(heard, sent(TEXT, b"three"));
                assert_eq!(tried.says(&session, &pong_of(&ping)), b"");
                assert_eq!(tried.worker.metrics().pongs.value(), 1);
                assert_eq!(tried.worker.service().closed, 0);
            }
        }
    }
}

/// The worker has not been told yet that the socket takes more.
#[test]
fn nothing_overtakes_what_waits_though_the_socket_has_room_again() {
    for suite in SUITES.iter().copied().map(Some).chain([None]) {
        let mut tried = unlimited();
        let (client, connection) = ClientEnd::pair(suite);
        let key = tried.open_on((), Plain, connection, Vec::new());
        client.set_room(5);
        client.send(&frame(TEXT, b"waits"));
        tried.read(key);
        client.set_room(usize::MAX);
        until_pinged(&mut tried);
        tried.worker.end(key, CloseReason::TokenExpired);
        tried.read(key);
        let heard = client.take();
        let (first, rest) = heard.split_at(7);
        let (ping, close) = rest.split_at(10);
        assert_eq!(first, sent(TEXT, b"waits"), "{suite:?}");
        assert_eq!(ping[..2], [PING, 8]);
        assert_eq!(close, closed(4401, "token_expired"));
    }
}

#[test]
fn an_answer_to_a_key_update_that_the_socket_does_not_take_is_sent_before_what_follows() {
    for suite in suites_of_tls13() {
        for room in [0, 1, 20] {
            let mut tried = unlimited();
            let session = open_over(&mut tried, suite);
            let client = &session.1;
            client.set_room(room);
            // In one read, so that the text is heard while the answer waits.
            let update = client.key_update(true);
            let text = client.seal(&frame(TEXT, b"text"));
            let again = client.key_update(true);
            let more = client.seal(&frame(TEXT, b"more"));
            client.send_bytes(&[update, text, again, more].concat());
            tried.read(session.0);
            until_pinged(&mut tried);
            let heard = reads_slowly(&mut tried, &session, 3);
            let texts = [sent(TEXT, b"text"), sent(TEXT, b"more")].concat();
            assert!(heard.starts_with(&texts));
            assert_eq!(heard[texts.len()..][..2], [PING, 8]);
            assert_eq!(tried.says(&session, &frame(TEXT, b"on")), sent(TEXT, b"on"));
        }
    }
}

#[test]
fn a_key_update_that_wants_no_answer_gets_none() {
    for suite in suites_of_tls13() {
        let mut tried = unlimited();
        let session = open_over(&mut tried, suite);
        for _ in 0..100 {
            let update = session.1.key_update(false);
            let taken = session.1.taken();
            assert_eq!(says_to(&mut tried, &session, &update), b"");
            assert_eq!(session.1.taken(), taken);
            let text = frame(TEXT, b"on");
            assert_eq!(tried.says(&session, &text), sent(TEXT, b"on"));
        }
    }
}

/// Each costs the server more than the client.
#[test]
fn endless_key_updates_end_a_session() {
    for suite in suites_of_tls13() {
        let mut tried = unlimited();
        let session = open_over(&mut tried, suite);
        let updates: Vec<u8> = (0..33).flat_map(|_| session.1.key_update(true)).collect();
        assert_eq!(says_to(&mut tried, &session, &updates), b"");
        let alert = End::Alert(AlertDescription::UnexpectedMessage);
        assert_eq!(session.1.end(), Some(alert));
        assert_eq!(ended(&tried, CloseReason::Tls), 1);
    }
}

/// The answer to the key update waits for the socket when the service fails.
#[test]
fn a_fault_of_the_service_loses_nothing_that_was_sealed() {
    for &suite in SUITES.iter() {
        for room in [0, 1, 20, usize::MAX] {
            let mut tried = unlimited();
            let session = open_over(&mut tried, suite);
            let client = &session.1;
            client.set_room(room);
            let update = match suite.tls13() {
                Some(_) => client.key_update(true),
                None => Vec::new(),
            };
            let fault = client.seal(&frame(TEXT, b"fault"));
            client.send_bytes(&[update, fault].concat());
            tried.read(session.0);
            assert_eq!(ended(&tried, CloseReason::Internal), 1);
            let heard = reads_slowly(&mut tried, &session, 3);
            assert_eq!(heard, closed(1011, "internal"), "{suite:?} {room}");
            assert_eq!(client.end(), Some(End::Closed));
        }
    }
}

#[test]
fn a_client_over_tls_that_does_not_read_is_let_go_of() {
    let mut tried = LoneWorker::new(
        Echo::default(),
        Config {
            outbox_bytes_max: 16 * 1024,
            frames_per_second_max: u32::MAX,
            ..Config::default()
        },
        Over::Tls,
    );
    for (number, &suite) in (1..).zip(SUITES.iter()) {
        let session = open_over(&mut tried, suite);
        session.1.set_room(1024);
        session.1.send(&frame(TEXT, &[b'x'; 20_000]));
        tried.read(session.0);
        assert!(session.1.is_dropped());
        assert_eq!(ended(&tried, CloseReason::SlowConsumer), number);
        // What it got is the start of a record.
        assert_eq!(session.1.take(), b"");
        assert_eq!(session.1.taken(), 1024);
        // One that reads gets all of it.
        let session = open_over(&mut tried, suite);
        let echo = tried.says(&session, &frame(TEXT, &[b'x'; 20_000]));
        assert!(echo == plain(TEXT, &[b'x'; 20_000]));
    }
}

/// Each costs more than a frame, and would cost no rate anything.
#[test]
fn key_updates_without_end_are_too_many_messages() {
    for suite in suites_of_tls13() {
        let config = Config::default();
        let most = 10 * config.frames_per_second_max;
        let mut tried = LoneWorker::new(Echo::default(), config, Over::Plain);
        let session = open_over(&mut tried, suite);
        let (key, client) = &session;
        let mut updates = 0;
        while tried.worker.service().closed == 0 {
            for _ in 0..10 {
                client.send_bytes(&client.key_update(false));
            }
            // So that they are not many in a row.
            client.send(&frame(PONG, b""));
            tried.read(*key);
            updates += 10;
            assert!(updates <= most + 10, "{suite:?}");
            // A client may do that now and then.
            assert!(updates > 50 || tried.worker.service().closed == 0);
        }
        assert_eq!(ended(&tried, CloseReason::RateLimited), 1);
    }
}
