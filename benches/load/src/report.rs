//! The result of a run: one JSON object, or some lines of text.
//!
//! The object has `sessions` (requested), `connected`, `handshakes_per_second`, `tls` (what the TLS handshakes
//! at the start have led to: counts by cipher suite, key exchange and kind), and, for the whole
//! run, `refused`, `connect_errors` and `lost`: counts by HTTP status, error and close code (1006
//! for a session that ended without a close frame). For the measured time it has `seconds`, `open`
//! (at its end), `pings`, `pings_per_second`, `pongs`, `client_pings`, `heartbeats`, `pulls` (sent),
//! `pull_errors` (counts by code), `pulls_per_second` and `pulled_per_second` (answered pulls and their
//! users), `pulled_online`, `pulled_offline`, `pulled_unknown`, `churned`, `flood`. `latency_us` has `handshake` (those at
//! the start), `churn_handshake`, `away` (from the loss of a session until it is open again, with `--reconnect`),
//! `client_ping` and `pull`, each with `count`, `p50`, `p90`, `p99`,
//! `p999` and `max`, or null.
//!
//! With `--pid`: `rss_bytes_empty` (before the first session), `rss_bytes` and `bytes_per_session`
//! (at the end of the measured time), `cpu_us_per_handshake`; for the measured time `cpu_seconds`, its parts
//! `cpu_user_seconds` and `cpu_system_seconds`, and `cpu_us_per_ping_and_pong`. With `--metrics`:
//! `server`, the changes of the server's counters in the measured time. With `--burst`: `burst`, which has
//! `connected`, `seconds`, and with `--pid` `rss_bytes` after it.

use std::fmt::{self, Write};

use serde_json::{Value, json};

use crate::counts::{Counts, CountsByName, add, join_counts, ratio};
use crate::latency::Latency;
use crate::process::Usage;

/// The result of a run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) sessions: u64,
    pub(crate) connect: Counts,
    pub(crate) settle: Counts,
    pub(crate) measure: Counts,
    pub(crate) usage: Option<ServerUsage>,
    pub(crate) server: Option<Value>,
    pub(crate) burst: Option<Burst>,
}

/// A burst after the measured time.
#[derive(Debug)]
pub(crate) struct Burst {
    pub(crate) counts: Counts,
    /// The time to settle after it.
    pub(crate) settle: Counts,
    /// Memory at the end of that.
    pub(crate) after: Option<Usage>,
}

/// Memory and CPU time of the server's processes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerUsage {
    /// Before the first session.
    pub(crate) empty: Usage,
    /// Used while the sessions connected.
    pub(crate) connecting: Usage,
    /// Used in the measured time.
    pub(crate) measuring: Usage,
    /// At the end of that.
    pub(crate) after: Usage,
}

impl Report {
    /// One JSON object.
    pub(crate) fn json(&self) -> Value {
        let measure = &self.measure;
        let mut report = json!({
            "sessions": self.sessions,
            "connected": self.connect.connected,
            "tls": self.connect.tls,
            "refused": self.total(|counts| &counts.refused),
            "connect_errors": self.total(|counts| &counts.connect_errors),
            "lost": self.total(|counts| &counts.lost),
            "handshakes_per_second": self.handshakes_per_second(),
            "seconds": measure.seconds,
            "open": measure.open,
            "pings": measure.pings,
            "pings_per_second": ratio(measure.pings as f64, measure.seconds),
            "pongs": measure.pongs,
            "client_pings": measure.client_pings,
            "heartbeats": measure.heartbeats,
            "pulls": measure.pulls,
            "pull_errors": measure.pull_errors,
            "pulls_per_second": measure.pulls_per_second(),
            "pulled_per_second": measure.pulled_per_second(),
            "pulled_online": measure.pulled_online,
            "pulled_offline": measure.pulled_offline,
            "pulled_unknown": measure.pulled_unknown,
            "churned": measure.churned,
            "flood": measure.flood,
            "latency_us": {
                "away": measure.away.json(),
                "handshake": self.connect.handshake.json(),
                "churn_handshake": measure.handshake.json(),
                "client_ping": measure.client_ping.json(),
                "pull": measure.pull.json(),
            },
        });
        if let Some(usage) = &self.usage {
            report["rss_bytes_empty"] = usage.empty.rss_bytes.into();
            report["rss_bytes"] = usage.after.rss_bytes.into();
            report["bytes_per_session"] = self.bytes_per_session(usage).into();
            report["cpu_us_per_handshake"] = self.cpu_us_per_handshake(usage).into();
            report["cpu_seconds"] = usage.measuring.cpu.as_secs_f64().into();
            report["cpu_user_seconds"] = usage.measuring.user.as_secs_f64().into();
            report["cpu_system_seconds"] = usage.measuring.system.as_secs_f64().into();
            report["cpu_us_per_ping_and_pong"] = self.cpu_us_per_ping(usage).into();
        }
        if let Some(server) = &self.server {
            report["server"] = server.clone();
        }
        if let Some(burst) = &self.burst {
            report["burst"] = json!({
                "connected": burst.counts.connected,
                "seconds": burst.counts.seconds,
                "rss_bytes": burst.after.map(|usage| usage.rss_bytes),
            });
        }
        report
    }

    fn total(&self, counts: impl Fn(&Counts) -> &CountsByName) -> CountsByName {
        let mut sum = CountsByName::new();
        let burst = self.burst.iter();
        let burst = burst.flat_map(|burst| [&burst.counts, &burst.settle]);
        for phase in burst.chain([&self.connect, &self.settle, &self.measure]) {
            add(&mut sum, counts(phase));
        }
        sum
    }

    fn handshakes_per_second(&self) -> f64 {
        ratio(self.connect.connected as f64, self.connect.seconds)
    }

    fn bytes_per_session(&self, usage: &ServerUsage) -> f64 {
        let grown = usage.after.rss_bytes as f64 - usage.empty.rss_bytes as f64;
        ratio(grown, self.measure.open as f64)
    }

    fn cpu_us_per_handshake(&self, usage: &ServerUsage) -> f64 {
        let us = usage.connecting.cpu.as_secs_f64() * 1e6;
        ratio(us, self.connect.connected as f64)
    }

    fn cpu_us_per_ping(&self, usage: &ServerUsage) -> f64 {
        let us = usage.measuring.cpu.as_secs_f64() * 1e6;
        ratio(us, self.measure.pings as f64)
    }

    fn lines(&self, out: &mut String) -> fmt::Result {
        let (connect, measure) = (&self.connect, &self.measure);
        let rate = |count| ratio(count as f64, measure.seconds);
        writeln!(
            out,
            "sessions      {} of {} connected, {:.0}/s; {} open at the end",
            connect.connected,
            self.sessions,
            self.handshakes_per_second(),
            measure.open,
        )?;
        for (what, counts) in [
            ("TLS", self.connect.tls.clone()),
            ("refused", self.total(|counts| &counts.refused)),
            ("not opened", self.total(|counts| &counts.connect_errors)),
            ("lost", self.total(|counts| &counts.lost)),
        ] {
            if !counts.is_empty() {
                writeln!(out, "{what:13} {}", join_counts(&counts))?;
            }
        }
        let (pings, pongs) = (measure.pings, measure.pongs);
        writeln!(
            out,
            "pings         {pings} in {:.1} s, {:.0}/s; {pongs} answered",
            measure.seconds,
            rate(pings)
        )?;
        if measure.heartbeats > 0 {
            let (sent, rate) = (measure.heartbeats, rate(measure.heartbeats));
            writeln!(out, "heartbeats    {sent}, {rate:.0}/s")?;
        }
        self.pull_lines(out)?;
        if measure.churned > 0 {
            let back = measure.handshake.count();
            writeln!(out, "churned       {}, {back} reconnected", measure.churned)?;
        }
        self.flood_line(out)?;
        self.latency_lines(out)?;
        self.usage_lines(out)?;
        self.burst_lines(out)?;
        if let Some(server) = &self.server {
            for (name, value) in server.as_object().into_iter().flatten() {
                writeln!(out, "server        {name} {value}")?;
            }
        }
        Ok(())
    }

    /// A table of what pulls were answered.
    fn pull_lines(&self, out: &mut String) -> fmt::Result {
        let measure = &self.measure;
        if measure.pulls == 0 {
            return Ok(());
        }
        let ms = |us: u64| format!("{:.2}", us as f64 / 1e3);
        let columns = [
            ("sent", measure.pulls.to_string()),
            ("pulls/s", format!("{:.0}", measure.pulls_per_second())),
            ("users/s", format!("{:.0}", measure.pulled_per_second())),
            ("p50 ms", ms(measure.pull.quantile_us(0.5))),
            ("p99 ms", ms(measure.pull.quantile_us(0.99))),
            ("max ms", ms(measure.pull.max_us())),
            ("online", measure.pulled_online.to_string()),
            ("offline", measure.pulled_offline.to_string()),
            ("unknown", measure.pulled_unknown.to_string()),
            (
                "errors",
                measure.pull_errors.values().sum::<u64>().to_string(),
            ),
        ];
        let width = |value: &String| value.len().max(7) + 2;
        write!(out, "pulls        ")?;
        for (title, value) in &columns {
            write!(out, "{title:>0$}", width(value))?;
        }
        write!(out, "\n             ")?;
        for (_, value) in &columns {
            write!(out, "{value:>0$}", width(value))?;
        }
        writeln!(out)?;
        match measure.pull_errors.is_empty() {
            true => Ok(()),
            false => writeln!(out, "pull errors   {}", join_counts(&measure.pull_errors)),
        }
    }

    fn flood_line(&self, out: &mut String) -> fmt::Result {
        let flood = &self.measure.flood;
        if flood.frames == 0 {
            return Ok(());
        }
        let (frames, back) = (flood.frames, flood.reconnects);
        write!(out, "flood         {frames} frames, {back} reconnected")?;
        match flood.closed.is_empty() {
            true => writeln!(out),
            false => writeln!(out, "; closed {}", join_counts(&flood.closed)),
        }
    }

    fn latency_lines(&self, out: &mut String) -> fmt::Result {
        let titles = ["p50", "p90", "p99", "p99.9", "max", "count"];
        write!(out, "latency, ms  ")?;
        titles
            .iter()
            .try_for_each(|title| write!(out, "{title:>9}"))?;
        writeln!(out)?;
        for (what, latency) in [
            ("handshake", &self.connect.handshake),
            ("churn", &self.measure.handshake),
            ("away", &self.measure.away),
            ("client ping", &self.measure.client_ping),
            ("pull", &self.measure.pull),
        ] {
            latency_line(out, what, latency)?;
        }
        Ok(())
    }

    fn burst_lines(&self, out: &mut String) -> fmt::Result {
        let Some(burst) = &self.burst else {
            return Ok(());
        };
        let (connected, seconds) = (burst.counts.connected, burst.counts.seconds);
        write!(
            out,
            "burst         {connected} connected at once, in {seconds:.1} s"
        )?;
        match burst.after {
            Some(after) => writeln!(out, "; memory after it {:.1} MiB", mib(after.rss_bytes)),
            None => writeln!(out),
        }
    }

    fn usage_lines(&self, out: &mut String) -> fmt::Result {
        let Some(usage) = &self.usage else {
            return Ok(());
        };
        writeln!(
            out,
            "memory        {:.1} MiB, {:.1} before the first session: {:.0} B a session",
            mib(usage.after.rss_bytes),
            mib(usage.empty.rss_bytes),
            self.bytes_per_session(usage),
        )?;
        let measuring = &usage.measuring;
        writeln!(
            out,
            "CPU           {:.2} s ({:.2} user, {:.2} system): {:.1} µs for a ping and its pong; \
             {:.1} µs for a handshake",
            measuring.cpu.as_secs_f64(),
            measuring.user.as_secs_f64(),
            measuring.system.as_secs_f64(),
            self.cpu_us_per_ping(usage),
            self.cpu_us_per_handshake(usage),
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.lines(&mut out)?;
        f.write_str(out.trim_end())
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn latency_line(out: &mut String, what: &str, latency: &Latency) -> fmt::Result {
    if latency.count() == 0 {
        return Ok(());
    }
    write!(out, "  {what:11}")?;
    for share in [0.5, 0.9, 0.99, 0.999] {
        write!(out, "{:>9.2}", latency.quantile_us(share) as f64 / 1e3)?;
    }
    let max = latency.max_us() as f64 / 1e3;
    writeln!(out, "{max:>9.2}{:>9}", latency.count())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::counts::count;

    fn usage(rss_bytes: u64, cpu_ms: u64) -> Usage {
        Usage {
            rss_bytes,
            cpu: Duration::from_millis(cpu_ms),
            ..Usage::default()
        }
    }

    fn report() -> Report {
        let mut connect = Counts {
            seconds: 0.5,
            connected: 100,
            ..Counts::default()
        };
        connect.handshake.record(Duration::from_micros(1500));
        count(&mut connect.refused, &401);
        let mut measure = Counts {
            seconds: 2.0,
            open: 90,
            pings: 200,
            pongs: 180,
            ..Counts::default()
        };
        count(&mut measure.lost, &4408);
        let mut settle = Counts::default();
        count(&mut settle.lost, &4408);
        Report {
            sessions: 101,
            connect,
            settle,
            measure,
            usage: Some(ServerUsage {
                empty: usage(1_000, 0),
                connecting: usage(0, 4),
                measuring: usage(0, 2),
                after: usage(10_000, 0),
            }),
            server: Some(json!({"pings": 200})),
            burst: Some(Burst {
                counts: Counts {
                    seconds: 0.25,
                    connected: 40,
                    ..Counts::default()
                },
                settle: Counts {
                    lost: [("1006".to_owned(), 3)].into(),
                    ..Counts::default()
                },
                after: Some(usage(1 << 20, 0)),
            }),
        }
    }

    #[test]
    fn the_json_report() {
        let json = report().json();
        assert_eq!(json["sessions"], 101);
        assert_eq!(json["connected"], 100);
        assert_eq!(json["refused"], json!({"401": 1}));
        assert_eq!(json["connect_errors"], json!({}));
        assert_eq!(json["lost"], json!({"1006": 3, "4408": 2}));
        let burst = json!({"connected": 40, "seconds": 0.25, "rss_bytes": 1 << 20});
        assert_eq!(json["burst"], burst);
        assert_eq!(json["handshakes_per_second"], 200.0);
        assert_eq!(json["pings_per_second"], 100.0);
        assert_eq!(json["latency_us"]["handshake"]["p50"], 1500);
        assert_eq!(json["latency_us"]["pull"], Value::Null);
        assert_eq!(json["bytes_per_session"], 100.0);
        assert_eq!(json["cpu_us_per_handshake"], 40.0);
        assert_eq!(json["cpu_us_per_ping_and_pong"], 10.0);
        assert_eq!(json["server"]["pings"], 200);
    }

    #[test]
    fn the_text_report() {
        let text = report().to_string();
        for part in [
            "100 of 101 connected, 200/s; 90 open at the end",
            "refused       401: 1",
            "lost          1006: 3, 4408: 2",
            "200 in 2.0 s, 100/s; 180 answered",
            "  handshake       1.50",
            "100 B a session",
            "10.0 µs for a ping and its pong; 40.0 µs for a handshake",
            "burst         40 connected at once, in 0.2 s; memory after it 1.0 MiB",
            "server        pings 200",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(!text.contains("pulls"), "{text}");
    }

    #[test]
    fn the_table_of_pulls() {
        let mut report = report();
        let measure = &mut report.measure;
        (measure.pulls, measure.pulled_online) = (1000, 30);
        (measure.pulled_offline, measure.pulled_unknown) = (20, 50);
        for us in [500, 1000, 1500, 2000] {
            measure.pull.record(Duration::from_micros(us));
        }
        count(&mut measure.pull_errors, "rate_limited");
        let text = report.to_string();
        let mut lines = text.lines().skip_while(|line| !line.starts_with("pulls"));
        let mut words = || lines.next().unwrap().split_whitespace().collect::<Vec<_>>();
        let titles =
            "pulls sent pulls/s users/s p50 ms p99 ms max ms online offline unknown errors";
        assert_eq!(words().join(" "), titles);
        let values = [
            "1000", "2", "50", "1.00", "2.00", "2.00", "30", "20", "50", "1",
        ];
        assert_eq!(words(), values);
        assert_eq!(words().join(" "), "pull errors rate_limited: 1");
        let json = report.json();
        assert_eq!(json["pulled_per_second"], 50.0);
        assert_eq!(json["pull_errors"], json!({"rate_limited": 1}));
    }
}
