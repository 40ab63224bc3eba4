//! The counters of a presenced, from its `/metrics`.

use std::collections::BTreeMap;
use std::io;

use serde_json::{Map, Value, json};

use crate::flags::MetricsAddr;
use crate::http::Http;

/// A greater bound stands for infinity: it is infinite, or the largest number there is.
const SECONDS_MAX: f64 = 1e9;
const PREFIX: &str = "presenced_";
const BUCKET: &str = "_bucket{le=\"";

/// Values by name and labels, without the prefix.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Snapshot(BTreeMap<String, f64>);

impl Snapshot {
    /// Fetches the metrics.
    pub(crate) fn fetch(at: &MetricsAddr) -> io::Result<Snapshot> {
        let in_flag = |error| {
            let message = format!("--metrics http://{}{}: {error}", at.addr, at.path);
            io::Error::other(message)
        };
        let answer = Http::connect(at.addr).and_then(|mut http| http.get(&at.path));
        let text = answer.and_then(|(status, text)| match status {
            200 => Ok(text),
            _ => Err(io::Error::other(format!("status {status}"))),
        });
        text.map(|text| Snapshot::read(&text)).map_err(in_flag)
    }

    fn read(text: &str) -> Snapshot {
        let numbers = text.lines().filter_map(|line| {
            let (name, value) = line.strip_prefix(PREFIX)?.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Snapshot(numbers.collect())
    }

    /// The changes since `before`. Counters lose their `_total`. Histograms have estimated quantiles;
    /// those of durations end in `_us`. Gauges have their current value. Metrics with labels become objects by
    /// label value, without the counters that did not change.
    pub(crate) fn since(&self, before: &Snapshot) -> Value {
        let mut values = Map::new();
        for (name, &now) in &self.0 {
            let more = now - before.0.get(name).copied().unwrap_or(0.0);
            if let Some((family, labels)) = name.split_once("_total") {
                insert(&mut values, family, labels, more);
            } else if let Some(family) = name.strip_suffix("_sum") {
                let buckets = self.buckets_since(before, family);
                let (name, unit) = match family.strip_suffix("_seconds") {
                    Some(name) => (name.strip_suffix("_duration").unwrap_or(name), "_us"),
                    None => (family, ""),
                };
                let parts = if unit == "_us" { 1.0 } else { 1e6 };
                values.insert(format!("{name}{unit}"), quantiles(&buckets, parts));
            } else if !is_of_histogram(name) {
                let (family, labels) = name.split_at(name.find('{').unwrap_or(name.len()));
                insert(&mut values, family, labels, now);
            }
        }
        Value::Object(values)
    }

    /// Upper bounds in seconds and the cumulative counts, in ascending order.
    fn buckets_since(&self, before: &Snapshot, family: &str) -> Vec<(f64, f64)> {
        let start = format!("{family}{BUCKET}");
        let mut buckets: Vec<(f64, f64)> = self
            .0
            .iter()
            .filter_map(|(name, count)| {
                let bound = name.strip_prefix(&start)?.strip_suffix("\"}")?;
                let before = before.0.get(name).copied().unwrap_or(0.0);
                Some((bound.parse().ok()?, count - before))
            })
            .collect();
        buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        buckets
    }
}

/// `labels` are `{name="value",…}`, or nothing.
fn insert(values: &mut Map<String, Value>, family: &str, labels: &str, value: f64) {
    if labels.is_empty() {
        values.insert(family.to_owned(), json_number(value));
        return;
    }
    let by_label = values.entry(family).or_insert_with(|| json!({}));
    let label: Vec<_> = labels.split('"').skip(1).step_by(2).collect();
    if value > 0.0 {
        by_label[label.join(" ")] = json_number(value);
    }
}

fn is_of_histogram(name: &str) -> bool {
    name.contains(BUCKET) || name.ends_with("_count")
}

/// Whole numbers become integers.
fn json_number(value: f64) -> Value {
    match value.fract() == 0.0 && value.abs() < 1e15 {
        true => json!(value as i64),
        false => json!(value),
    }
}

/// In millionths of what the bounds are in, divided by `parts`.
fn quantiles(buckets: &[(f64, f64)], parts: f64) -> Value {
    let count = buckets.last().map_or(0.0, |(_, count)| *count);
    if count <= 0.0 {
        return Value::Null;
    }
    let at = |share| (quantile(buckets, count * share) * 1e6).round() / parts;
    json!({
        "count": json_number(count),
        "p50": json_number(at(0.5)),
        "p90": json_number(at(0.9)),
        "p99": json_number(at(0.99)),
    })
}

/// Interpolates within a bucket. Values above the last finite bound count as that bound.
fn quantile(buckets: &[(f64, f64)], rank: f64) -> f64 {
    let (mut low, mut below) = (0.0, 0.0);
    for &(high, count) in buckets {
        if count >= rank {
            let part = (rank - below) / (count - below).max(1.0);
            return match high < SECONDS_MAX {
                true => low + (high - low) * part,
                false => low,
            };
        }
        (low, below) = (high, count);
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "\
# HELP presenced_pings_total Pings sent
# TYPE presenced_pings_total counter
presenced_pings_total 10
presenced_session_ends_total{reason=\"pong_timeout\"} 1
presenced_sessions 3
";
    const AFTER: &str = "\
presenced_pings_total 25
presenced_frames_total 4
presenced_session_ends_total{reason=\"pong_timeout\"} 3
presenced_session_ends_total{reason=\"disconnected\"} 0
presenced_sessions 2
presenced_memcached_errors_total{node=\"127.0.0.1:1\",error=\"refused\"} 1
presenced_memcached_up{node=\"127.0.0.1:1\"} 1
presenced_ping_rtt_seconds_sum 0.5
presenced_ping_rtt_seconds_count 10
presenced_ping_rtt_seconds_bucket{le=\"0.001\"} 5
presenced_ping_rtt_seconds_bucket{le=\"0.01\"} 9
presenced_ping_rtt_seconds_bucket{le=\"1.7976931348623157e308\"} 10
presenced_pull_duration_seconds_sum 0.0
presenced_pull_duration_seconds_bucket{le=\"+Inf\"} 0
presenced_ttl_left_ratio_sum 5.0
presenced_ttl_left_ratio_bucket{le=\"0.5\"} 10
presenced_ttl_left_ratio_bucket{le=\"+Inf\"} 10
# EOF
";

    #[test]
    fn changes_between_two_snapshots() {
        let since = Snapshot::read(AFTER).since(&Snapshot::read(BEFORE));
        let expected = json!({
            "pings": 15,
            "frames": 4,
            "session_ends": {"pong_timeout": 2},
            "sessions": 2,
            "memcached_up": {"127.0.0.1:1": 1},
            "memcached_errors": {"127.0.0.1:1 refused": 1},
            "ping_rtt_us": {"count": 10, "p50": 1000, "p90": 10_000, "p99": 10_000},
            "pull_us": null,
            "ttl_left_ratio": {"count": 10, "p50": 0.25, "p90": 0.45, "p99": 0.495},
        });
        assert_eq!(since, expected);
    }

    #[test]
    fn quantiles_are_within_their_bucket() {
        let buckets = [(0.001, 0.0), (0.002, 10.0), (f64::INFINITY, 10.0)];
        assert!((quantile(&buckets, 5.0) - 0.0015).abs() < 1e-9);
        assert!((quantile(&buckets, 10.0) - 0.002).abs() < 1e-9);
    }
}
