//! Memory and CPU time of another process, from `/proc`.

use std::fs;
use std::io;
use std::time::Duration;

/// A process to be measured.
#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
}

/// What it has used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Resident memory (`VmRSS`).
    pub(crate) rss_bytes: u64,
    /// User and system time of all its threads.
    pub(crate) cpu: Duration,
}

impl Process {
    pub(crate) fn new(pid: u32) -> Process {
        Process { pid }
    }

    pub(crate) fn usage(&self) -> io::Result<Usage> {
        Ok(Usage {
            rss_bytes: self.rss_bytes()?,
            cpu: self.cpu()?,
        })
    }

    fn rss_bytes(&self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .and_then(|kib| kib.parse::<u64>().ok());
        kib.map(|kib| kib * 1024)
            .ok_or_else(|| io::Error::other("no VmRSS in /proc"))
    }

    /// Summed over threads from `schedstat`, in ns: `stat` counts in hundredths of a second.
    fn cpu(&self) -> io::Result<Duration> {
        let mut ns = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let first = text
                .split_whitespace()
                .next()
                .and_then(|ns| ns.parse::<u64>().ok());
            ns += first.ok_or_else(|| io::Error::other("no time in /proc"))?;
        }
        Ok(Duration::from_nanos(ns))
    }
}
