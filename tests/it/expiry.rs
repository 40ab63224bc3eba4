//! Sessions whose time is over, on a worker with a time of its own.

use std::time::Duration;

use presenced_session::close_reason::CloseReason;
use presenced_session::dialect::Plain;
use presenced_session::limits::{
    CLOSE_TIMEOUT, EXPIRIES_PER_TICK, EXPIRY_LAG_MAX, EXPIRY_WARNING_MAX, EXPIRY_WARNING_MIN,
    WHEEL_TICK,
};
use presenced_session::service::{Message, Opened, Replies, Service};
use presenced_session::slab::SessionKey;
use presenced_session::worker::WorkerCommand;
use presenced_session::{Config, SessionId};
use presenced_testkit::frame::{PING, TEXT, closed, frame, pong_of, sent};
use presenced_testkit::lone_worker::{Client, LoneWorker};
use proptest::prelude::*;

use super::OVER;

const INTERVAL: Duration = Duration::from_secs(25);

/// How late a session may end: it keeps quarters of a second.
const LATE_MAX: Duration = Duration::from_millis(250);

/// Sessions that can be renewed: `12345` ends them at this time of the clock in ms.
#[derive(Default)]
struct Renewable {
    closed: usize,
}

impl Service for Renewable {
    type Peer = ();
    type Handle = ();

    type Dialect = Plain<false>;
    type Answer = ();

    fn opened(&mut self, (): (), _: SessionId, _: &mut Replies<'_, Self::Dialect>) -> Opened<()> {
        ().into()
    }

    fn message(
        &mut self,
        _: SessionKey,
        (): (),
        message: Message<'_>,
        replies: &mut Replies<'_, Self::Dialect>,
    ) {
        let (Message::Text(text) | Message::Binary(text)) = message;
        match str::from_utf8(text).unwrap() {
            "dear" => replies.costs(9),
            "wrong" => {
                replies.text(b"no");
                replies.end(CloseReason::OtherUser);
            }
            "hello" => replies.text(b"hello"),
            ends_at_ms => replies.renew(Duration::from_millis(ends_at_ms.parse().unwrap())),
        }
    }

    fn expiring(
        &mut self,
        _: SessionKey,
        (): (),
        left: Duration,
        replies: &mut Replies<'_, Self::Dialect>,
    ) {
        replies.text(format!("expiring {}", left.as_secs()).as_bytes());
    }

    fn closed(&mut self, (): (), _: SessionId) {
        self.closed += 1;
    }
}

fn tried() -> LoneWorker<Renewable> {
    let config = Config {
        ping_interval: INTERVAL,
        ..Config::default()
    };
    LoneWorker::new(Renewable::default(), config, OVER)
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A session for so long.
fn open(tried: &mut LoneWorker<Renewable>, lives: Duration) -> Client {
    let expires_at = tried.now + lives;
    tried.open_until((), Plain, expires_at)
}

/// Gives a session another end; the new one.
fn renew(tried: &mut LoneWorker<Renewable>, client: &Client, lives: Duration) -> Duration {
    let ends_at = tried.now + lives;
    let ends_at = Duration::from_millis(ends_at.as_millis() as u64);
    let text = ends_at.as_millis().to_string();
    client.1.send(&frame(TEXT, text.as_bytes()));
    tried.read(client.0);
    ends_at
}

/// What a session's client has heard, its pings answered.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    /// Seconds left, as it was told.
    warnings: Vec<u64>,
    close: Option<Vec<u8>>,
}

fn hear(tried: &mut LoneWorker<Renewable>, client: &Client) -> Heard {
    let (said, mut heard) = (client.1.take(), Heard::default());
    let mut rest = &said[..];
    while let [first, length, ..] = *rest {
        let (whole, after) = rest.split_at(2 + usize::from(length));
        match first {
            PING => {
                client.1.send(&pong_of(whole));
                tried.read(client.0);
            }
            TEXT => {
                let text = str::from_utf8(&whole[2..]).unwrap();
                let left = text.strip_prefix("expiring ").unwrap();
                heard.warnings.push(left.parse().unwrap());
            }
            _ => heard.close = Some(whole.to_vec()),
        }
        rest = after;
    }
    heard
}

fn expired() -> Option<Vec<u8>> {
    Some(closed(4401, "token_expired"))
}

#[test]
fn sessions_end_with_their_tokens_wherever_they_are_on_the_wheel() {
    const LOOK: Duration = Duration::from_millis(100);
    let mut tried = tried();
    let mut clients = Vec::new();
    for number in 0..400u64 {
        let lives = Duration::from_millis(1 + number * 865);
        clients.push((
            open(&mut tried, lives),
            tried.now + lives,
            Vec::new(),
            false,
        ));
    }
    let start = tried.now;
    while tried.now < start + s(347) {
        tried.pass(LOOK);
        for (client, ends_at, warnings, is_over) in &mut clients {
            let heard = hear(&mut tried, client);
            for left in heard.warnings {
                let real = ends_at.saturating_sub(tried.now);
                assert!(real.as_secs().abs_diff(left) <= 1, "{left} for {real:?}");
                warnings.push(real);
            }
            if heard.close.is_some() {
                assert_eq!(heard.close, expired());
                assert!(tried.now >= *ends_at, "early by {:?}", *ends_at - tried.now);
                *is_over = true;
            }
            let is_late = tried.now > *ends_at + LATE_MAX + LOOK;
            assert!(*is_over || !is_late, "late by {:?}", tried.now - *ends_at);
        }
    }
    for (_, ends_at, warnings, is_over) in &clients {
        assert!(is_over);
        let [warning] = warnings[..] else {
            panic!("{warnings:?}");
        };
        assert!(warning <= EXPIRY_WARNING_MAX);
        let lived = *ends_at - start;
        let is_short = warning + s(1) >= lived;
        assert!(
            is_short || warning + s(1) > EXPIRY_WARNING_MIN,
            "{warning:?} of {lived:?}"
        );
    }
    assert_eq!(tried.worker.service().closed, clients.len());
}

#[test]
fn a_session_with_little_time_hears_so_first_and_once_for_each_token() {
    let mut tried = tried();
    let expires_at = tried.now + s(50);
    let client = tried.open_until((), Plain, expires_at);
    assert_eq!(client.1.take(), sent(TEXT, b"expiring 50"));
    assert_eq!(
        tried.says(&client, &frame(TEXT, b"hello")),
        sent(TEXT, b"hello")
    );
    // Renewed for as little, it knows: whoever has renewed was told so.
    for _ in 0..3 {
        renew(&mut tried, &client, s(50));
        tried.pass(s(20));
        assert_eq!(hear(&mut tried, &client), Heard::default());
    }
    // For longer, it will be told again.
    let ends_at = renew(&mut tried, &client, s(200));
    let mut warnings = Vec::new();
    let close = loop {
        tried.pass(WHEEL_TICK);
        let heard = hear(&mut tried, &client);
        warnings.extend(heard.warnings.iter().map(|_| ends_at - tried.now));
        if heard.close.is_some() {
            break heard.close;
        }
    };
    assert_eq!(close, expired());
    assert!(tried.now >= ends_at);
    let [left] = warnings[..] else {
        panic!("{warnings:?}");
    };
    assert!((s(59)..=s(120)).contains(&left), "{left:?}");
    assert_eq!(tried.worker.metrics().renewals.value(), 4);
}

#[test]
fn a_token_that_ends_sooner_is_as_good_as_any() {
    let mut tried = tried();
    let client = open(&mut tried, s(86_400));
    let other = open(&mut tried, s(86_400));
    tried.pass(s(10));
    for client in [&client, &other] {
        hear(&mut tried, client);
    }
    let ends_at = renew(&mut tried, &client, s(2));
    while tried.now < ends_at {
        assert_eq!(hear(&mut tried, &client).close, None);
        tried.pass(WHEEL_TICK);
    }
    tried.pass(LATE_MAX);
    assert_eq!(hear(&mut tried, &client).close, expired());
    assert_eq!(hear(&mut tried, &other), Heard::default());
}

#[test]
fn nobody_ends_for_a_session_that_had_the_place_before() {
    let mut tried = tried();
    let first = open(&mut tried, s(30));
    tried.worker.end(first.0, CloseReason::Disconnected);
    let second = open(&mut tried, s(300));
    assert_eq!(first.0.index, second.0.index);
    for _ in 0..60 {
        tried.pass(s(1));
        assert_eq!(hear(&mut tried, &second), Heard::default());
    }
}

#[test]
fn tokens_end_by_the_wall_clock_wherever_it_is_set() {
    use presenced_session::clock::WallStep;
    let mut tried = tried();
    let start = tried.now;
    let [short, long] = [s(600), s(7200)].map(|lives| open(&mut tried, lives));
    let set = |tried: &mut LoneWorker<Renewable>, wall: Duration| {
        tried.worker.set_wall(WallStep::at(tried.now, wall));
    };
    let close = |tried: &mut LoneWorker<Renewable>, client: &Client| {
        tried.pass(s(1));
        hear(tried, client).close
    };
    for _ in 0..3 {
        assert_eq!(close(&mut tried, &short), None);
        assert_eq!(close(&mut tried, &long), None);
    }
    // It was an hour slow, and is right from now on.
    let now = tried.now;
    set(&mut tried, now + s(3600));
    assert_eq!(close(&mut tried, &short), expired());
    assert_eq!(close(&mut tried, &long), None);
    // Set back to before the start, it ends nobody, and each token in its time once it is right.
    set(&mut tried, start.saturating_sub(s(60)));
    let other = open(&mut tried, s(9000));
    for _ in 0..200 {
        assert_eq!(close(&mut tried, &long), None);
        assert_eq!(hear(&mut tried, &other).close, None);
    }
    let now = tried.now;
    set(&mut tried, now + s(7190));
    for _ in 0..20 {
        if close(&mut tried, &long) == expired() {
            assert_eq!(hear(&mut tried, &other).close, None);
            return;
        }
    }
    panic!("it outlives its token");
}

#[test]
fn tokens_that_end_while_the_server_stands_still_end_their_sessions_at_once() {
    for stall in [s(5), EXPIRY_LAG_MAX + s(5), s(200), s(3600)] {
        let mut tried = tried();
        let start = tried.now;
        let lives = [s(150), s(150) + stall / 2, s(150) + stall, s(9000)];
        let clients = lives.map(|lives| open(&mut tried, lives));
        while tried.now < start + s(149) {
            tried.pass(s(1));
            for client in &clients {
                assert_eq!(hear(&mut tried, client).close, None);
            }
        }
        tried.now += stall;
        tried.worker.tick(tried.now).unwrap();
        for (client, lives) in clients.iter().zip(lives) {
            let is_over = start + lives + LATE_MAX <= tried.now;
            let heard = hear(&mut tried, client);
            assert_eq!(heard.close.is_some(), is_over, "{stall:?} {lives:?}");
        }
        // The others are in time again.
        tried.pass(s(2));
        assert_eq!(hear(&mut tried, &clients[2]).close, expired(), "{stall:?}");
        assert_eq!(hear(&mut tried, &clients[3]).close, None);
    }
}

#[test]
fn a_tick_ends_a_bounded_number_of_sessions() {
    let mut tried = tried();
    let count = 2 * EXPIRIES_PER_TICK + 1;
    let clients: Vec<_> = (0..count).map(|_| open(&mut tried, s(1))).collect();
    let mut ended = Vec::new();
    while tried.worker.service().closed < count {
        let before = tried.worker.service().closed;
        tried.pass(WHEEL_TICK);
        ended.push(tried.worker.service().closed - before);
    }
    ended.retain(|&count| count > 0);
    assert_eq!(ended, [EXPIRIES_PER_TICK, EXPIRIES_PER_TICK, 1]);
    // A client that never answers is let go of.
    tried.pass(CLOSE_TIMEOUT + WHEEL_TICK);
    assert!(clients.iter().all(|(_, socket)| socket.is_dropped()));
    assert_eq!((tried.worker.len(), tried.worker.seats().taken()), (0, 0));
}

#[test]
fn what_costs_as_much_as_ten_messages_may_come_twenty_times_at_once() {
    let mut tried = tried();
    let client = open(&mut tried, s(86_400));
    for _ in 0..20 {
        assert_eq!(tried.says(&client, &frame(TEXT, b"dear")), b"");
    }
    let limited = closed(1008, "rate_limited");
    assert_eq!(tried.says(&client, &frame(TEXT, b"dear")), limited);
    // What a service says before it ends a session is sent.
    let client = open(&mut tried, s(86_400));
    let said = tried.says(
        &client,
        &[frame(TEXT, b"wrong"), frame(TEXT, b"hello")].concat(),
    );
    assert_eq!(
        said,
        [sent(TEXT, b"no"), closed(1008, "other_user")].concat()
    );
}

#[test]
fn sessions_that_expire_in_a_drain_end_once() {
    let mut tried = tried();
    let count = 300u64;
    let clients: Vec<_> = (0..count)
        .map(|number| open(&mut tried, Duration::from_millis(100 * number)))
        .collect();
    let over = s(20);
    let grace = Duration::ZERO;
    tried.worker.order(WorkerCommand::Drain { over, grace });
    let mut closes = vec![Vec::new(); clients.len()];
    let start = tried.now;
    while tried.now < start + over + CLOSE_TIMEOUT + s(1) {
        tried.pass(WHEEL_TICK);
        for (client, closes) in clients.iter().zip(&mut closes) {
            closes.extend(hear(&mut tried, client).close);
        }
    }
    let count_of = |reason: &Vec<u8>| {
        closes
            .iter()
            .filter(|closes| closes[..] == [reason.clone()])
            .count()
    };
    let (of_drain, of_time) = (
        count_of(&closed(1012, "restart")),
        count_of(&expired().unwrap()),
    );
    assert_eq!(of_drain + of_time, clients.len());
    assert!(of_drain > 50 && of_time > 50, "{of_drain} {of_time}");
    assert_eq!(tried.worker.service().closed, clients.len());
    assert_eq!((tried.worker.len(), tried.worker.seats().taken()), (0, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Open { lives_ms: u64 },
    Renew { which: usize, lives_ms: u64 },
    Close { which: usize },
    Pass { ms: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lives_ms = || prop_oneof![0..3_000u64, 0..150_000u64, 0..400_000u64];
    let step = prop_oneof![
        3 => lives_ms().prop_map(|lives_ms| Step::Open { lives_ms }),
        3 => (any::<usize>(), lives_ms()).prop_map(|(which, lives_ms)| Step::Renew { which, lives_ms }),
        1 => any::<usize>().prop_map(|which| Step::Close { which }),
        3 => (0..40_000u64).prop_map(|ms| Step::Pass { ms }),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// In whatever order sessions open, close and are renewed, each ends in time.
    #[test]
    fn each_session_ends_in_time(steps in steps()) {
        let mut tried = tried();
        let mut open_now: Vec<(Client, Duration)> = Vec::new();
        for step in steps {
            match step {
                Step::Open { lives_ms } => {
                    let lives = Duration::from_millis(lives_ms);
                    open_now.push((open(&mut tried, lives), tried.now + lives));
                }
                Step::Renew { which, lives_ms } if !open_now.is_empty() => {
                    let which = which % open_now.len();
                    let (client, ends_at) = &mut open_now[which];
                    *ends_at = renew(&mut tried, client, Duration::from_millis(lives_ms));
                }
                Step::Close { which } if !open_now.is_empty() => {
                    let (client, _) = open_now.swap_remove(which % open_now.len());
                    client.1.send(&frame(0x88, b""));
                    tried.read(client.0);
                }
                Step::Renew { .. } | Step::Close { .. } => {}
                Step::Pass { ms } => {
                    let until = tried.now + Duration::from_millis(ms);
                    while tried.now < until {
                        tried.pass(WHEEL_TICK);
                        let now = tried.now;
                        open_now.retain(|(client, ends_at)| {
                            let close = hear(&mut tried, client).close;
                            assert!(close.is_none() || (close == expired() && now >= *ends_at));
                            assert!(close.is_some() || now <= *ends_at + LATE_MAX + WHEEL_TICK);
                            close.is_none()
                        });
                    }
                }
            }
        }
    }
}
