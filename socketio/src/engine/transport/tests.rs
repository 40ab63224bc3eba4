use std::time::Duration;

use super::*;
use crate::engine::payload::Payload;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

struct Session {
    transport: Transport,
    times: Times,
}

impl Session {
    fn polling() -> Session {
        Session {
            transport: Transport::polling(),
            times: Times::default(),
        }
    }

    /// Polls, with a WebSocket that has been probed.
    fn probing() -> Session {
        let mut session = Session::polling();
        assert!(session.open_websocket(0));
        session.websocket("2probe").unwrap();
        assert_eq!(session.outputs(), ["text 3probe"]);
        session
    }

    fn upgraded() -> Session {
        let mut session = Session::probing();
        session.websocket("5").unwrap();
        assert_eq!(session.outputs(), [""; 0]);
        assert!(session.transport.is_plain());
        session
    }

    fn open_websocket(&mut self, now: u64) -> bool {
        self.transport.open_websocket(s(now), &self.times)
    }

    fn websocket(&mut self, text: &str) -> Result<(), End> {
        let packet = Packet::from_text(text.as_bytes());
        self.transport.receive(Via::WebSocket, packet).map(drop)
    }

    /// A whole POST; how many packets were taken.
    fn post(&mut self, body: &str) -> Result<usize, End> {
        assert_eq!(self.transport.post()?, Admission::Taken);
        let mut body = body.as_bytes().to_vec();
        let mut taken = 0;
        for packet in Payload::new(&mut body) {
            let _ = self.transport.receive(Via::Post, packet)?;
            taken += 1;
        }
        self.transport.post_done();
        Ok(taken)
    }

    fn poll(&mut self) -> Vec<String> {
        assert_eq!(self.transport.poll(), Ok(Admission::Taken));
        self.outputs()
    }

    fn send(&mut self, data: &str) -> Result<Sent, End> {
        let packet = Packet::Text(Kind::Message, data.as_bytes());
        self.transport.send(packet, &self.times)
    }

    fn outputs(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        let mut out = Vec::new();
        while let Some(output) = self.transport.output(&mut out) {
            let name = match output {
                Output::AnswerPoll => "poll",
                Output::Text => "text",
                Output::Binary => "binary",
                Output::CloseWebSocket => "close",
            };
            let bytes = String::from_utf8(std::mem::take(&mut out)).unwrap();
            all.push(format!("{name} {bytes}").trim_end().to_owned());
        }
        all
    }
}

#[test]
fn a_poll_waits_until_there_is_something() {
    let mut session = Session::polling();
    assert_eq!(session.poll(), [""; 0]);
    assert_eq!(session.send("0{}"), Ok(Sent::Queued));
    assert_eq!(session.outputs(), ["poll 40{}"]);
    // And is answered at once if there is.
    assert_eq!(session.send("2[1]"), Ok(Sent::Queued));
    let binary = Packet::Binary(&[1, 2, 3, 4]);
    let sent = session.transport.send(binary, &session.times);
    assert_eq!(sent, Ok(Sent::Queued));
    assert_eq!(session.poll(), ["poll 42[1]\u{1e}bAQIDBA=="]);
}

/// python-engineio #142: more than 16 packets in an answer are an error to Python's clients.
#[test]
fn sixteen_packets_an_answer() {
    let mut session = Session::polling();
    for n in 0..40 {
        assert_eq!(session.send(&n.to_string()), Ok(Sent::Queued));
    }
    let mut counts = Vec::new();
    for _ in 0..3 {
        counts.push(session.poll()[0].split('\u{1e}').count());
    }
    assert_eq!(counts, [16, 16, 8]);
}

#[test]
fn a_second_poll_ends_the_session_and_the_first_is_told() {
    let mut session = Session::polling();
    assert_eq!(session.poll(), [""; 0]);
    assert_eq!(session.transport.poll(), Err(End::SecondPoll));
    assert_eq!(session.outputs(), ["poll 1"]);
    assert_eq!(session.transport.live(), None);
    assert_eq!(session.transport.poll(), Ok(Admission::NotPolling));
    assert_eq!(session.send("x"), Ok(Sent::Dropped));
}

#[test]
fn a_second_post_ends_the_session() {
    let mut session = Session::polling();
    assert_eq!(session.poll(), [""; 0]);
    assert_eq!(session.transport.post(), Ok(Admission::Taken));
    assert_eq!(session.transport.post(), Err(End::SecondPost));
    assert_eq!(session.outputs(), ["poll 1"]);
}

#[test]
fn connections_that_go() {
    let mut session = Session::polling();
    assert_eq!(session.transport.poll_gone(), Ok(()), "none waits");
    assert_eq!(session.poll(), [""; 0]);
    assert_eq!(session.transport.poll_gone(), Err(End::Gone));
    assert_eq!(session.outputs(), [""; 0]);
    assert_eq!(session.transport.live(), None);

    let mut session = Session::polling();
    assert_eq!(session.transport.post(), Ok(Admission::Taken));
    assert_eq!(session.transport.post_gone(), Err(End::Gone));

    let mut session = Session::upgraded();
    assert_eq!(session.transport.websocket_gone(), Err(End::Gone));
    assert_eq!(session.outputs(), [""; 0]);
    assert_eq!(session.transport.live(), None);
}

#[test]
fn packets_that_mean_nothing_and_packets_that_end() {
    for (body, taken) in [("0", 1), ("5\u{1e}6\u{1e}3x\u{1e}3\u{1e}4", 5)] {
        assert_eq!(Session::polling().post(body), Ok(taken));
    }
    for (body, end) in [
        ("2", End::Ping),
        ("2probe", End::Ping),
        ("4\u{1e}1\u{1e}4", End::Closed),
        ("4\u{1e}\u{1e}4", End::BadPacket(BadPacket::Empty)),
    ] {
        let mut session = Session::polling();
        assert_eq!(session.poll(), [""; 0]);
        assert_eq!(session.post(body), Err(end), "{body:?}");
        let last = if end == End::Closed {
            "poll 6"
        } else {
            "poll 1"
        };
        assert_eq!(session.outputs(), [last]);
        let again = session.transport.receive(Via::Post, Ok(Packet::CLOSE));
        assert_eq!(again, Ok(Received::Nothing), "ended is ended");
    }
    let mut session = Session::upgraded();
    assert_eq!(session.websocket("1"), Err(End::Closed));
    assert_eq!(session.outputs(), ["close"]);
    assert_eq!(session.outputs(), [""; 0]);
}

#[test]
fn one_ping_waits_and_not_many() {
    let mut session = Session::polling();
    for _ in 0..5 {
        assert_eq!(session.transport.ping(&session.times), Ok(Sent::Queued));
    }
    assert_eq!(session.poll(), ["poll 2"]);
    assert_eq!(session.transport.ping(&session.times), Ok(Sent::Queued));
    assert_eq!(session.poll(), ["poll 2"]);
    let mut session = Session::upgraded();
    assert_eq!(session.transport.ping(&session.times), Ok(Sent::Direct));
}

/// engine.io-client #18 and seven more: with a single `6`, which came before `3probe`, all stood
/// still until the next ping.
#[test]
fn while_a_probe_is_on_every_poll_is_answered_at_once() {
    let mut session = Session::polling();
    assert_eq!(session.poll(), [""; 0]);
    assert!(session.open_websocket(0));
    assert_eq!(session.outputs(), [""; 0], "not before the probe");
    session.websocket("2probe").unwrap();
    assert_eq!(session.outputs(), ["text 3probe", "poll 6"]);
    for _ in 0..10 {
        assert_eq!(session.poll(), ["poll 6"]);
    }
    assert_eq!(session.send("x"), Ok(Sent::Queued));
    assert_eq!(session.poll(), ["poll 4x"]);
    assert_eq!(session.post("4a"), Ok(1));
}

/// socketioxide #94, engine.io #284: what was queued at the switch was lost.
#[test]
fn what_is_queued_goes_to_the_new_transport_once_and_in_order() {
    let mut session = Session::probing();
    for n in 0..20 {
        assert_eq!(session.send(&n.to_string()), Ok(Sent::Queued));
    }
    session.websocket("5").unwrap();
    assert_eq!(session.transport.live(), Some(Live::WebSocket));
    assert_eq!(session.send("20"), Ok(Sent::Queued), "behind the others");
    let expected: Vec<_> = (0..21).map(|n| format!("text 4{n}")).collect();
    assert_eq!(session.outputs(), expected);
    assert!(session.transport.is_plain());
    assert_eq!(session.send("21"), Ok(Sent::Direct));
    assert_eq!(session.transport.poll(), Ok(Admission::NotPolling));
    assert_eq!(session.transport.post(), Ok(Admission::NotPolling));
    assert_eq!(session.outputs(), [""; 0]);
}

#[test]
fn a_poll_that_still_waits_is_released_and_a_post_under_way_is_taken() {
    let mut session = Session::probing();
    assert_eq!(session.transport.post(), Ok(Admission::Taken));
    assert_eq!(session.transport.poll(), Ok(Admission::Taken));
    session.websocket("5").unwrap();
    assert_eq!(session.send("x"), Ok(Sent::Queued));
    assert_eq!(session.outputs(), ["poll 6", "text 4x"]);
    let packet = Packet::from_text(b"4late");
    let taken = session.transport.receive(Via::Post, packet);
    assert_eq!(taken, Ok(Received::Message(b"late")));
    session.transport.post_done();
    assert!(session.transport.is_plain());
}

/// engine.io 6.6.12 lets a `5` without a probe pass; CVE-2022-21676: an invalid frame right behind
/// the upgrade ended the process.
#[test]
fn a_websocket_that_says_anything_else_closes_and_polling_lives() {
    for first in ["5", "2", "2prob", "3probe", "4x", "1", "", "x", "6"] {
        let mut session = Session::polling();
        assert!(session.open_websocket(0));
        session.websocket(first).unwrap();
        assert_eq!(session.outputs(), ["close"], "{first:?}");
        assert_eq!(session.transport.live(), Some(Live::Polling));
        session.websocket("2probe").unwrap();
        assert_eq!(session.outputs(), [""; 0], "it is closed");
        assert!(session.open_websocket(1), "a later try");
    }
    for second in ["4x", "2probe", "1", "", "x"] {
        let mut session = Session::probing();
        session.websocket(second).unwrap();
        assert_eq!(session.outputs(), ["close"], "{second:?}");
        assert_eq!(session.poll(), [""; 0]);
    }
    let mut session = Session::probing();
    let packet = Ok(Packet::Binary(b"x"));
    let received = session.transport.receive(Via::WebSocket, packet);
    assert_eq!(received, Ok(Received::Nothing));
    assert_eq!(session.outputs(), ["close"]);
}

#[test]
fn a_websocket_that_goes_before_the_end_of_the_upgrade_leaves_polling_alive() {
    let mut session = Session::probing();
    assert_eq!(session.transport.websocket_gone(), Ok(()));
    assert_eq!(session.poll(), [""; 0], "it waits as before");
    assert_eq!(session.send("x"), Ok(Sent::Queued));
    assert_eq!(session.outputs(), ["poll 4x"]);
    assert!(session.open_websocket(1));
}

/// socketioxide #731: upgrades that never ended took 19 GiB.
#[test]
fn an_upgrade_has_its_time() {
    for probed in [false, true] {
        let mut session = Session::polling();
        assert!(session.open_websocket(5));
        if probed {
            session.websocket("2probe").unwrap();
            assert_eq!(session.outputs(), ["text 3probe"]);
        }
        assert_eq!(session.transport.deadline(), Some(s(15)));
        assert_eq!(session.transport.tick(s(14)), Ok(()));
        assert_eq!(session.outputs(), [""; 0]);
        // Meanwhile pings go on.
        assert_eq!(session.transport.ping(&session.times), Ok(Sent::Queued));
        assert_eq!(session.transport.tick(s(15)), Ok(()));
        assert_eq!(session.outputs(), ["close"]);
        assert_eq!(session.transport.deadline(), None);
        assert_eq!(session.poll(), ["poll 2"]);
    }
}

#[test]
fn a_second_websocket_is_refused_and_the_first_is_left_alone() {
    let mut session = Session::probing();
    assert!(!session.open_websocket(1));
    session.websocket("5").unwrap();
    assert!(!session.open_websocket(2));
    assert_eq!(session.outputs(), [""; 0]);
    assert!(!session.open_websocket(3));
    let mut born = Transport::websocket();
    assert!(!born.open_websocket(s(0), &Times::default()));
    assert_eq!(born.live(), Some(Live::WebSocket));
}

/// python-engineio #367: a close while upgrading.
#[test]
fn an_end_while_upgrading_takes_both() {
    let mut session = Session::probing();
    assert_eq!(session.transport.poll(), Ok(Admission::Taken));
    assert_eq!(session.transport.end(End::PingTimeout), End::PingTimeout);
    assert_eq!(session.outputs(), ["close", "poll 1"]);
    assert_eq!(session.transport.live(), None);
}

#[test]
fn a_close_delivers_what_is_queued() {
    // To a poll that waits.
    let mut session = Session::polling();
    assert_eq!(session.poll(), [""; 0]);
    assert_eq!(session.send("1"), Ok(Sent::Queued));
    session.transport.close(s(0), &session.times);
    assert_eq!(session.outputs(), ["poll 41\u{1e}1"]);
    assert_eq!(session.transport.live(), None);

    // To the next polls; what comes meanwhile counts no more.
    let mut session = Session::probing();
    for _ in 0..20 {
        assert_eq!(session.send("1"), Ok(Sent::Queued));
    }
    session.transport.close(s(0), &session.times);
    assert_eq!(session.outputs(), ["close"]);
    assert_eq!(session.send("2"), Ok(Sent::Dropped));
    assert_eq!(session.post("4x\u{1e}2\u{1e}3"), Ok(3));
    assert_eq!(session.transport.live(), Some(Live::Polling));
    assert!(!session.open_websocket(1));
    assert_eq!(session.poll()[0].split('\u{1e}').count(), 15);
    let rest = session.poll();
    assert_eq!(rest[0], format!("poll {}1", "41\u{1e}".repeat(5)));
    assert_eq!(session.transport.live(), None);

    // To nobody.
    let mut session = Session::polling();
    session.transport.close(s(5), &session.times);
    assert_eq!(session.transport.deadline(), Some(s(35)));
    assert_eq!(session.transport.tick(s(34)), Ok(()));
    assert_eq!(session.transport.tick(s(35)), Err(End::ByServer));
    assert_eq!(session.transport.live(), None);

    // Over a WebSocket, whether something was queued or not.
    let mut session = Session::upgraded();
    session.transport.close(s(0), &session.times);
    assert_eq!(session.outputs(), ["close"]);
    let mut session = Session::probing();
    assert_eq!(session.send("1"), Ok(Sent::Queued));
    session.websocket("5").unwrap();
    session.transport.close(s(0), &session.times);
    assert_eq!(session.outputs(), ["text 41", "close"]);
    assert_eq!(session.transport.live(), None);
}

#[test]
fn a_client_that_does_not_poll_is_not_waited_for() {
    let mut session = Session::polling();
    session.times.queue_bytes_max = 1000;
    let mut sent = 0;
    while session.send("") == Ok(Sent::Queued) {
        sent += 1;
    }
    assert_eq!(sent, 1000 / crate::limits::QUEUED_PACKET_BYTES);
    assert_eq!(session.transport.live(), None);
}
