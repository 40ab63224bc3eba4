//! How sessions over TLS end: by the client's `close_notify`, by the server's, behind the close frames of RFC 6455, and by
//! what TLS forbids.

use std::time::Duration;

use presenced_session::close_reason::CloseReason;
use presenced_session::limits::{CLOSE_TIMEOUT, WHEEL_TICK};
use presenced_session::worker::WorkerCommand;
use presenced_testkit::client_end::SUITES;
use presenced_testkit::frame::{CLOSE, PING, PONG, TEXT, closed, frame, sent};
use presenced_tls::End;
use presenced_tls::rustls::{AlertDescription, SupportedCipherSuite};

use super::worker::{Echo, unlimited};
use super::{ALERT, CHANGE_CIPHER_SPEC, DATA, HANDSHAKE, ended, open_over, says_to};

type LoneWorker = presenced_testkit::lone_worker::LoneWorker<Echo>;
type Client = presenced_testkit::lone_worker::Client;

/// Each suite, and a session of it on a worker of its own.
fn each() -> impl Iterator<Item = (SupportedCipherSuite, LoneWorker, Client)> {
    SUITES.iter().map(|&suite| {
        let mut tried = unlimited();
        let session = open_over(&mut tried, suite);
        (suite, tried, session)
    })
}

/// The session has ended for this reason, and only once.
fn has_ended(tried: &mut LoneWorker, reason: CloseReason) {
    for other in CloseReason::ALL {
        assert_eq!(ended(tried, other), u64::from(other == reason), "{other:?}");
    }
    assert_eq!(tried.worker.service().closed, 1);
}

/// The worker waits for the end of a client that has the server's, and for no longer than it should.
fn is_waited_for(tried: &mut LoneWorker, (key, client): &Client, hangs_up: bool) {
    assert!(client.is_finished() && !client.is_dropped());
    if hangs_up {
        client.hang_up();
        tried.read(*key);
    } else {
        tried.pass(CLOSE_TIMEOUT + WHEEL_TICK);
    }
    assert!(client.is_dropped());
    assert_eq!((tried.worker.len(), tried.worker.seats().taken()), (0, 0));
}

#[test]
fn a_client_that_closes_tls_alone_is_answered_and_gone() {
    for hangs_up in [false, true] {
        for (suite, mut tried, session) in each() {
            // What is before it in the same read is heard.
            let text = session.1.seal(&frame(TEXT, b"bye"));
            let bytes = [text, session.1.close_notify()].concat();
            if hangs_up {
                session.1.hang_up();
            }
            assert_eq!(
                says_to(&mut tried, &session, &bytes),
                sent(TEXT, b"bye"),
                "{suite:?}"
            );
            assert_eq!(session.1.end(), Some(End::Closed));
            assert!(session.1.is_dropped());
            has_ended(&mut tried, CloseReason::Disconnected);
            assert_eq!((tried.worker.len(), tried.worker.seats().taken()), (0, 0));
        }
    }
}

#[test]
fn a_close_frame_is_answered_before_tls_ends_whether_the_client_ends_it_or_not() {
    let close = frame(CLOSE, &1000u16.to_be_bytes());
    // The record behind the close frame comes with it, later, or not at all.
    for behind in ["with it", "later", "never"] {
        for hangs_up in [false, true] {
            for (suite, mut tried, session) in each() {
                let mut bytes = session.1.seal(&close);
                if behind == "with it" {
                    bytes.extend(session.1.close_notify());
                }
                let heard = says_to(&mut tried, &session, &bytes);
                assert_eq!(heard, closed(1000, "closed"), "{suite:?} {behind}");
                assert_eq!(session.1.end(), Some(End::Closed));
                has_ended(&mut tried, CloseReason::Closed);
                if behind == "later" {
                    let notify = session.1.close_notify();
                    assert_eq!(says_to(&mut tried, &session, &notify), b"");
                }
                is_waited_for(&mut tried, &session, hangs_up);
            }
        }
    }
}

#[test]
fn the_servers_close_frame_comes_before_the_end_of_tls_and_that_before_the_end_of_the_stream() {
    for reason in CloseReason::ALL {
        let facts = reason.facts();
        let Some(code) = facts.close_code else {
            continue;
        };
        for room in [0, 1, 60, usize::MAX] {
            for (suite, mut tried, session) in each() {
                session.1.set_room(room);
                tried.worker.end(session.0, reason);
                let mut heard = session.1.take();
                // Byte by byte: the stream must not end before all of it has gone out.
                for _ in 0..200 {
                    session.1.set_room(1);
                    tried.read(session.0);
                    heard.extend(session.1.take());
                }
                assert_eq!(heard, closed(code, facts.label), "{suite:?} {room}");
                assert_eq!(session.1.end(), Some(End::Closed));
                has_ended(&mut tried, reason);
                is_waited_for(&mut tried, &session, room == 0);
            }
        }
    }
}

#[test]
fn a_drain_closes_tls_behind_its_close_frames() {
    let mut tried = unlimited();
    let sessions: Vec<_> = (0..100)
        .map(|number| open_over(&mut tried, SUITES[number % SUITES.len()]))
        .collect();
    tried.worker.order(WorkerCommand::Drain {
        over: Duration::from_secs(2),
        grace: Duration::ZERO,
    });
    tried.pass(Duration::from_secs(2) + WHEEL_TICK);
    for (key, client) in &sessions {
        let heard = client.take();
        // Behind a ping, perhaps.
        assert!(heard.ends_with(&closed(1012, "restart")));
        assert_eq!(client.end(), Some(End::Closed));
        let notify = client.close_notify();
        client.send_bytes(&notify);
        tried.read(*key);
        client.hang_up();
        tried.read(*key);
        assert!(client.is_dropped());
    }
    assert_eq!((tried.worker.len(), tried.worker.seats().taken()), (0, 0));
}

#[test]
fn a_pong_that_does_not_come_closes_tls_behind_its_close_frame() {
    for (_, mut tried, session) in each() {
        assert_eq!(tried.next(&session.1)[..2], [PING, 8]);
        assert_eq!(tried.next(&session.1), closed(4408, "pong_timeout"));
        assert_eq!(session.1.end(), Some(End::Closed));
        has_ended(&mut tried, CloseReason::PongTimeout);
        is_waited_for(&mut tried, &session, false);
    }
}

/// Something that TLS forbids, and the alert for it.
type Fault = (fn(&Client) -> Vec<u8>, AlertDescription);

fn faults(suite: SupportedCipherSuite) -> Vec<Fault> {
    let tampered = |(_, client): &Client| {
        let mut record = client.seal(&frame(TEXT, b"tampered"));
        let last = record.len() - 1;
        record[last] ^= 1;
        record
    };
    let mut faults: Vec<Fault> = vec![
        (tampered, AlertDescription::BadRecordMac),
        // Frames without TLS.
        (
            |_| frame(TEXT, b"plain"),
            AlertDescription::UnexpectedMessage,
        ),
        (
            |(_, client)| client.craft(99, b"?"),
            AlertDescription::UnexpectedMessage,
        ),
        (
            |(_, client)| client.craft(HANDSHAKE, &[20, 0, 0, 0]),
            AlertDescription::UnexpectedMessage,
        ),
        (
            |(_, client)| client.craft(ALERT, &[2]),
            AlertDescription::DecodeError,
        ),
        (
            |_| vec![CHANGE_CIPHER_SPEC, 3, 3, 0, 1, 1],
            AlertDescription::UnexpectedMessage,
        ),
        (|_| vec![DATA, 9], AlertDescription::ProtocolVersion),
    ];
    if suite.tls13().is_some() {
        faults.push((
            |(_, client)| client.craft(HANDSHAKE, &[24, 0, 0, 1, 2]),
            AlertDescription::IllegalParameter,
        ));
    }
    faults
}

#[test]
fn what_tls_forbids_ends_with_its_alert_and_nothing_behind_it() {
    for &suite in SUITES.iter() {
        for (fault, alert) in faults(suite) {
            for behind in [false, true] {
                let mut tried = unlimited();
                let session = open_over(&mut tried, suite);
                let mut bytes = fault(&session);
                if behind {
                    bytes.extend(session.1.seal(&frame(TEXT, b"unheard")));
                }
                assert_eq!(says_to(&mut tried, &session, &bytes), b"", "{suite:?}");
                assert_eq!(session.1.end(), Some(End::Alert(alert)), "{suite:?}");
                has_ended(&mut tried, CloseReason::Tls);
                assert_eq!(tried.worker.service().heard, 0);
                // Whatever is still sent.
                let more = session.1.craft(DATA, &frame(TEXT, b"unheard"));
                assert_eq!(says_to(&mut tried, &session, &more), b"");
                assert_eq!(tried.worker.service().heard, 0);
                is_waited_for(&mut tried, &session, behind);
            }
        }
    }
}

/// The frames before it are heard, though they can't be answered any more; how they are cut changes nothing of the reason.
#[test]
fn frames_before_what_tls_forbids_are_heard_and_the_reason_is_the_first() {
    let bye = CloseReason::Closed;
    for (first, reason) in [
        (frame(TEXT, b"text"), CloseReason::Tls),
        (frame(PONG, b""), CloseReason::Tls),
        (frame(CLOSE, &1000u16.to_be_bytes()), bye),
        (frame(TEXT, b"\xff"), CloseReason::InvalidUtf8),
        (frame(TEXT, b"fault"), CloseReason::Internal),
    ] {
        for is_cut in [false, true] {
            for (suite, mut tried, session) in each() {
                let record = session.1.seal(&first);
                let (fault, alert) = faults(suite)[0];
                let fault = fault(&session);
                if is_cut {
                    says_to(&mut tried, &session, &record);
                    says_to(&mut tried, &session, &fault);
                } else {
                    let both = [record, fault].concat();
                    assert_eq!(says_to(&mut tried, &session, &both), b"");
                    assert_eq!(session.1.end(), Some(End::Alert(alert)));
                }
                has_ended(&mut tried, reason);
                is_waited_for(&mut tried, &session, true);
            }
        }
    }
}

#[test]
fn an_alert_waits_behind_what_the_client_has_not_read() {
    for (_, mut tried, session) in each() {
        let (fault, alert) = faults(SUITES[0])[0];
        session.1.set_room(0);
        // It is read in the same wake as what is answered.
        let renewed = match session.1.with_records(|records| records.is_tls13()) {
            true => session.1.key_update(true),
            false => Vec::new(),
        };
        let bytes = [renewed, fault(&session)].concat();
        session.1.send_bytes(&bytes);
        tried.read(session.0);
        has_ended(&mut tried, CloseReason::Tls);
        assert!(!session.1.is_finished());
        for _ in 0..200 {
            session.1.set_room(1);
            tried.read(session.0);
            assert_eq!(session.1.take(), b"");
        }
        assert_eq!(session.1.end(), Some(End::Alert(alert)));
        is_waited_for(&mut tried, &session, true);
    }
}

#[test]
fn a_fatal_alert_of_the_client_is_answered_with_nothing() {
    for behind in [false, true] {
        for (suite, mut tried, session) in each() {
            let text = session.1.seal(&frame(TEXT, b"heard"));
            let mut bytes = [text, session.1.craft(ALERT, &[2, 40])].concat();
            if behind {
                bytes.extend(session.1.seal(&frame(TEXT, b"unheard")));
            }
            session.1.send_bytes(&bytes);
            tried.read(session.0);
            assert_eq!(session.1.take_bytes(), b"", "{suite:?}");
            assert!(session.1.is_dropped());
            assert_eq!(tried.worker.service().heard, 1);
            has_ended(&mut tried, CloseReason::Disconnected);
        }
    }
}

#[test]
fn nothing_behind_the_end_is_heard() {
    let (text, close) = (frame(TEXT, b"unheard"), frame(CLOSE, b""));
    for (_, mut tried, session) in each() {
        let notify = session.1.close_notify();
        let record = session.1.craft(DATA, &text);
        assert_eq!(
            says_to(&mut tried, &session, &[notify, record].concat()),
            b""
        );
        assert_eq!(tried.worker.service().heard, 0);
        has_ended(&mut tried, CloseReason::Disconnected);
    }
    // Behind a close frame, in its record and in the next.
    for (_, mut tried, session) in each() {
        let record = session.1.seal(&[&close[..], &text].concat());
        let next = session.1.seal(&text);
        let heard = says_to(&mut tried, &session, &[record, next].concat());
        assert_eq!(heard, sent(CLOSE, b""));
        assert_eq!(session.1.end(), Some(End::Closed));
        assert_eq!(tried.worker.service().heard, 0);
        has_ended(&mut tried, CloseReason::Closed);
    }
}

/// A client of TLS 1.2 that wants to renegotiate is told that it can't, and goes on.
#[test]
fn warnings_end_nothing() {
    for (_, mut tried, session) in each() {
        let warning = match session.1.with_records(|records| records.is_tls13()) {
            true => [1, 90],
            false => [1, 100],
        };
        let warning = session.1.craft(ALERT, &warning);
        assert_eq!(says_to(&mut tried, &session, &warning), b"");
        let on = tried.says(&session, &frame(TEXT, b"on"));
        assert_eq!(on, sent(TEXT, b"on"));
    }
}
