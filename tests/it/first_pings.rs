//! A dialect whose first ping waits for a whole interval: many clients that come at any time and answer more or
//! less fast, on a worker with a time of its own.

use std::time::Duration;

use presenced_session::close_reason::CloseReason;
use presenced_session::dialect::{Dialect, Meaning, Nonce, Plain};
use presenced_session::limits::{WHEEL_CATCH_UP, WHEEL_TICK};
use presenced_session::service::{Message, Opened, Replies, Service};
use presenced_session::slab::SessionKey;
use presenced_session::{Config, SessionId};
use presenced_testkit::frame::{TEXT, closed, frame, sent};
use presenced_testkit::lone_worker::{Client, LoneWorker};
use proptest::prelude::*;

use super::OVER;

const INTERVAL: Duration = Duration::from_secs(25);
const TIMEOUT: Duration = Duration::from_secs(20);

/// What the turns of the wheel may add, to be on time for the last one and to come round.
const LATE_MAX: Duration = Duration::from_millis(200);

/// Pings and pongs are texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waits(bool);

impl Dialect for Waits {
    type Ping = [u8; 3];

    fn first_ping_waits(self) -> bool {
        self.0
    }

    fn ping(self, _: Nonce) -> [u8; 3] {
        [TEXT, 1, b'2']
    }

    fn is_pong(self, _: &[u8], _: Nonce) -> bool {
        false
    }

    fn takes_binary(self) -> bool {
        false
    }

    fn read(self, _: Message<'_>) -> Result<Meaning<'_>, CloseReason> {
        Ok(Meaning::Pong)
    }

    fn write(self, out: &mut Vec<u8>, message: Message<'_>) {
        Plain::<false>.write(out, message);
    }

    fn close(self, out: &mut Vec<u8>, reason: CloseReason) {
        Plain::<false>.close(out, reason);
    }
}

struct Nothing;

impl Service for Nothing {
    type Peer = ();
    type Handle = ();
    type Dialect = Waits;
    type Answer = ();

    fn opened(&mut self, (): (), _: SessionId, _: &mut Replies<'_, Waits>) -> Opened<()> {
        ().into()
    }

    fn message(&mut self, _: SessionKey, (): (), _: Message<'_>, _: &mut Replies<'_, Waits>) {}

    fn closed(&mut self, (): (), _: SessionId) {}
}

fn tried() -> LoneWorker<Nothing> {
    let config = Config {
        ping_interval: INTERVAL,
        ping_timeout: TIMEOUT,
        ..Config::default()
    };
    LoneWorker::new(Nothing, config, OVER)
}

/// A client, and what becomes of it.
#[derive(Clone, Debug)]
struct Plan {
    /// When it comes.
    comes_at: Duration,
    waits: bool,
    /// How long it takes for its answers.
    answers_after: Duration,
    /// It answers no more than so many pings.
    answers: usize,
}

/// A client that is there.
struct Seen {
    plan: Plan,
    client: Client,
    came_at: Duration,
    pings: Vec<Duration>,
    /// When it answers.
    answers_at: Option<Duration>,
    ended_at: Option<Duration>,
}

impl Seen {
    fn comes(tried: &mut LoneWorker<Nothing>, plan: Plan) -> Seen {
        Seen {
            client: tried.open((), Waits(plan.waits)),
            came_at: tried.now,
            pings: Vec::new(),
            answers_at: None,
            ended_at: None,
            plan,
        }
    }

    /// Hears what the server says at this moment, and answers what it has heard long enough ago.
    fn look(&mut self, tried: &mut LoneWorker<Nothing>) {
        let said = self.client.1.take();
        if said == sent(TEXT, b"2") {
            assert!(self.answers_at.is_none(), "pinged twice: {:?}", self.plan);
            self.pings.push(tried.now);
            let is_silent = self.pings.len() > self.plan.answers;
            let answers_at = tried.now + self.plan.answers_after;
            self.answers_at = Some(if is_silent { Duration::MAX } else { answers_at });
        } else if said == closed(4408, "pong_timeout") {
            self.ended_at = Some(tried.now);
        } else {
            assert_eq!(said, b"", "{:?}", self.plan);
        }
        if self.ended_at.is_none() && self.answers_at.is_some_and(|at| at <= tried.now) {
            self.answers_at = None;
            assert_eq!(tried.says(&self.client, &frame(TEXT, b"3")), b"");
        }
    }

    /// What must have come of it.
    fn check(&self, now: Duration) {
        let first = self.pings.first().map(|at| *at - self.came_at);
        let earliest = if self.plan.waits {
            INTERVAL
        } else {
            Duration::ZERO
        };
        if now > self.came_at + INTERVAL + LATE_MAX {
            let first = first.expect("a ping");
            let times = earliest..=INTERVAL + LATE_MAX;
            assert!(times.contains(&first), "{first:?} {:?}", self.plan);
        }
        for pair in self.pings.windows(2) {
            let gap = pair[1] - pair[0];
            // While the first answer is owed the wheel may go by.
            let gap_max = INTERVAL + self.plan.answers_after + LATE_MAX;
            assert!(gap <= gap_max, "{gap:?} {:?}", self.plan);
        }
        let is_silent = self.pings.len() > self.plan.answers;
        match self.ended_at {
            Some(at) => {
                let after = at - *self.pings.last().expect("a ping");
                assert!(is_silent, "ended {after:?} after a ping: {:?}", self.plan);
                let times = TIMEOUT - WHEEL_CATCH_UP..=TIMEOUT + LATE_MAX;
                assert!(times.contains(&after), "{after:?} {:?}", self.plan);
            }
            None if is_silent => {
                let last = *self.pings.last().expect("a ping");
                assert!(now <= last + TIMEOUT + LATE_MAX, "{:?}", self.plan);
            }
            None => {}
        }
    }
}

fn run(plans: Vec<Plan>, time: Duration) {
    let mut tried = tried();
    let began_at = tried.now;
    let mut to_come = plans;
    to_come.sort_by_key(|plan| std::cmp::Reverse(plan.comes_at));
    let mut seen: Vec<Seen> = Vec::new();
    while tried.now < began_at + time {
        while let Some(plan) = to_come.pop_if(|plan| began_at + plan.comes_at <= tried.now) {
            seen.push(Seen::comes(&mut tried, plan));
        }
        tried.pass(WHEEL_TICK);
        for seen in seen.iter_mut().filter(|seen| seen.ended_at.is_none()) {
            seen.look(&mut tried);
        }
    }
    for seen in &seen {
        seen.check(tried.now);
    }
    let living = seen.iter().filter(|seen| seen.ended_at.is_none()).count();
    assert_eq!(tried.worker.len(), living);
}

#[test]
fn no_ping_comes_before_an_interval_and_then_those_of_the_wheel_come() {
    let plans = (0..100).map(|number| Plan {
        comes_at: Duration::from_millis(number * 777),
        waits: true,
        answers_after: Duration::ZERO,
        answers: usize::MAX,
    });
    run(plans.collect(), INTERVAL * 6);
}

#[test]
fn a_client_that_never_answers_ends_after_the_time_out() {
    let mut tried = tried();
    let (_, socket) = tried.open((), Waits(true));
    tried.pass(INTERVAL - WHEEL_TICK);
    assert_eq!(socket.take(), b"");
    let pinged_at = {
        assert_eq!(tried.next(&socket), sent(TEXT, b"2"));
        tried.now
    };
    assert_eq!(tried.next(&socket), closed(4408, "pong_timeout"));
    let after = tried.now - pinged_at;
    assert!((TIMEOUT..=TIMEOUT + LATE_MAX).contains(&after), "{after:?}");
}

/// The wheel may ping a session shortly before it is looked whether its first ping was answered.
#[test]
fn the_answer_to_the_second_ping_has_its_own_time() {
    let plans = (0..300).map(|number| Plan {
        comes_at: Duration::from_millis(number * 100),
        waits: true,
        answers_after: Duration::from_secs(2),
        answers: usize::MAX,
    });
    run(plans.collect(), INTERVAL * 5);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn who_answers_in_time_stays_and_who_does_not_ends(
        plans in prop::collection::vec(
            (0u64..60_000, any::<bool>(), 0u64..19_000, prop_oneof![0usize..4, Just(usize::MAX)]).prop_map(
                |(comes_ms, waits, answers_ms, answers)| Plan {
                    comes_at: Duration::from_millis(comes_ms),
                    waits,
                    answers_after: Duration::from_millis(answers_ms),
                    answers,
                },
            ),
            1..40,
        ),
    ) {
        run(plans, INTERVAL * 8);
    }
}
