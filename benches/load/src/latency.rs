//! Histograms of latencies, which several processes can merge without loss.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A histogram of durations in µs with 3 significant digits, from 1 µs to an hour. Longer ones
/// count as an hour.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(from = "Pairs", into = "Pairs")]
pub(crate) struct Latency(Histogram<u64>);

/// Values and how often each was recorded, in ascending order.
type Pairs = Vec<(u64, u64)>;

const MAX_US: u64 = 3_600_000_000;
const DIGITS: u8 = 3;

impl Latency {
    pub(crate) fn record(&mut self, duration: Duration) {
        self.0.saturating_record(duration.as_micros() as u64);
    }

    pub(crate) fn merge(&mut self, other: &Latency) {
        // Both have the same bounds.
        let _ = self.0.add(&other.0);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The quantile in µs; 0 if nothing was recorded.
    pub(crate) fn quantile_us(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile)
    }

    pub(crate) fn max_us(&self) -> u64 {
        self.0.max()
    }

    /// `{"count":…,"p50":…,"p90":…,"p99":…,"p999":…,"max":…}` in µs; null if nothing was recorded.
    pub(crate) fn json(&self) -> Value {
        if self.count() == 0 {
            return Value::Null;
        }
        json!({
            "count": self.count(),
            "p50": self.quantile_us(0.5),
            "p90": self.quantile_us(0.9),
            "p99": self.quantile_us(0.99),
            "p999": self.quantile_us(0.999),
            "max": self.max_us(),
        })
    }
}

impl Default for Latency {
    #[allow(clippy::expect_used, reason = "the bounds are constants that fit")]
    fn default() -> Latency {
        Latency(Histogram::new_with_bounds(1, MAX_US, DIGITS).expect("valid bounds"))
    }
}

impl From<Pairs> for Latency {
    fn from(pairs: Pairs) -> Latency {
        let mut latency = Latency::default();
        for (value, count) in pairs {
            latency.0.saturating_record_n(value, count);
        }
        latency
    }
}

impl From<Latency> for Pairs {
    fn from(latency: Latency) -> Pairs {
        let values = latency.0.iter_recorded();
        values
            .map(|value| (value.value_iterated_to(), value.count_at_value()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> Latency {
        let mut latency = Latency::default();
        for &us in values {
            latency.record(Duration::from_micros(us));
        }
        latency
    }

    #[test]
    fn percentiles() {
        let latency = of(&(1..=1000).collect::<Vec<_>>());
        let json = latency.json();
        assert_eq!(json["count"], 1000);
        assert_eq!(json["p50"], 500);
        assert_eq!(json["p90"], 900);
        assert_eq!(json["p99"], 990);
        assert_eq!(json["max"], 1000);
        assert_eq!(Latency::default().json(), Value::Null);
    }

    #[test]
    fn longer_durations_count_as_the_longest() {
        let latency = of(&[u64::MAX / 2]);
        assert!(latency.max_us() >= MAX_US);
        assert_eq!(latency.count(), 1);
    }

    proptest! {
        #[test]
        fn a_serialized_and_merged_histogram_equals_one_recorded_here(
            a in proptest::collection::vec(0..10_000_000u64, 0..50),
            b in proptest::collection::vec(0..10_000_000u64, 0..50),
        ) {
            let text = serde_json::to_string(&of(&b)).unwrap();
            let mut merged = of(&a);
            merged.merge(&serde_json::from_str(&text).unwrap());
            prop_assert_eq!(merged.json(), of(&[a, b].concat()).json());
        }
    }
}
