//! How many commands may be in flight on a connection, by how long their replies take. Pure: time
//! is an argument.
//!
//! A fixed window fits one speed only. Many clients with full windows before a slow memcached wait
//! for seconds, give up connections that work, and send everything again, which makes it slower
//! still.
//!
//! Commands are written in pieces. Each piece has a time stamp. Its age when its last reply comes,
//! less what the way there and back takes in any case, is the delay, which is to be about a target.
//! The way is known by the least that there was in the last minutes (as in LEDBAT, RFC 6817): a
//! node on another continent is not slow.
//!
//! As in TCP (RFC 5681):
//!
//! - The window starts small and doubles with each round (slow start) until a delay is above the
//!   target. From there on it grows by a step a round while all delays are below it.
//! - Where a delay is above twice the target, the window becomes half of what was in flight then.
//!   Pieces that were written before that tell of the same trouble (RFC 6582) and change nothing.
//! - It grows only where at least half of it was in flight: a window that is never filled proves
//!   nothing (RFC 7661).
//!
//! Between the target and its double it stays as it is.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::VecDeque;
use std::time::Duration;

use crate::limits::{WAY_PERIOD, WINDOW_MIN, WINDOW_STEP};

/// The window of one connection. Times are since an origin of the caller's.
#[derive(Debug)]
pub(crate) struct Window {
    size: usize,
    max: usize,
    target: Duration,
    /// Below it the window doubles with each round, from there on it grows by a step.
    threshold: usize,
    /// Commands so far.
    written: u64,
    /// Of those, commands that have their reply.
    answered: u64,
    /// Without their last reply, oldest first.
    pieces: VecDeque<Piece>,
    round: Round,
    /// How many commands were written when the window last became smaller.
    cut_at: u64,
    way: Way,
}

/// The least time in which replies have come lately.
#[derive(Debug)]
struct Way {
    /// In this period, and in the one before.
    least: Duration,
    former: Duration,
    period_ends: Duration,
}

/// Commands that were written together.
#[derive(Debug)]
struct Piece {
    commands: usize,
    /// How many commands were written by its end, all before it included.
    end: u64,
    /// Commands without a reply by its end, its own included.
    in_flight: usize,
    at: Duration,
}

/// The time until all that was in flight at its begin is answered.
#[derive(Debug, Default)]
struct Round {
    /// How many commands were written when it began.
    end: u64,
    /// Longest delay of a piece.
    slowest: Duration,
    /// Most commands in flight.
    peak: usize,
}

impl Way {
    /// Takes note of a time, and returns how much longer it was than the least.
    fn delay(&mut self, took: Duration, now: Duration) -> Duration {
        if now >= self.period_ends {
            self.period_ends = now + WAY_PERIOD;
            self.former = std::mem::replace(&mut self.least, took);
        }
        self.least = self.least.min(took);
        took - self.least.min(self.former).min(took)
    }
}

impl Round {
    fn has_used(&self, window: usize) -> bool {
        2 * self.peak > window
    }
}

impl Window {
    /// At its smallest; never above `max`. The way there and back takes no longer than `way`.
    pub(crate) fn new(max: usize, target: Duration, way: Duration) -> Window {
        Window {
            size: WINDOW_MIN.min(max),
            max,
            target,
            threshold: max,
            written: 0,
            answered: 0,
            pieces: VecDeque::new(),
            round: Round::default(),
            cut_at: 0,
            way: Way {
                least: way,
                former: way,
                period_ends: WAY_PERIOD,
            },
        }
    }

    /// Commands that may be in flight.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Commands that are.
    pub(crate) fn in_flight(&self) -> usize {
        (self.written - self.answered) as usize
    }

    /// A piece of `commands` was written at `now`.
    pub(crate) fn wrote(&mut self, commands: usize, now: Duration) {
        self.written += commands as u64;
        self.pieces.push_back(Piece {
            commands,
            end: self.written,
            in_flight: self.in_flight(),
            at: now,
        });
    }

    /// The next `commands` of those in flight were answered at `now`.
    pub(crate) fn answered(&mut self, commands: usize, now: Duration) {
        self.answered = self.written.min(self.answered + commands as u64);
        let answered = self.answered;
        while let Some(piece) = self.pieces.pop_front_if(|piece| piece.end <= answered) {
            let took = now.saturating_sub(piece.at);
            let delay = self.way.delay(took, now);
            self.learn(&piece, delay);
        }
        if answered >= self.round.end {
            self.end_round();
        }
    }

    /// A piece has its last reply.
    fn learn(&mut self, piece: &Piece, delay: Duration) {
        if piece.end <= self.cut_at {
            return;
        }
        // Before it, or behind it: of a window that is filled at once the first piece finds
        // nothing.
        let behind = (self.written - piece.end) as usize;
        let in_flight = piece.in_flight.max(piece.commands + behind);
        self.round.slowest = self.round.slowest.max(delay);
        self.round.peak = self.round.peak.max(in_flight);
        if delay > 2 * self.target {
            self.cut();
        } else if delay > self.target {
            self.threshold = self.threshold.min(self.size);
        } else if self.size < self.threshold && self.round.has_used(self.size) {
            self.size = self.threshold.min(self.size + piece.commands);
        }
    }

    fn cut(&mut self) {
        let min = WINDOW_MIN.min(self.max);
        self.threshold = min.max(self.size / 2);
        self.size = min.max(self.size.min(self.round.peak) / 2);
        self.cut_at = self.written;
    }

    fn end_round(&mut self) {
        let is_fast = self.round.slowest <= self.target;
        if is_fast && self.size >= self.threshold && self.round.has_used(self.size) {
            self.size = self.max.min(self.size + WINDOW_STEP);
        }
        self.round = Round {
            end: self.written,
            ..Round::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::{REPLY_TARGET, WINDOW_TCP};

    /// Clients of one server that answers in the order of the commands, at an exact rate.
    struct Shared {
        now: Duration,
        /// For one command.
        service: Duration,
        /// When all that it has is answered.
        free_at: Duration,
        /// There and back.
        way: Duration,
        clients: Vec<Client>,
    }

    struct Client {
        window: Window,
        /// When which of its commands are answered.
        due: VecDeque<(Duration, usize)>,
        longest: Duration,
    }

    impl Shared {
        fn new(clients: usize, per_second: u32) -> Shared {
            Shared::far_away(clients, per_second, Duration::ZERO)
        }

        fn far_away(clients: usize, per_second: u32, way: Duration) -> Shared {
            let client = |_| Client {
                window: Window::new(WINDOW_TCP, REPLY_TARGET, way),
                due: VecDeque::new(),
                longest: Duration::ZERO,
            };
            Shared {
                now: Duration::ZERO,
                service: Duration::from_secs(1) / per_second,
                free_at: Duration::ZERO,
                way,
                clients: (0..clients).map(client).collect(),
            }
        }

        /// Lets every client write as much as it may at once, for `time`, a millisecond after
        /// another.
        fn run(&mut self, time: Duration) {
            let end = self.now + time;
            while self.now < end {
                for client in &mut self.clients {
                    let now = self.now;
                    while let Some((_, count)) = client.due.pop_front_if(|(at, _)| *at <= now) {
                        client.window.answered(count, now);
                    }
                    let window = &mut client.window;
                    if window.in_flight() > window.size() / 2 {
                        continue;
                    }
                    while let count @ 1.. = window.size() - window.in_flight() {
                        let count = count.min(460);
                        window.wrote(count, now);
                        self.free_at = self.free_at.max(now) + self.service * count as u32;
                        let comes_at = self.free_at + self.way;
                        client.due.push_back((comes_at, count));
                        client.longest = client.longest.max(self.free_at - now);
                    }
                }
                self.now += Duration::from_millis(1);
            }
        }

        /// Most time that a command has waited, in the time since this was last asked.
        fn longest(&mut self) -> Duration {
            let longest = self.clients.iter_mut();
            let longest = longest.map(|client| std::mem::take(&mut client.longest));
            longest.max().unwrap()
        }

        fn sizes(&self) -> Vec<usize> {
            let clients = self.clients.iter();
            clients.map(|client| client.window.size()).collect()
        }
    }

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_fast_server_has_a_full_window_within_a_few_rounds() {
        let mut server = Shared::new(1, 1_000_000);
        server.run(ms(30));
        assert_eq!(server.sizes(), [WINDOW_TCP]);
        server.run(ms(1000));
        assert_eq!(server.sizes(), [WINDOW_TCP], "it stays so");
    }

    #[test]
    fn the_delay_on_a_server_of_a_fixed_rate_is_about_the_target() {
        for (clients, per_second) in [(1, 2000), (1, 20_000), (4, 50_000), (20, 200_000)] {
            let mut server = Shared::new(clients, per_second);
            server.run(ms(1000));
            assert!(server.longest() <= 3 * REPLY_TARGET, "at first");
            server.run(ms(5000));
            let longest = server.longest();
            assert!(
                (REPLY_TARGET / 2..=2 * REPLY_TARGET + ms(10)).contains(&longest),
                "{clients} clients, {per_second}/s: {longest:?}, {:?}",
                server.sizes()
            );
            // It never waits for us.
            assert!(server.free_at > server.now);
        }
    }

    #[test]
    fn a_server_that_is_far_away_is_not_slow() {
        let mut server = Shared::far_away(1, 1_000_000, ms(150));
        server.run(ms(3000));
        assert_eq!(server.sizes(), [WINDOW_TCP]);
        // Another way, which is longer, looks like a slow server for some minutes.
        server.way = ms(400);
        server.run(ms(60_000));
        assert_eq!(server.sizes(), [WINDOW_MIN]);
        server.run(2 * WAY_PERIOD);
        assert_eq!(server.sizes(), [WINDOW_TCP]);
    }

    #[test]
    fn a_server_that_is_far_away_and_slow_has_a_queue_of_about_the_target() {
        let mut server = Shared::far_away(4, 50_000, ms(150));
        server.run(ms(10_000));
        server.longest();
        server.run(ms(10_000));
        let longest = server.longest();
        assert!(
            (ms(10)..=2 * REPLY_TARGET + ms(10)).contains(&longest),
            "{longest:?}"
        );
    }

    #[test]
    fn many_clients_of_a_slow_server_keep_the_least_that_there_is() {
        let mut server = Shared::new(20, 5000);
        server.run(ms(2000));
        assert!(server.longest() <= ms(500), "at first");
        server.run(ms(8000));
        assert_eq!(server.sizes(), [WINDOW_MIN; 20]);
        assert!(server.longest() <= ms(20 * WINDOW_MIN as u64 / 5 + 10));
    }

    #[test]
    fn a_server_that_becomes_slow_and_fast_again_is_followed() {
        let mut server = Shared::new(2, 400_000);
        server.run(ms(2000));
        assert!(server.sizes().iter().all(|&size| size > 4000));
        server.service *= 100;
        // What is in flight takes its time.
        server.run(ms(10_000));
        server.longest();
        server.run(ms(2000));
        assert!(server.longest() <= 2 * REPLY_TARGET + ms(10));
        server.service /= 100;
        server.run(ms(2000));
        assert!(
            server.sizes().iter().all(|&size| size > 4000),
            "{:?}",
            server.sizes()
        );
    }

    /// With all of it in flight, in pieces of 100.
    fn full() -> Window {
        let mut window = Window::new(WINDOW_TCP, REPLY_TARGET, Duration::ZERO);
        window.size = WINDOW_TCP;
        fill(&mut window, ms(0));
        window
    }

    fn fill(window: &mut Window, now: Duration) {
        while let count @ 1.. = window.size().saturating_sub(window.in_flight()) {
            window.wrote(count.min(100), now);
        }
    }

    #[test]
    fn one_stop_of_the_server_halves_the_window_once() {
        let mut window = full();
        // Nothing comes for 300 ms; then all of it, piece by piece.
        for count in 1..=40 {
            window.answered(100, ms(300 + count));
            assert_eq!(window.size(), WINDOW_TCP / 2);
        }
        fill(&mut window, ms(341));
        while window.in_flight() > 0 {
            window.answered(100, ms(345));
        }
        assert!(window.size() >= WINDOW_TCP / 2);
    }

    #[test]
    fn a_server_that_stays_slow_halves_it_once_a_round() {
        let (mut window, mut now) = (full(), ms(0));
        let mut sizes = vec![];
        while window.size() > WINDOW_MIN {
            now += ms(300);
            window.answered(window.in_flight(), now);
            sizes.push(window.size());
            fill(&mut window, now);
        }
        assert_eq!(sizes, [4096, 2048, 1024, 512, 256, 128, 64]);
    }

    #[test]
    fn a_window_that_was_hardly_used_becomes_half_of_what_was() {
        let mut window = Window::new(WINDOW_TCP, REPLY_TARGET, Duration::ZERO);
        window.size = WINDOW_TCP;
        window.wrote(400, ms(0));
        window.answered(400, 3 * REPLY_TARGET);
        assert_eq!(window.size(), 200);
        // Up to half of what it was it grows fast again.
        for round in 1..=5u32 {
            let now = 3 * REPLY_TARGET + ms(1) * round;
            fill(&mut window, now);
            window.answered(window.in_flight(), now);
        }
        assert!(window.size() >= WINDOW_TCP / 2);
    }

    #[test]
    fn what_was_written_before_a_cut_says_nothing_more() {
        let mut window = full();
        window.answered(100, 3 * REPLY_TARGET);
        let cut = window.size();
        // Above the target, and below it.
        window.answered(4000, 3 * REPLY_TARGET / 2);
        window.answered(window.in_flight(), ms(1));
        assert_eq!(window.size(), cut);
        assert_eq!(window.threshold, WINDOW_TCP / 2);
    }

    #[test]
    fn a_window_that_is_not_filled_does_not_grow() {
        let mut window = Window::new(WINDOW_TCP, REPLY_TARGET, Duration::ZERO);
        for second in 0..1000 {
            window.wrote(20, ms(1000 * second));
            window.answered(20, ms(1000 * second + 1));
        }
        assert_eq!(window.size(), WINDOW_MIN);
    }

    #[test]
    fn replies_without_commands_do_no_harm() {
        let mut window = Window::new(WINDOW_TCP, REPLY_TARGET, Duration::ZERO);
        window.answered(7, ms(1));
        assert_eq!((window.size(), window.in_flight()), (WINDOW_MIN, 0));
    }

    proptest! {
        #[test]
        fn whatever_happens_it_is_within_its_bounds(
            max in 1..=WINDOW_TCP,
            steps in prop::collection::vec((0..600usize, 0..600usize, 0..200u64), 1..200),
        ) {
            let mut window = Window::new(max, REPLY_TARGET, Duration::ZERO);
            let (mut now, mut in_flight) = (ms(0), 0);
            for (wanted, answered, time) in steps {
                let wrote = wanted.min(window.size().saturating_sub(in_flight));
                if wrote > 0 {
                    window.wrote(wrote, now);
                    in_flight += wrote;
                }
                now += ms(time);
                let answered = answered.min(in_flight);
                window.answered(answered, now);
                in_flight -= answered;
                prop_assert_eq!(window.in_flight(), in_flight);
                prop_assert!((WINDOW_MIN.min(max)..=max).contains(&window.size()));
                let pieces: usize = window.pieces.iter().map(|piece| piece.commands).sum();
                prop_assert!(pieces >= in_flight && window.pieces.len() <= in_flight);
            }
        }
    }
}
