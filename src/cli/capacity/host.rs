//! The limits of this host, as files of the kernel and the settings have them.

use std::path::PathBuf;

use rustix::thread::{CapabilitySet, capabilities, sched_getaffinity};

use super::cgroup;
use super::costs::Costs;
use super::files::{field, number, text};
use crate::limits::{CPU_SHARE, MEMORY_SHARE, STORE_BYTES_PER_USER};
use crate::server::Config;

/// What bounds the number of sessions.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Limit {
    /// What it is, a word or two.
    pub(super) about: &'static str,
    /// How many it allows; none if it is no limit here.
    pub(super) sessions: Option<u64>,
    /// Why so many.
    pub(super) why: String,
    /// What to change for more.
    pub(super) setting: &'static str,
}

/// Where limits are read.
#[derive(Debug)]
pub(super) struct Host {
    root: PathBuf,
    cores: usize,
    may_exceed_file_max: bool,
}

impl Host {
    /// This one.
    pub(super) fn this() -> Host {
        let affinity = sched_getaffinity(None).map(|cores| cores.count() as usize);
        let held = capabilities(None).map(|sets| sets.effective);
        Host {
            root: "/".into(),
            cores: affinity.unwrap_or(1),
            may_exceed_file_max: held.is_ok_and(|held| held.contains(CapabilitySet::SYS_ADMIN)),
        }
    }

    /// All limits of sessions that cost as much as `costs` says, with the settings of `config`.
    pub(super) fn limits(&self, config: &Config, costs: &Costs) -> Vec<Limit> {
        let mut limits = vec![
            open_files(config),
            self.file_max(),
            self.epoll(),
            self.conntrack(),
            self.memory(costs),
            self.cpu(config, costs),
        ];
        if has_embedded_store(config) {
            limits.push(store(config));
        }
        limits
    }

    /// What a proxy on this host, or one like it, could open to this server from one address.
    pub(super) fn ports(&self, config: &Config) -> Option<String> {
        let text = text(&self.proc("sys/net/ipv4/ip_local_port_range"))?;
        let mut words = text.split_whitespace();
        let (low, high): (u64, u64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let doors = config.gateway.listen.len() as u64;
        let sessions = (high + 1).saturating_sub(low) * doors;
        Some(format!(
            "sessions take no ports of this host; a proxy with the range {low} to {high} (net.ipv4.ip_local_port_range) has \
             {} for each of its addresses{}",
            super::grouped(sessions),
            match doors {
                1 => String::new(),
                _ => format!(", over the {doors} of --listen"),
            }
        ))
    }

    fn proc(&self, path: &str) -> PathBuf {
        self.root.join("proc").join(path)
    }

    fn file_max(&self) -> Limit {
        let numbers = text(&self.proc("sys/fs/file-nr")).unwrap_or_default();
        let used = numbers.split_whitespace().next();
        let used = used.and_then(|used| used.parse().ok()).unwrap_or(0);
        let max = number(&self.proc("sys/fs/file-max"));
        let (sessions, why) = match max {
            Some(max) if !self.may_exceed_file_max => (
                Some(max.saturating_sub(used)),
                format!(
                    "{} files on this machine, of which {used} are open",
                    super::grouped(max)
                ),
            ),
            Some(_) => (None, "CAP_SYS_ADMIN may go beyond fs.file-max".into()),
            None => (None, "unknown".into()),
        };
        Limit {
            about: "all files",
            sessions,
            why,
            setting: "fs.file-max",
        }
    }

    fn epoll(&self) -> Limit {
        let sessions = number(&self.proc("sys/fs/epoll/max_user_watches"));
        let why = match sessions {
            Some(_) => "sockets that all processes of one user may watch with epoll",
            None => "unknown",
        };
        Limit {
            about: "epoll",
            sessions,
            why: why.into(),
            setting: "fs.epoll.max_user_watches",
        }
    }

    /// Connections are tracked for firewalls that go by their state, and for NAT.
    fn conntrack(&self) -> Limit {
        let folder = self.proc("sys/net/netfilter");
        let max = number(&folder.join("nf_conntrack_max"));
        let used = number(&folder.join("nf_conntrack_count"));
        let (sessions, why) = match (max, used) {
            (Some(max), Some(used)) if used > 0 => (
                Some(max.saturating_sub(used)),
                format!(
                    "{} connections can be tracked, of which {used} are",
                    super::grouped(max)
                ),
            ),
            (Some(max), _) => {
                let max = super::grouped(max);
                (
                    None,
                    format!(
                        "the kernel tracks no connections; with a stateful firewall it is {max}"
                    ),
                )
            }
            (None, _) => (None, "connections are not tracked".into()),
        };
        Limit {
            about: "conntrack",
            sessions,
            why,
            setting: "net.netfilter.nf_conntrack_max",
        }
    }

    fn memory(&self, costs: &Costs) -> Limit {
        let available = field(&self.proc("meminfo"), "MemAvailable").unwrap_or(0);
        let (left, of) = match cgroup::memory_left(&self.root) {
            Some((left, file)) if left < available => (left, file),
            _ => (available, "MemAvailable".into()),
        };
        let each = costs.process_bytes + costs.kernel_bytes;
        Limit {
            about: "memory",
            sessions: Some((left as f64 * MEMORY_SHARE / each) as u64),
            why: format!(
                "{:.0} % of {:.1} GiB ({of}), at {each:.0} B each",
                MEMORY_SHARE * 100.0,
                left as f64 / f64::from(1 << 30),
            ),
            setting: "of the host or its control group",
        }
    }

    fn cpu(&self, config: &Config, costs: &Costs) -> Limit {
        let quota = cgroup::cores(&self.root).unwrap_or(f64::INFINITY);
        let cores = quota.min(self.cores as f64).min(config.workers as f64);
        let interval = config.session.ping_interval;
        let each = costs.heartbeat.as_secs_f64() / interval.as_secs_f64();
        let of = match cores {
            _ if cores == quota => "the quota of its cgroup",
            _ if config.workers < self.cores => "--workers",
            _ => "this machine",
        };
        Limit {
            about: "cpu",
            sessions: Some((cores * CPU_SHARE / each) as u64),
            why: format!(
                "{:.0} % of {cores:.1} cores ({of}), at {:.1} µs for a ping and its pong, every {interval:?}",
                CPU_SHARE * 100.0,
                costs.heartbeat.as_secs_f64() * 1e6,
            ),
            setting: "cores, their quota, or --workers",
        }
    }
}

/// The settings have been checked, so that there are enough for everything else.
fn open_files(config: &Config) -> Limit {
    Limit {
        about: "open files",
        sessions: Some(config.sessions_max as u64),
        why:
            "what everything else leaves of the files that this process may open, or --max-sessions"
                .into(),
        setting: "ulimit -Hn or --max-sessions",
    }
}

/// Whether users' entries are in the server's own process.
pub(super) fn has_embedded_store(config: &Config) -> bool {
    let nodes = &config.memcached.nodes;
    nodes.nodes.is_empty() && nodes.file.is_none()
}

/// Beyond it, entries of live users are evicted.
fn store(config: &Config) -> Limit {
    let bytes = config.store.memory_bytes;
    Limit {
        about: "store",
        sessions: Some(bytes as u64 / STORE_BYTES_PER_USER),
        why: format!("users in the embedded store of {} MiB", bytes >> 20),
        setting: "--store-memory",
    }
}

#[cfg(test)]
mod tests;
