//! Records and frames that are cut in any way, and parts of records: how long, how many, and whose they are.

use std::time::Duration;

use presenced_session::Config;
use presenced_session::close_reason::CloseReason;
use presenced_session::dialect::Plain;
use presenced_session::limits::{CLOSE_TIMEOUT, MESSAGE_TIME_MAX, REST_BYTES_MAX, WHEEL_TICK};
use presenced_testkit::client_end::{ClientEnd, Over, SUITES};
use presenced_testkit::frame::{PING, PONG, TEXT, closed, frame, sent};
use presenced_testkit::lone_worker::LoneWorker;
use presenced_tls::End;
use presenced_tls::rustls::AlertDescription;

use super::worker::{Echo, plain, unlimited};
use super::{DATA, ended, open_over, says_to};

/// The start of a record that never becomes whole, as long as one can be.
fn endless_record() -> Vec<u8> {
    let length = (1 << 14) + 200;
    let [high, low] = u16::to_be_bytes(length);
    let mut record = vec![DATA, 3, 3, high, low];
    record.resize(usize::from(length), 0);
    record
}

#[test]
fn records_may_be_cut_at_every_byte() {
    for &suite in SUITES.iter() {
        let mut tried = unlimited();
        let client = open_over(&mut tried, suite);
        let said = [frame(TEXT, b"one"), frame(PING, b"two")].map(|frame| client.1.seal(&frame));
        let bytes = said.concat().len();
        let answer = [sent(TEXT, b"one"), sent(PONG, b"two")].concat();
        assert_eq!(says_to(&mut tried, &client, &said.concat()), answer);
        for cut in 1..bytes {
            let said = [frame(TEXT, b"one"), frame(PING, b"two")];
            let said = said.map(|frame| client.1.seal(&frame)).concat();
            let mut heard = says_to(&mut tried, &client, &said[..cut]);
            heard.extend(says_to(&mut tried, &client, &said[cut..]));
            assert_eq!(heard, answer, "{suite:?}, cut at {cut}");
        }
        let said = client.1.seal(&frame(TEXT, b"byte by byte"));
        let heard = said
            .iter()
            .flat_map(|byte| says_to(&mut tried, &client, &[*byte]));
        assert_eq!(heard.collect::<Vec<_>>(), sent(TEXT, b"byte by byte"));
    }
}

#[test]
fn a_frame_may_be_in_many_records_and_a_record_may_have_many_frames() {
    for &suite in SUITES.iter() {
        let mut tried = unlimited();
        let client = open_over(&mut tried, suite);
        let text = vec![b'x'; 20_000];
        let said = [
            frame(TEXT, b"first"),
            frame(TEXT, &text),
            frame(PING, b"last"),
        ];
        let answer = [
            sent(TEXT, b"first"),
            plain(TEXT, &text),
            sent(PONG, b"last"),
        ];
        let said = said.concat();
        for text_bytes in [1000, 5000, 1 << 14, said.len()] {
            // In one read, and each record in its own.
            let records: Vec<_> = said
                .chunks(text_bytes)
                .map(|text| client.1.seal(text))
                .collect();
            assert!(says_to(&mut tried, &client, &records.concat()) == answer.concat());
            let mut heard = Vec::new();
            for text in said.chunks(text_bytes) {
                let record = client.1.seal(text);
                heard.extend(says_to(&mut tried, &client, &record));
            }
            assert!(heard == answer.concat());
        }
    }
}

/// What was read with the handshake comes first, be it whole records, which are opened then, or part of one.
#[test]
fn what_came_with_the_handshake_comes_first() {
    for &suite in SUITES.iter() {
        let mut tried = unlimited();
        let record = ClientEnd::pair(Some(suite)).0.seal(&frame(TEXT, b"second"));
        for cut in 0..=record.len() {
            let (client, mut connection) = ClientEnd::pair(Some(suite));
            let said = [frame(TEXT, b"second"), frame(TEXT, b"third")];
            let [second, third] = said.map(|frame| client.seal(&frame));
            let (now, later) = second.split_at(cut);
            if let Some(tls) = &mut connection.tls {
                tls.partial = now.to_vec();
            }
            let ahead = frame(TEXT, b"first");
            let key = tried.open_on((), Plain, connection, ahead);
            let session = (key, client);
            let mut heard = session.1.take();
            heard.extend(says_to(&mut tried, &session, later));
            heard.extend(says_to(&mut tried, &session, &third));
            let texts = [&b"first"[..], b"second", b"third"].map(|text| sent(TEXT, text));
            assert_eq!(heard, texts.concat(), "{suite:?}, cut at {cut}");
            tried.worker.end(key, CloseReason::Disconnected);
        }
    }
}

#[test]
fn a_record_that_does_not_become_whole_is_given_up_in_time() {
    let second = Duration::from_secs(1);
    let seldom = Config {
        ping_interval: 10 * MESSAGE_TIME_MAX,
        ping_timeout: 9 * MESSAGE_TIME_MAX,
        ..Config::default()
    };
    let mut tried = LoneWorker::new(Echo::default(), seldom, Over::Tls);
    // A part of the header, a part of the text, part by part; behind whole ones, and as what came with the handshake.
    let begun: [(bool, usize, usize, bool); 6] = [
        (false, 1, 0, false),
        (false, 30, 0, false),
        (false, 5, 1, false),
        (true, 5, 1, false),
        (true, 30, 0, false),
        (false, 30, 0, true),
    ];
    for (is_behind, first, more, is_of_handshake) in begun {
        for &suite in SUITES.iter() {
            let (client, mut connection) = ClientEnd::pair(Some(suite));
            let before = if is_behind {
                client.seal(&frame(TEXT, b"whole"))
            } else {
                Vec::new()
            };
            let record = client.seal(&frame(TEXT, &[b'x'; 200]));
            let (start, mut rest) = record.split_at(first);
            let mut start = [&before, start].concat();
            if is_of_handshake && let Some(tls) = &mut connection.tls {
                tls.partial = std::mem::take(&mut start);
            }
            let key = tried.open_on((), Plain, connection, Vec::new());
            let session = (key, client);
            let heard = says_to(&mut tried, &session, &start);
            assert_eq!(heard.is_empty(), !is_behind);
            let began = tried.now;
            let closed_with = loop {
                let (piece, after) = rest.split_at(more);
                rest = after;
                let said = says_to(&mut tried, &session, piece);
                if !said.is_empty() && said[0] != PING {
                    break said;
                }
                tried.pass(second / 2);
                assert!(tried.now - began <= MESSAGE_TIME_MAX + second);
            };
            assert!(tried.now - began >= MESSAGE_TIME_MAX);
            assert_eq!(closed_with, closed(1008, "message_timeout"));
            assert_eq!(session.1.end(), Some(End::Closed));
            tried.pass(CLOSE_TIMEOUT + WHEEL_TICK);
            assert!(session.1.is_dropped());
        }
    }
}

#[test]
fn records_that_become_whole_in_time_are_not_counted_together() {
    for &suite in SUITES.iter() {
        let mut tried = unlimited();
        let client = open_over(&mut tried, suite);
        let (mut wire, mut heard) = (Vec::new(), Vec::new());
        for number in 0..10 {
            // The end of a record comes with the start of the next.
            wire.extend(client.1.seal(&frame(TEXT, b"x")));
            let piece: Vec<_> = wire.drain(..wire.len() - 3).collect();
            heard.extend(says_to(&mut tried, &client, &piece));
            tried.pass(MESSAGE_TIME_MAX / 5);
            let pings = client.1.take();
            if pings.first() == Some(&PING) {
                wire.extend(client.1.seal(&frame(PONG, &pings[2..])));
            }
            assert_eq!(ended(&tried, CloseReason::MessageTimeout), 0, "{number}");
        }
        assert_eq!(heard, sent(TEXT, b"x").repeat(9), "{suite:?}");
    }
}

#[test]
fn parts_of_records_of_all_sessions_are_bounded_together() {
    let seldom = Config {
        ping_interval: 10 * MESSAGE_TIME_MAX,
        ping_timeout: 9 * MESSAGE_TIME_MAX,
        frames_per_second_max: u32::MAX,
        ..Config::default()
    };
    let mut tried = LoneWorker::new(Echo::default(), seldom, Over::Tls);
    let record = endless_record();
    // The first has begun a record of its own, which will be whole.
    let honest = open_over(&mut tried, SUITES[0]);
    let whole = honest.1.seal(&frame(TEXT, &[b'x'; 16_000]));
    says_to(&mut tried, &honest, &whole[..16_000]);
    let mut sessions = Vec::new();
    let refused = loop {
        let session = tried.open((), Plain);
        let said = says_to(&mut tried, &session, &record);
        if !said.is_empty() {
            break said;
        }
        sessions.push(session);
        assert!(sessions.len() * record.len() <= REST_BYTES_MAX, "no bound");
    };
    assert_eq!(refused, closed(1013, "overloaded"));
    let bytes = sessions.len() * record.len();
    assert!(
        bytes <= REST_BYTES_MAX && bytes > REST_BYTES_MAX / 10 * 9,
        "{bytes}"
    );
    // So is what comes with a handshake.
    let begin = |tried: &mut LoneWorker<Echo>| {
        let (client, mut connection) = ClientEnd::pair(Some(SUITES[0]));
        if let Some(tls) = &mut connection.tls {
            tls.partial.clone_from(&record);
        }
        tried.open_on((), Plain, connection, Vec::new());
        client.take()
    };
    assert_eq!(begin(&mut tried), closed(1013, "overloaded"));
    // One that has become whole holds nothing.
    let echo = says_to(&mut tried, &honest, &whole[16_000..]);
    assert!(echo == plain(TEXT, &[b'x'; 16_000]));
    assert_eq!(begin(&mut tried), b"");
    assert_eq!(begin(&mut tried), closed(1013, "overloaded"));
    // Nor do those that have ended.
    for (key, _) in &sessions {
        tried.worker.end(*key, CloseReason::Replaced);
    }
    for _ in 0..sessions.len() {
        assert_eq!(begin(&mut tried), b"");
    }
    assert_eq!(begin(&mut tried), closed(1013, "overloaded"));
}

/// A place is used again: by a plain session, and by one with other keys.
#[test]
fn a_session_has_nothing_of_the_one_that_had_its_place_before() {
    for &suite in SUITES.iter() {
        let mut tried = LoneWorker::new(Echo::default(), Config::default(), Over::Plain);
        for (number, suite) in [Some(suite), None, Some(suite), Some(SUITES[0]), None]
            .into_iter()
            .enumerate()
        {
            let (client, connection) = ClientEnd::pair(suite);
            let key = tried.open_on((), Plain, connection, Vec::new());
            let session = (key, client);
            assert_eq!((key.index, key.generation), (0, number as u32));
            let text = frame(TEXT, b"mine");
            assert_eq!(tried.says(&session, &text), sent(TEXT, b"mine"));
            // It leaves part of a record or of a frame, and something that it does not read.
            session.1.set_room(0);
            session.1.send(&frame(TEXT, b"unread"));
            tried.read(key);
            session.1.set_room(1);
            tried.read(key);
            session.1.send_bytes(&[DATA]);
            tried.read(key);
            tried.worker.end(key, CloseReason::Disconnected);
            assert!(session.1.is_dropped());
        }
    }
}

#[test]
fn a_record_that_is_too_long_is_refused_by_its_header() {
    for &suite in SUITES.iter() {
        let mut tried = unlimited();
        let client = open_over(&mut tried, suite);
        assert_eq!(says_to(&mut tried, &client, &[DATA, 3, 3, 0xff, 0xff]), b"");
        let alert = End::Alert(AlertDescription::RecordOverflow);
        assert_eq!(client.1.end(), Some(alert));
        assert_eq!(ended(&tried, CloseReason::Tls), 1);
    }
}
