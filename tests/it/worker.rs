//! A worker with its sessions in memory and a time of our own: what no socket can be made to do.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use presenced_presence::SessionId;
use presenced_session::close_reason::CloseReason;
use presenced_session::dialect::Plain;
use presenced_session::limits::{
    CLOSE_TIMEOUT, MESSAGE_TIME_MAX, REST_BYTES_MAX, SCRATCH_BYTES, WHEEL_CATCH_UP, WHEEL_TICK,
};
use presenced_session::service::{Message, Opened, Replies, Service};
use presenced_session::slab::SessionKey;
use presenced_session::wheel::GROUP;
use presenced_session::worker::{NewSession, Worker, WorkerCommand, WorkerConfig};
use presenced_session::{Config, Seat};
use presenced_testkit::client_end::ClientEnd;
use presenced_testkit::frame::frame;
use presenced_testkit::lone_worker::LoneWorker;
use proptest::prelude::*;
use tokio::sync::mpsc::channel;
use tokio::task::spawn_blocking;

use super::OVER;

const INTERVAL: Duration = Duration::from_secs(25);
const TIMEOUT: Duration = Duration::from_secs(20);

/// Says what it hears, and counts who has been heard and closed.
#[derive(Default)]
pub(super) struct Echo {
    pub(super) heard: u32,
    pub(super) closed: u32,
}

impl Service for Echo {
    type Peer = ();
    type Handle = ();

    type Dialect = Plain<true>;
    type Answer = ();

    fn opened(&mut self, (): (), _: SessionId, _: &mut Replies<'_, Self::Dialect>) -> Opened<()> {
        Opened {
            handle: (),
            replaced: None,
        }
    }

    fn heard(&mut self, (): ()) {
        self.heard += 1;
    }

    fn message(
        &mut self,
        _: SessionKey,
        (): (),
        message: Message<'_>,
        replies: &mut Replies<'_, Self::Dialect>,
    ) {
        match message {
            Message::Text(b"fault") => panic!("a fault in the service"),
            Message::Text(text) => replies.text(text),
            Message::Binary(data) => replies.binary(data),
        }
    }

    fn closed(&mut self, (): (), _: SessionId) {
        self.closed += 1;
    }
}

pub(super) fn limited(limits: Config) -> LoneWorker<Echo> {
    let config = Config {
        ping_interval: INTERVAL,
        ping_timeout: TIMEOUT,
        ..limits
    };
    LoneWorker::new(Echo::default(), config, OVER)
}

pub(super) fn unlimited() -> LoneWorker<Echo> {
    limited(Config {
        frames_per_second_max: u32::MAX,
        ..Config::default()
    })
}

/// A frame from the server.
pub(super) fn plain(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = frame(first, payload);
    let header = frame.len() - payload.len() - 4;
    frame[1] &= 0x7f;
    frame.truncate(header);
    frame.extend(payload);
    frame
}

/// Answers each ping in `sent`; returns how many there were.
fn answer(socket: &ClientEnd, mut sent: &[u8]) -> usize {
    let mut pings = 0;
    while let [0x89, 8, rest @ ..] = sent {
        let (payload, after) = rest.split_at(8);
        socket.send(&frame(0x8a, payload));
        (sent, pings) = (after, pings + 1);
    }
    assert_eq!(sent, b"", "nothing but pings");
    pings
}

fn close_code(sent: &[u8]) -> Option<u16> {
    // Its reason is text, in which no byte is a close's first one.
    let close = sent.iter().rposition(|&byte| byte == 0x88)?;
    match sent[close..] {
        [0x88, length, high, low, ref reason @ ..] if usize::from(length) == 2 + reason.len() => {
            assert_ne!(reason, b"", "a close without a reason");
            Some(u16::from_be_bytes([high, low]))
        }
        _ => None,
    }
}

/// What a client sends and what comes back.
pub(super) type Exchange = (Vec<u8>, Vec<u8>);

/// Something that ends no session.
pub(super) fn exchange() -> impl Strategy<Value = Exchange> {
    let text = "\\PC{0,300}";
    let data = prop::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        text.prop_map(|text| (frame(0x81, text.as_bytes()), plain(0x81, text.as_bytes()))),
        data.clone()
            .prop_map(|data| (frame(0x82, &data), plain(0x82, &data))),
        prop::collection::vec(any::<u8>(), 0..=125)
            .prop_map(|data| (frame(0x89, &data), plain(0x8a, &data))),
        prop::collection::vec(any::<u8>(), 0..=125).prop_map(|data| (frame(0x8a, &data), vec![])),
        // In parts, a ping between them.
        (data, 1..100usize).prop_map(|(data, part)| {
            let mut sent = frame(0x02, b"");
            for part in data.chunks(part) {
                sent.extend(frame(0x00, part));
            }
            sent.extend(frame(0x89, b"between"));
            sent.extend(frame(0x80, b"."));
            let back = [
                plain(0x8a, b"between"),
                plain(0x82, &[&data[..], b"."].concat()),
            ];
            (sent, back.concat())
        }),
    ]
}

/// What ends a session.
pub(super) fn end() -> impl Strategy<Value = Exchange> {
    prop_oneof![
        Just((frame(0x88, b""), plain(0x88, b""))),
        Just((frame(0x88, b"\x03\xe8bye"), plain(0x88, b"\x03\xe8closed"))),
        Just((frame(0x88, b"\x03\xed"), plain(0x88, b"\x03\xeaprotocol"))),
        Just((frame(0x81, b"\xff"), plain(0x88, b"\x03\xefinvalid_utf8"))),
        Just((frame(0x80, b""), plain(0x88, b"\x03\xeaprotocol"))),
        Just((plain(0x81, b"not masked"), plain(0x88, b"\x03\xeaprotocol"))),
    ]
}

/// What a client may do and what comes back, with the close at the end if there is one.
fn dialogue() -> impl Strategy<Value = Exchange> {
    let parts = prop::collection::vec(exchange(), 0..12);
    (parts, prop::option::of(end())).prop_map(|(mut parts, end)| {
        parts.extend(end);
        let (sent, back): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        (sent.concat(), back.concat())
    })
}

proptest! {
    /// However the input is cut and however little the socket takes at a time.
    #[test]
    fn cuts_change_nothing(
        (sent, back) in dialogue(),
        cuts in prop::collection::vec(1..200usize, 1..20),
        room in 1..500usize,
    ) {
        let mut tried = unlimited();
        let (key, socket) = tried.open((), Plain);
        let sent = socket.seal(&sent);
        let (mut left, mut cuts) = (&sent[..], cuts.iter().cycle());
        let mut received = Vec::new();
        socket.set_room(room);
        loop {
            let (piece, after) = left.split_at((*cuts.next().unwrap()).min(left.len()));
            socket.send_bytes(piece);
            tried.read(key);
            let taken = socket.taken();
            received.extend(socket.take());
            if piece.is_empty() && socket.taken() == taken {
                break;
            }
            socket.set_room(room);
            left = after;
        }
        prop_assert_eq!(received, back);
    }
}

#[test]
fn a_message_of_16_mib_comes_back_whole_or_in_parts() {
    let bytes_max = 16 << 20;
    let mut tried = limited(Config {
        message_bytes_max: bytes_max,
        frames_per_second_max: u32::MAX,
        outbox_bytes_max: 2 * bytes_max,
        ..Config::default()
    });
    let (key, socket) = tried.open((), Plain);
    let message: Vec<u8> = (0..bytes_max).map(|at| (at % 251) as u8).collect();
    socket.send(&frame(0x82, &message));
    tried.read(key);
    assert!(socket.take() == plain(0x82, &message));
    socket.send(&frame(0x02, b""));
    for part in message.chunks(100) {
        socket.send(&frame(0x00, part));
    }
    socket.send(&frame(0x80, b""));
    tried.read(key);
    assert!(socket.take() == plain(0x82, &message));
    socket.send(&frame(0x82, &[&message[..], b"x"].concat()));
    tried.read(key);
    assert_eq!(close_code(&socket.take()), Some(1009));
}

#[test]
fn a_client_that_does_not_read_is_not_read_from_and_then_let_go_of() {
    // The answers to what two reads bring.
    let mut tried = limited(Config {
        outbox_bytes_max: 120_000,
        frames_per_second_max: u32::MAX,
        ..Config::default()
    });
    let (key, socket) = tried.open((), Plain);
    socket.set_room(0);
    let text = frame(0x81, &[b'x'; 50_000]);
    socket.send(&text);
    tried.read(key);
    assert!(!socket.is_dropped());
    // It is in the outbox: what comes now waits for the client to read.
    socket.send(&text);
    socket.send(&text);
    tried.read(key);
    assert_eq!(tried.worker.service().heard, 1);
    socket.set_room(usize::MAX);
    tried.read(key);
    let reply = plain(0x81, &[b'x'; 50_000]);
    let mut received = socket.take();
    for _ in 0..3 {
        tried.read(key);
        received.extend(socket.take());
    }
    assert_eq!(received.len(), 3 * reply.len());
    // More than the outbox holds.
    socket.set_room(10);
    socket.send(&text.repeat(3));
    for _ in 0..3 {
        tried.read(key);
    }
    assert!(!socket.is_dropped(), "what two reads bring fits");
    let (key, socket) = tried.open((), Plain);
    socket.set_room(0);
    socket.send(&frame(0x81, &[b'x'; 5]).repeat(5000));
    tried.read(key);
    assert!(!socket.is_dropped(), "so does what one wake echoes");
    let mut tried = limited(Config {
        outbox_bytes_max: 16 * 1024,
        frames_per_second_max: u32::MAX,
        ..Config::default()
    });
    let (key, socket) = tried.open((), Plain);
    socket.set_room(1024);
    socket.send(&text);
    tried.read(key);
    assert!(socket.is_dropped());
    assert_eq!(tried.worker.service().closed, 1);
}

#[test]
fn one_wake_takes_a_bounded_amount() {
    let mut tried = unlimited();
    let (key, socket) = tried.open((), Plain);
    socket.send(&frame(0x8a, b"").repeat(100_000));
    let now = tried.now;
    let mut wakes = 1;
    while tried.worker.readable(key, now) {
        wakes += 1;
    }
    assert!(wakes >= 600_000 / SCRATCH_BYTES, "{wakes}");
    assert_eq!(
        tried.worker.service().heard as usize,
        600_000usize.div_ceil(SCRATCH_BYTES)
    );
}

#[test]
fn begun_messages_of_all_sessions_are_bounded_together() {
    let mut tried = limited(Config {
        message_bytes_max: 16 << 20,
        frames_per_second_max: u32::MAX,
        ..Config::default()
    });
    let mut sockets = Vec::new();
    let most_of_one = vec![0; 12 << 20];
    for _ in 0..2 * REST_BYTES_MAX / most_of_one.len() {
        let (key, socket) = tried.open((), Plain);
        socket.send(&frame(0x02, &most_of_one));
        tried.read(key);
        sockets.push((key, socket));
    }
    let refused = sockets
        .iter()
        .filter(|(_, socket)| close_code(&socket.take()) == Some(1013));
    let kept = sockets.len() - refused.count();
    let bytes = kept * most_of_one.len();
    assert!(
        bytes <= REST_BYTES_MAX && bytes > REST_BYTES_MAX / 3,
        "{bytes}"
    );
    // Those that have ended hold nothing.
    for (key, _) in &sockets {
        tried.worker.end(*key, CloseReason::Disconnected);
    }
    let (key, socket) = tried.open((), Plain);
    socket.send(&frame(0x02, &most_of_one));
    tried.read(key);
    assert_eq!(socket.take(), b"");
}

#[test]
fn frames_beyond_the_rate_end_with_1008_and_time_makes_room() {
    let mut tried = limited(Config {
        frames_per_second_max: 5,
        ..Config::default()
    });
    let (key, socket) = tried.open((), Plain);
    for _ in 0..50 {
        socket.send(&frame(0x8a, b""));
        tried.read(key);
    }
    tried.pass(Duration::from_secs(1));
    for _ in 0..5 {
        socket.send(&frame(0x8a, b""));
        tried.read(key);
    }
    assert_eq!(close_code(&socket.take()), None);
    socket.send(&frame(0x8a, b""));
    tried.read(key);
    assert_eq!(close_code(&socket.take()), Some(1008));
    assert_eq!(tried.worker.service().closed, 1);
    tried.pass(CLOSE_TIMEOUT + WHEEL_TICK);
    assert!(socket.is_dropped());
}

#[test]
fn a_quiet_client_is_never_a_flood_however_long_it_is_quiet() {
    let mut tried = unlimited();
    let (key, socket) = tried.open((), Plain);
    // 32 bits of µs come round after 71 minutes.
    for _ in 0..350 {
        let sent = socket.take();
        answer(&socket, &sent);
        tried.read(key);
        tried.pass(INTERVAL / 2);
    }
    let sent = socket.take();
    answer(&socket, &sent);
    for _ in 0..150 {
        socket.send(&frame(0x8a, b""));
    }
    tried.read(key);
    assert_eq!(tried.worker.service().closed, 0);
}

#[test]
fn a_client_that_sleeps_through_its_pings_is_let_go_of_once_and_others_stay() {
    let mut tried = unlimited();
    let (awake, at_work) = tried.open((), Plain);
    let (_, asleep) = tried.open((), Plain);
    let mut codes = Vec::new();
    for _ in 0..8 {
        tried.pass(INTERVAL / 2);
        let sent = at_work.take();
        answer(&at_work, &sent);
        tried.read(awake);
        codes.extend(close_code(&asleep.take()));
    }
    assert_eq!(codes, [4408]);
    assert!(asleep.is_dropped() && !at_work.is_dropped());
    assert_eq!(tried.worker.service().closed, 1);
}

/// Some devices answer each ping with a pong that is empty, or only with messages of their own.
#[test]
fn any_whole_frame_after_a_ping_keeps_a_session_and_only_the_right_pong_tells_the_rtt() {
    let mut tried = unlimited();
    let metrics = tried.worker.metrics().clone();
    let fragment = [frame(0x01, b"a"), frame(0x80, b"b")].concat();
    let answers = [
        frame(0x8a, b""),
        frame(0x8a, b"12345678"),
        frame(0x89, b"?"),
        frame(0x81, b"text"),
        fragment,
    ];
    let sessions = answers.map(|answer| (tried.open((), Plain), answer));
    let (silent, half) = (tried.open((), Plain).1, tried.open((), Plain));
    for _ in 0..20 {
        tried.pass(INTERVAL / 4);
        for ((key, socket), answer) in &sessions {
            if !socket.take().is_empty() {
                socket.send(answer);
                tried.read(*key);
            }
        }
        // The begin of a frame is no frame.
        if half.1.take().starts_with(&[0x89]) {
            half.1.send(&[0x8a]);
            tried.read(half.0);
        }
    }
    for ((_, socket), answer) in &sessions {
        assert!(!socket.is_dropped(), "{answer:?}");
    }
    assert!(silent.is_dropped() && half.1.is_dropped());
    let missed = metrics.ends[CloseReason::PongTimeout as usize].value();
    assert_eq!((missed, metrics.pongs.value()), (2, 0));
    assert_eq!(metrics.rtt.counts().iter().sum::<u64>(), 0);
}

#[test]
fn a_message_before_the_pong_does_not_hide_the_rtt_and_a_pong_counts_once() {
    let mut tried = unlimited();
    let metrics = tried.worker.metrics().clone();
    let (key, socket) = tried.open((), Plain);
    let ping = tried.next(&socket);
    socket.send(&frame(0x81, b"meanwhile"));
    tried.read(key);
    socket.take();
    answer(&socket, &ping.repeat(3));
    tried.read(key);
    assert_eq!(metrics.pongs.value(), 1);
    // Nor does it answer the next.
    assert_ne!(tried.next(&socket), ping);
    answer(&socket, &ping);
    tried.read(key);
    assert_eq!(metrics.pongs.value(), 1);
    assert_eq!(metrics.rtt.counts().iter().sum::<u64>(), 1);
}

#[test]
fn a_client_that_is_slow_to_read_when_it_is_pinged_has_the_ping_behind_what_waits() {
    let mut tried = unlimited();
    let (key, socket) = tried.open((), Plain);
    socket.set_room(0);
    socket.send(&frame(0x81, b"said"));
    tried.read(key);
    for _ in 0..4 {
        // It is pinged within that time, and reads before the time for its answer is up.
        tried.pass(INTERVAL - TIMEOUT / 2);
        socket.set_room(usize::MAX);
        tried.read(key);
        let sent = socket.take();
        let said = plain(0x81, b"said");
        answer(&socket, sent.strip_prefix(&said[..]).unwrap_or(&sent));
        tried.read(key);
        socket.set_room(0);
    }
    assert!(!socket.is_dropped());
    assert_eq!(tried.worker.service().closed, 0);
}

#[test]
fn what_is_begun_and_never_ends_is_given_up_within_a_second_of_its_time() {
    let second = Duration::from_secs(1);
    let long = frame(0x81, &[b'x'; 100]);
    // A first fragment, a message whose fragments keep coming, part of a frame, a frame that comes byte by byte.
    let begun: [(&[u8], &[u8]); 4] = [
        (&frame(0x01, b"begun"), b""),
        (&frame(0x01, b"begun"), &frame(0x00, b"")),
        (&long[..2], b""),
        (&long[..6], &long[6..7]),
    ];
    // In the middle of a frame no ping can be answered.
    let seldom = Config {
        ping_interval: 10 * MESSAGE_TIME_MAX,
        ping_timeout: 9 * MESSAGE_TIME_MAX,
        ..Config::default()
    };
    let mut tried = LoneWorker::new(Echo::default(), seldom, OVER);
    for (first, more) in begun {
        let (key, socket) = tried.open((), Plain);
        socket.send(first);
        tried.read(key);
        let began = tried.now;
        let mut sent = Vec::new();
        while close_code(&sent).is_none() {
            socket.send(more);
            tried.read(key);
            tried.pass(second / 2);
            sent = socket.take();
            assert!(tried.now - began <= MESSAGE_TIME_MAX + second);
        }
        assert!(tried.now - began >= MESSAGE_TIME_MAX);
        assert_eq!(close_code(&sent), Some(1008));
    }
}

/// What was begun and ended in time, again and again, is never late.
#[test]
fn messages_that_end_in_time_are_not_counted_together() {
    let mut tried = unlimited();
    let (key, socket) = tried.open((), Plain);
    let message = [frame(0x01, b"a"), frame(0x80, b"b")];
    for _ in 0..10 {
        for part in &message {
            socket.send(&part[..3]);
            tried.read(key);
            tried.pass(MESSAGE_TIME_MAX / 5);
            let sent = socket.take();
            socket.send(&part[3..]);
            tried.read(key);
            let echoed = plain(0x81, b"ab");
            let sent = sent.strip_prefix(&echoed[..]).unwrap_or(&sent);
            answer(&socket, sent);
            tried.read(key);
        }
    }
    assert_eq!(tried.worker.service().closed, 0);
}

#[test]
fn a_fault_met_by_one_session_ends_it_with_1011_and_no_other() {
    let mut tried = unlimited();
    let (first, other) = tried.open((), Plain);
    let (second, faulty) = tried.open((), Plain);
    // Something of the first is under way meanwhile.
    let message = frame(0x81, b"whole");
    other.send(&message[..4]);
    tried.read(first);
    faulty.send(
        &[
            frame(0x81, b"said"),
            frame(0x81, b"fault"),
            frame(0x81, b"unheard"),
        ]
        .concat(),
    );
    tried.read(second);
    assert_eq!(faulty.take(), plain(0x88, b"\x03\xf3internal"));
    other.send(&message[4..]);
    tried.read(first);
    assert_eq!(other.take(), plain(0x81, b"whole"));
    assert_eq!(tried.worker.service().closed, 1);
    tried.pass(CLOSE_TIMEOUT + WHEEL_TICK);
    assert!(faulty.is_dropped() && !other.is_dropped());
}

/// The server's machine slept, or its process was stopped: no time of the wheel has passed, though
/// the clock has gone on.
#[test]
fn a_stall_of_the_server_ends_no_session_and_makes_no_burst_of_pings() {
    let mut tried = unlimited();
    let mut sessions: Vec<_> = (0..2500).map(|_| tried.open((), Plain)).collect();
    let mut answer_all = |tried: &mut LoneWorker<Echo>| {
        let mut pings = 0;
        for (key, socket) in &mut sessions {
            let sent = socket.take();
            pings += answer(socket, &sent);
            tried.read(*key);
        }
        pings
    };
    for _ in 0..100 {
        tried.pass(INTERVAL / 50);
        answer_all(&mut tried);
    }
    for stall in [
        TIMEOUT,
        INTERVAL,
        5 * INTERVAL,
        Duration::from_secs(3 * 3600),
    ] {
        tried.now += stall;
        // The wheel may turn before anyone is read.
        tried.worker.tick(tried.now).unwrap();
        let burst = answer_all(&mut tried);
        let even = 2500.0 * WHEEL_CATCH_UP.as_secs_f64() / INTERVAL.as_secs_f64();
        // They come in groups.
        assert!(
            burst as f64 <= even + f64::from(3 * GROUP),
            "{burst} pings after {stall:?}, {even} are due"
        );
        for _ in 0..100 {
            tried.pass(INTERVAL / 50);
            let pings = answer_all(&mut tried);
            let even = 50 + 3 * GROUP as usize;
            assert!(pings <= even, "{pings} where 50 are due");
        }
        assert_eq!(tried.worker.service().closed, 0, "after {stall:?}");
    }
}

#[tokio::test]
async fn a_session_on_its_way_when_the_time_of_a_drain_is_up_is_closed_as_the_others() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (socket, _) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    let parts = WorkerConfig::alone();
    let (seats, expires_at) = (parts.seats.clone(), parts.clock.now() + INTERVAL);
    let worker: Worker<_, _> = Worker::new(Echo::default(), parts).unwrap();
    let (ordering, orders) = channel(1);
    let (opening, incoming) = channel(1);

    // Its handshake was accepted before.
    let seat = Seat::take(&seats).unwrap();
    seats.close();
    let late = async {
        let over = Duration::ZERO;
        ordering
            .send(WorkerCommand::Drain {
                over,
                grace: Duration::ZERO,
            })
            .await
            .unwrap();
        // There is room for another when the worker has taken this one.
        let _room = ordering.reserve().await.unwrap();
        let new = NewSession {
            socket: socket.into(),
            read_ahead: Default::default(),
            peer: (),
            dialect: Plain,
            expires_at,
            seat,
        };
        opening.send(new).await.expect("the worker waits for it");
        let close = spawn_blocking(move || {
            let mut close = Vec::new();
            io::copy(&mut client, &mut close).unwrap();
            close
        });
        close.await.unwrap()
    };
    let (ran, close) = tokio::join!(worker.run(incoming, orders), late);
    ran.unwrap();
    // Behind a ping, perhaps.
    assert!(close.ends_with(&plain(0x88, b"\x03\xf4restart")));
    assert_eq!(seats.taken(), 0);
}
