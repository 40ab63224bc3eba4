//! How one family of metrics is written, each kind in a line.

use std::fmt;

use presenced_session::metrics::{BOUNDS_US, Counter, Histogram};
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::gateway::refusal::Refusal;

/// One counter; its samples get `_total` behind `name`.
pub(super) fn counter(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> fmt::Result {
    let metric = out.encode_descriptor(name, help, None, MetricType::Counter)?;
    ConstCounter::new(value).encode(metric)
}

/// One gauge.
pub(super) fn gauge(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> fmt::Result {
    let metric = out.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value as i64).encode(metric)
}

/// A counter for each value of `label`.
pub(super) fn by_label(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &'static str,
    values: impl Iterator<Item = (&'static str, u64)>,
) -> fmt::Result {
    let mut family = out.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (value, count) in values {
        ConstCounter::new(count).encode(family.encode_family(&[(label, value)])?)?;
    }
    Ok(())
}

/// A counter for each of the refusals that `is_meant`; `counts` are in the order of
/// [`Refusal::ALL`]. The label is `result`, and `reason` where a result has several.
pub(super) fn by_refusal(
    family: &mut MetricEncoder<'_>,
    counts: &[Counter],
    is_meant: impl Fn(Refusal) -> bool,
) -> fmt::Result {
    for (refusal, count) in Refusal::ALL.iter().zip(counts) {
        if !is_meant(*refusal) {
            continue;
        }
        let facts = refusal.facts();
        let reason = facts.reason.map(|reason| ("reason", reason));
        let labels: Vec<_> = [("result", facts.code)].into_iter().chain(reason).collect();
        ConstCounter::new(count.value()).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// The sum of several histograms of durations; `_seconds` is put behind `name`.
pub(super) fn histogram<'a>(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    parts: impl Iterator<Item = &'a Histogram>,
) -> fmt::Result {
    let mut counts = [0; BOUNDS_US.len() + 1];
    let mut sum_us = 0;
    for part in parts {
        for (count, of_part) in counts.iter_mut().zip(part.counts()) {
            *count += of_part;
        }
        sum_us += part.sum_us();
    }
    let bounds = BOUNDS_US
        .map(|us| us as f64 / 1e6)
        .into_iter()
        .chain([f64::INFINITY]);
    let buckets: Vec<_> = bounds.zip(counts).collect();
    let kind = MetricType::Histogram;
    let mut metric: MetricEncoder<'_> =
        out.encode_descriptor(name, help, Some(&Unit::Seconds), kind)?;
    let count = counts.iter().sum();
    metric.encode_histogram::<NoLabelSet>(sum_us as f64 / 1e6, count, &buckets, None)
}
