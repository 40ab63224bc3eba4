//! The two text forms of metrics: the classic one of Prometheus, which everything reads, and
//! OpenMetrics for a client that asks for it.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt::Write;

use hyper::HeaderMap;
use hyper::header::ACCEPT;

const OPEN_METRICS: &str = "application/openmetrics-text";
const TEXT: &str = "text/plain";

/// A text form of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// The text format of Prometheus, version 0.0.4.
    Classic,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Exposition {
    /// What a request wants by its `Accept` (RFC 9110 §12.5.1). OpenMetrics only if it is named,
    /// and not liked less than plain text; a wildcard means whatever is usual.
    pub fn wanted(headers: &HeaderMap) -> Exposition {
        let accept = headers.get_all(ACCEPT).into_iter();
        let accept = accept.filter_map(|value| value.to_str().ok());
        let ranges = accept.flat_map(|value| value.split(','));
        let (mut open, mut text) = (0.0_f32, 0.0_f32);
        for range in ranges {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let (mut quality, mut is_version_1) = (1.0_f32, true);
            for parameter in parts {
                match parameter.split_once('=') {
                    Some(("q", q)) => quality = q.parse().unwrap_or(0.0),
                    Some(("version", version)) => is_version_1 = version == "1.0.0",
                    _ => {}
                }
            }
            if kind.eq_ignore_ascii_case(OPEN_METRICS) && is_version_1 {
                open = quality.max(open);
            } else if kind.eq_ignore_ascii_case(TEXT) {
                text = quality.max(text);
            }
        }
        match open > 0.0 && open >= text {
            true => Exposition::OpenMetrics,
            false => Exposition::Classic,
        }
    }

    /// For the header `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Exposition::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Exposition::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The same metrics in this form.
    pub fn of(self, open_metrics: String) -> String {
        match self {
            Exposition::Classic => classic(&open_metrics),
            Exposition::OpenMetrics => open_metrics,
        }
    }
}

/// Turns OpenMetrics into the classic form. Samples are the same in both. In the classic form a
/// family is called like its samples, and has neither a unit nor an end.
fn classic(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    let mut described = "";
    for line in open_metrics.lines() {
        let comment = line.strip_prefix("# ");
        match comment.map(|comment| comment.split_once(' ').unwrap_or_default()) {
            None => {
                out.push_str(line);
                out.push('\n');
            }
            // How the family is called there depends on its type, which comes next.
            Some(("HELP", rest)) => described = rest,
            Some(("TYPE", rest)) => {
                let (name, kind) = rest.split_once(' ').unwrap_or((rest, "unknown"));
                let (suffix, kind) = match kind {
                    "counter" => ("_total", kind),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    _ => ("", kind),
                };
                if let Some(help) = described.strip_prefix(name) {
                    let _ = writeln!(out, "# HELP {name}{suffix}{help}");
                }
                let _ = writeln!(out, "# TYPE {name}{suffix} {kind}");
            }
            Some(_) => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn open_metrics_is_for_those_that_ask_for_it() {
        // Prometheus 2.42, and an old one.
        const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0,\
            application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        const OLD: &str =
            "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5";
        for (accept, wanted) in [
            (&[][..], Exposition::Classic),
            (&["*/*"], Exposition::Classic),
            (&["text/html, text/plain;q=0.9"], Exposition::Classic),
            (&["application/*"], Exposition::Classic),
            (&[PROMETHEUS], Exposition::OpenMetrics),
            (&[OLD], Exposition::Classic),
            (&["Application/OpenMetrics-Text"], Exposition::OpenMetrics),
            (&["text/plain;q=0.5", OPEN_METRICS], Exposition::OpenMetrics),
            (
                &["application/openmetrics-text;q=0.3,text/plain"],
                Exposition::Classic,
            ),
            (&["application/openmetrics-text;q=0"], Exposition::Classic),
            (&["application/openmetrics-text;q=?"], Exposition::Classic),
            (
                &["application/openmetrics-text;version=2.0.0"],
                Exposition::Classic,
            ),
            (
                &["\u{e9},application/openmetrics-text"],
                Exposition::Classic,
            ),
        ] {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(ACCEPT, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            assert_eq!(Exposition::wanted(&headers), wanted, "{accept:?}");
        }
    }

    #[test]
    fn the_classic_form_calls_a_family_like_its_samples() {
        let open_metrics = "# HELP a Some help\n# TYPE a counter\na_total{of=\"# TYPE a\"} 1\n\
             # HELP b_seconds How long.\n# TYPE b_seconds gauge\n# UNIT b_seconds seconds\nb_seconds 0.5\n\
             # HELP c What it is\n# TYPE c info\nc_info{version=\"1\"} 1\n\
             # HELP d Parts\n# TYPE d histogram\nd_sum 1.0\nd_count 1\nd_bucket{le=\"+Inf\"} 1\n\
             # EOF\n";
        let expected = "# HELP a_total Some help\n# TYPE a_total counter\na_total{of=\"# TYPE a\"} 1\n\
             # HELP b_seconds How long.\n# TYPE b_seconds gauge\nb_seconds 0.5\n\
             # HELP c_info What it is\n# TYPE c_info gauge\nc_info{version=\"1\"} 1\n\
             # HELP d Parts\n# TYPE d histogram\nd_sum 1.0\nd_count 1\nd_bucket{le=\"+Inf\"} 1\n";
        assert_eq!(classic(open_metrics), expected);
        let of = |form: Exposition| form.of(open_metrics.to_owned());
        assert_eq!(of(Exposition::Classic), expected);
        assert_eq!(of(Exposition::OpenMetrics), open_metrics);
    }
}
