//! What people see while it runs, on a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::counts::Counts;

/// How it goes in a phase.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Status {
    /// Sessions whose handshake has begun.
    tried: u64,
    open: u64,
    pings: u64,
    pulls: u64,
    lost: u64,
    /// 99 % of the answers to our pings were no later, µs; of several processes the slowest.
    p99_us: u64,
}

impl Status {
    pub(crate) fn new(tried: usize, open: usize, counts: &Counts) -> Status {
        Status {
            tried: tried as u64,
            open: open as u64,
            pings: counts.pings,
            pulls: counts.pulls,
            lost: counts.lost.values().sum(),
            p99_us: counts.client_ping.quantile_us(0.99),
        }
    }

    /// Of several processes.
    pub(crate) fn merge(&mut self, other: &Status) {
        self.tried += other.tried;
        self.open += other.open;
        self.pings += other.pings;
        self.pulls += other.pulls;
        self.lost += other.lost;
        self.p99_us = self.p99_us.max(other.p99_us);
    }
}

/// One line on standard error, if it is a terminal and people read it.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    is_hidden: bool,
    sessions: u64,
    begun: Instant,
    before: (Instant, Status),
}

impl Progress {
    /// For a run of `sessions`.
    pub(crate) fn new(sessions: usize, is_hidden: bool) -> Progress {
        let now = Instant::now();
        Progress {
            bar: ProgressBar::hidden(),
            is_hidden,
            sessions: sessions as u64,
            begun: now,
            before: (now, Status::default()),
        }
    }

    /// A bar that fills as sessions are tried.
    pub(crate) fn connecting(&mut self) {
        self.begin(self.sessions, "connecting {wide_bar} {pos}/{len} {msg}");
    }

    /// A bar that fills with time.
    pub(crate) fn running(&mut self, phase: &str, time: Duration) {
        let template = format!("{phase} {{bar:20}} {{msg}}");
        self.begin(time.as_millis() as u64, &template);
    }

    fn begin(&mut self, length: u64, template: &str) {
        let target = match self.is_hidden {
            true => ProgressDrawTarget::hidden(),
            // Draws nothing where that is not a terminal.
            false => ProgressDrawTarget::stderr(),
        };
        self.bar = ProgressBar::with_draw_target(Some(length), target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.begun = Instant::now();
        self.before = (self.begun, Status::default());
    }

    /// How it goes while sessions connect.
    pub(crate) fn show_connecting(&mut self, status: &Status) {
        let rate = self.rate(status, |status| status.tried);
        self.bar.set_position(status.tried);
        self.bar.set_message(format!("{rate:.0}/s"));
    }

    /// How it goes while they run.
    pub(crate) fn show_running(&mut self, status: &Status) {
        let pings = self.rate(status, |status| status.pings);
        let pulls = self.rate(status, |status| status.pulls);
        self.bar
            .set_position(self.begun.elapsed().as_millis() as u64);
        self.bar.set_message(format!(
            "{} open, {} lost, {pings:.0} pings/s, {pulls:.0} pulls/s, p99 {:.1} ms",
            status.open,
            status.lost,
            status.p99_us as f64 / 1e3
        ));
        self.before = (Instant::now(), *status);
    }

    fn rate(&self, status: &Status, count: impl Fn(&Status) -> u64) -> f64 {
        let (at, before) = &self.before;
        let more = count(status).saturating_sub(count(before));
        more as f64 / at.elapsed().as_secs_f64().max(1e-3)
    }

    /// The line goes.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
