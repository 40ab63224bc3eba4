//! The progress bar on a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::counts::Counts;

/// Progress of a phase.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Status {
    /// Sessions whose handshake has started.
    attempted: u64,
    open: u64,
    pings: u64,
    pulls: u64,
    lost: u64,
    /// 99th percentile of our pings' latency in µs; with several processes that of the slowest.
    p99_us: u64,
}

impl Status {
    pub(crate) fn new(attempted: usize, open: usize, counts: &Counts) -> Status {
        Status {
            attempted: attempted as u64,
            open: open as u64,
            pings: counts.pings,
            pulls: counts.pulls,
            lost: counts.lost.values().sum(),
            p99_us: counts.client_ping.quantile_us(0.99),
        }
    }

    /// Adds the progress of another process.
    pub(crate) fn merge(&mut self, other: &Status) {
        self.attempted += other.attempted;
        self.open += other.open;
        self.pings += other.pings;
        self.pulls += other.pulls;
        self.lost += other.lost;
        self.p99_us = self.p99_us.max(other.p99_us);
    }
}

/// One line on standard error, if that is a terminal and the output is not JSON.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    is_hidden: bool,
    started: Instant,
    before: (Instant, Status),
}

impl Progress {
    /// A progress bar for a run.
    pub(crate) fn new(is_hidden: bool) -> Progress {
        let now = Instant::now();
        Progress {
            bar: ProgressBar::hidden(),
            is_hidden,
            started: now,
            before: (now, Status::default()),
        }
    }

    /// Shows a bar that fills as `sessions` connect.
    pub(crate) fn connecting(&mut self, sessions: usize) {
        self.start(sessions as u64, "connecting {wide_bar} {pos}/{len} {msg}");
    }

    /// Shows a bar that fills with time.
    pub(crate) fn running(&mut self, phase: &str, time: Duration) {
        let template = format!("{phase} {{bar:20}} {{msg}}");
        self.start(time.as_millis() as u64, &template);
    }

    fn start(&mut self, length: u64, template: &str) {
        let target = match self.is_hidden {
            true => ProgressDrawTarget::hidden(),
            // Draws nothing unless it is a terminal.
            false => ProgressDrawTarget::stderr(),
        };
        self.bar = ProgressBar::with_draw_target(Some(length), target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.started = Instant::now();
        self.before = (self.started, Status::default());
    }

    /// Updates the bar while sessions connect.
    pub(crate) fn show_connecting(&mut self, status: &Status) {
        let rate = self.rate(status, |status| status.attempted);
        self.bar.set_position(status.attempted);
        self.bar.set_message(format!("{rate:.0}/s"));
    }

    /// Updates the bar while the load runs.
    pub(crate) fn show_running(&mut self, status: &Status) {
        let pings = self.rate(status, |status| status.pings);
        let pulls = self.rate(status, |status| status.pulls);
        self.bar
            .set_position(self.started.elapsed().as_millis() as u64);
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

    /// Removes the line.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
