//! `presenced capacity`: how many sessions this host holds, and which limit comes first.
//!
//! - `host`: the limits; `cgroup`, `files`: where they are read.
//! - `costs`: what a session costs; `probe` measures it with sessions on loopback, `clients` are their other ends.

mod cgroup;
mod clients;
mod costs;
mod files;
mod host;
mod probe;

use std::time::Duration;

use clap::Args;

use self::costs::Costs;
use self::host::{Host, Limit};
use self::probe::Measured;
use super::finding::{Finding, State, note};
use crate::limits::{
    PROBE_SESSIONS, PROBE_SESSIONS_MAX, TLS_HEARTBEAT_TIME, TLS_SESSION_PROCESS_BYTES,
};
use crate::server::Config;

/// What `presenced capacity` is asked.
#[derive(Clone, Debug, Args)]
pub struct CapacityRequest {
    /// Sessions that this host should hold; each limit that allows fewer is reported as wrong
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub sessions: Option<u64>,

    /// Sessions to open on loopback, for some ten seconds, to measure what one costs; 0 measures nothing, and
    /// takes the figures of this project instead
    #[arg(long, default_value_t = PROBE_SESSIONS, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(..=i64::from(PROBE_SESSIONS_MAX)))]
    pub probe_sessions: u32,
}

/// How many sessions this host holds with the settings of `config`, a line for each limit, and then the lowest.
pub async fn capacity(config: &Config, request: &CapacityRequest) -> Vec<Finding> {
    let measured = match request.probe_sessions {
        0 => Err("--probe-sessions is 0".into()),
        count => probe::measure(config, count as usize).await,
    };
    let costs = measured
        .as_ref()
        .map_or(Costs::default(), |found| found.costs);
    let has_tls = config.gateway.tls.is_some();
    let costs = if has_tls { costs.with_tls() } else { costs };
    let host = Host::this();
    let limits = host.limits(config, &costs);
    let wanted = request.sessions;
    let mut findings: Vec<_> = limits.iter().map(|limit| finding(limit, wanted)).collect();
    let ports = host.ports(config).into_iter();
    findings.extend(ports.map(|text| note("ports", text)));
    findings.push(match &measured {
        Ok(measured) => note("measured", what_was_measured(measured)),
        Err(why) => note(
            "assumed",
            format!("nothing was measured ({why}): these are this project's own figures"),
        ),
    });
    if has_tls {
        findings.push(note("tls", what_tls_adds()));
    }
    if let Some(lowest) = limits
        .iter()
        .filter(|limit| limit.sessions.is_some())
        .min_by_key(|limit| limit.sessions)
    {
        findings.push(verdict(lowest, wanted));
    }
    findings
}

fn is_enough(limit: &Limit, wanted: Option<u64>) -> bool {
    match (limit.sessions, wanted) {
        (Some(sessions), Some(wanted)) => sessions >= wanted,
        _ => true,
    }
}

fn finding(limit: &Limit, wanted: Option<u64>) -> Finding {
    let sessions = limit.sessions.map_or_else(|| "no limit".into(), grouped);
    Finding {
        state: match is_enough(limit, wanted) {
            true => State::Fine,
            false => State::Wrong,
        },
        about: limit.about,
        text: format!("{sessions}: {}", limit.why),
        sessions: limit.sessions,
    }
}

/// The limit that comes first.
fn verdict(lowest: &Limit, wanted: Option<u64>) -> Finding {
    let Limit {
        about,
        sessions,
        setting,
        ..
    } = lowest;
    let found = sessions.map_or_else(String::new, grouped);
    let is_enough = is_enough(lowest, wanted);
    let of = wanted
        .filter(|_| !is_enough)
        .map(|wanted| format!(" of {}", grouped(wanted)));
    Finding {
        state: if is_enough { State::Fine } else { State::Wrong },
        about: "sessions",
        text: format!(
            "{found}{}: the limit that comes first is {about} ({setting})",
            of.unwrap_or_default()
        ),
        sessions: *sessions,
    }
}

fn what_was_measured(measured: &Measured) -> String {
    let Measured {
        sessions,
        costs,
        handshake,
        ..
    } = measured;
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let memory = |bytes: f64, is_measured| match is_measured {
        true => format!("{bytes:.0} B"),
        false => format!("{bytes:.0} B (not measured here)"),
    };
    format!(
        "{} sessions on loopback: {:.1} µs of CPU time for a ping and its pong, {:.1} µs for a handshake; a session takes {} of \
         this process's memory, and {} of the kernel's",
        grouped(*sessions as u64),
        us(costs.heartbeat),
        us(*handshake),
        memory(costs.process_bytes, measured.is_process_memory_measured),
        memory(costs.kernel_bytes, measured.is_kernel_memory_measured),
    )
}

/// The sessions that are measured have no TLS: both ends of them would be in this process.
fn what_tls_adds() -> String {
    format!(
        "for each session {TLS_SESSION_PROCESS_BYTES} B of this process's memory and {:.1} µs of CPU time for a ping and its pong are added, which were not measured here",
        TLS_HEARTBEAT_TIME.as_secs_f64() * 1e6
    )
}

/// With commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
