//! A run: its phases in order, and what is measured from outside between them.

use std::io;

use crate::client::Client;
use crate::counts::{Counts, join_counts};
use crate::flags::Flags;
use crate::fleet::Fleet;
use crate::metrics::Snapshot;
use crate::phase::Phase;
use crate::process::Usage;
use crate::progress::{Progress, Status};
use crate::report::{Burst, Report, ServerUsage};
use crate::tls::Tls;
use crate::tokens::SigningKey;

/// The sessions: in this process, or in several others.
enum Load {
    Here(Box<Client>),
    Fleet(Fleet),
}

impl Load {
    fn start(flags: &Flags, key: Option<&SigningKey>, tls: Option<Tls>) -> io::Result<Load> {
        match flags.processes.get() {
            1 => Ok(Load::Here(Box::new(Client::new(flags, key, tls)?))),
            _ => Fleet::start(flags).map(Load::Fleet),
        }
    }

    fn phase(
        &mut self,
        phase: Phase,
        flags: &Flags,
        progress: &mut Progress,
    ) -> io::Result<Counts> {
        match phase.time(flags) {
            None if phase == Phase::Burst => progress.connecting(flags.burst),
            None => progress.connecting(flags.sessions.get()),
            Some(time) => progress.running(phase.name(), time),
        }
        let mut show = |status: &Status| match phase {
            Phase::Connect | Phase::Burst => progress.show_connecting(status),
            Phase::Settle | Phase::Measure => progress.show_running(status),
        };
        let counts = match self {
            Load::Here(client) => phase.run(client, flags, &mut |status| {
                show(status);
                Ok(())
            }),
            Load::Fleet(fleet) => fleet.phase(phase, &mut show),
        };
        progress.clear();
        counts
    }
}

/// Runs all phases. It is an error if no session could be opened.
pub(crate) fn run(flags: &Flags, key: Option<&SigningKey>, tls: Option<Tls>) -> io::Result<Report> {
    let usage = || match flags.pid.is_empty() {
        true => Ok(None),
        false => Usage::of_all(&flags.pid).map(Some),
    };
    let metrics = || flags.metrics.as_ref().map(Snapshot::fetch).transpose();
    // Fetched first, so that a wrong address is reported at once.
    metrics()?;
    let mut progress = Progress::new(flags.json);
    let mut load = Load::start(flags, key, tls)?;

    let empty = usage()?;
    let connect = load.phase(Phase::Connect, flags, &mut progress)?;
    let connected = usage()?;
    if connect.connected == 0 {
        return Err(none_connected(flags, &connect));
    }
    let settle = load.phase(Phase::Settle, flags, &mut progress)?;

    let metrics_before = metrics()?;
    let before = usage()?;
    let measure = load.phase(Phase::Measure, flags, &mut progress)?;
    let after = usage()?;
    let server = metrics()?.zip(metrics_before);
    let server = server.map(|(after, before)| after.since(&before));

    let burst = match flags.burst {
        0 => None,
        _ => {
            let counts = load.phase(Phase::Burst, flags, &mut progress)?;
            Some(Burst {
                counts,
                settle: load.phase(Phase::Settle, flags, &mut progress)?,
                after: usage()?,
            })
        }
    };
    let usage = empty.zip(connected).zip(before.zip(after));
    let usage = usage.map(|((empty, connected), (before, after))| ServerUsage {
        empty,
        connecting: connected - empty,
        measuring: after - before,
        after,
    });
    Ok(Report {
        sessions: flags.sessions.get() as u64,
        connect,
        settle,
        measure,
        usage,
        server,
        burst,
    })
}

fn none_connected(flags: &Flags, counts: &Counts) -> io::Error {
    let mut why = Vec::new();
    if !counts.refused.is_empty() {
        why.push(format!("refused with {}", join_counts(&counts.refused)));
    }
    if !counts.connect_errors.is_empty() {
        why.push(join_counts(&counts.connect_errors));
    }
    io::Error::other(format!(
        "none of {} sessions could be opened at {}: {}",
        flags.sessions,
        flags.connect,
        why.join("; ")
    ))
}
