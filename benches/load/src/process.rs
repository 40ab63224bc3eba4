//! Memory and CPU time of the server's processes, from `/proc`.

use std::ops::{Add, Sub};
use std::time::Duration;
use std::{fs, io};

/// Memory and CPU time of processes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Resident memory (`VmRSS`).
    pub(crate) rss_bytes: u64,
    /// CPU time of all live threads.
    pub(crate) cpu: Duration,
    /// CPU time in user space, in clock ticks of the kernel (usually 10 ms).
    pub(crate) user: Duration,
    /// CPU time in the kernel, likewise.
    pub(crate) system: Duration,
}

impl Usage {
    /// Usage of one process.
    pub(crate) fn of(pid: u32) -> io::Result<Usage> {
        let (user, system) = ticks(pid)?;
        Ok(Usage {
            rss_bytes: rss_bytes(pid)?,
            cpu: cpu(pid)?,
            user,
            system,
        })
    }

    /// Sum over several processes.
    pub(crate) fn of_all(pids: &[u32]) -> io::Result<Usage> {
        pids.iter().try_fold(Usage::default(), |sum, &pid| {
            let usage = Usage::of(pid);
            let usage = usage.map_err(|error| io::Error::other(format!("--pid {pid}: {error}")));
            Ok(sum + usage?)
        })
    }
}

impl Add for Usage {
    type Output = Usage;

    fn add(self, other: Usage) -> Usage {
        Usage {
            rss_bytes: self.rss_bytes + other.rss_bytes,
            cpu: self.cpu + other.cpu,
            user: self.user + other.user,
            system: self.system + other.system,
        }
    }
}

impl Sub for Usage {
    type Output = Usage;

    /// Usage since `before`; 0 where it has decreased because threads have exited.
    fn sub(self, before: Usage) -> Usage {
        Usage {
            rss_bytes: self.rss_bytes.saturating_sub(before.rss_bytes),
            cpu: self.cpu.saturating_sub(before.cpu),
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
        }
    }
}

fn rss_bytes(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.parse::<u64>().ok());
    kib.map(|kib| kib * 1024)
        .ok_or_else(|| io::Error::other("no VmRSS in /proc"))
}

/// Summed over threads from `schedstat`, in ns: `stat` counts in hundredths of a second.
fn cpu(pid: u32) -> io::Result<Duration> {
    let mut ns = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = match fs::read_to_string(task?.path().join("schedstat")) {
            Ok(text) => text,
            // The thread has exited meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let first = text
            .split_whitespace()
            .next()
            .and_then(|ns| ns.parse::<u64>().ok());
        ns += first.ok_or_else(|| io::Error::other("no time in /proc"))?;
    }
    Ok(Duration::from_nanos(ns))
}

/// User and system time (proc_pid_stat(5), fields 14 and 15).
fn ticks(pid: u32) -> io::Result<(Duration, Duration)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (user, system) =
        ticks_of(&stat).ok_or_else(|| io::Error::other("no user and system time in /proc"))?;
    let tick = 1.0 / rustix::param::clock_ticks_per_second() as f64;
    let time = |ticks: u64| Duration::from_secs_f64(ticks as f64 * tick);
    Ok((time(user), time(system)))
}

/// The second field is the process name in parentheses, which may contain anything.
fn ticks_of(stat: &str) -> Option<(u64, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_of_this_process() {
        let before = Usage::of(std::process::id()).unwrap();
        assert!(before.rss_bytes > 100_000);
        while Usage::of(std::process::id()).unwrap().cpu < before.cpu + Duration::from_millis(1) {}
        let twice = Usage::of_all(&[std::process::id(); 2]).unwrap();
        assert!(twice.rss_bytes > before.rss_bytes);
    }

    #[test]
    fn a_process_name_may_contain_anything() {
        let stat = "7 (a) b) 1) S 1 7 7 0 -1 4194560 1 2 3 4 150 25 0 0 20 0";
        assert_eq!(ticks_of(stat), Some((150, 25)));
        assert_eq!(ticks_of("7 (a"), None);
    }

    #[test]
    fn a_missing_process_is_named() {
        let error = Usage::of_all(&[u32::MAX]).unwrap_err().to_string();
        assert!(error.starts_with("--pid 4294967295: "), "{error}");
    }
}
