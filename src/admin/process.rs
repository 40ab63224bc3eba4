//! What any process tells of itself, by the names that all clients of Prometheus use: `process_…`.

use std::path::Path;
use std::{fmt, fs, io};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use super::encode::gauge;

const DESCRIPTORS: &str = "/proc/self/fd";

/// This process. What the system does not tell is left out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let out = &mut encoder;
        if let Some(used) = used() {
            let help = "CPU time that was used, in the kernel, too";
            let (kind, unit) = (MetricType::Counter, Unit::Seconds);
            let metric = out.encode_descriptor("cpu", help, Some(&unit), kind)?;
            ConstCounter::new(used.cpu_seconds).encode(metric)?;
            gauge(
                out,
                "resident_memory_bytes",
                "Memory that is in RAM",
                used.resident_bytes,
            )?;
            let help = "When the process began, as Unix time";
            let (kind, unit) = (MetricType::Gauge, Unit::Seconds);
            let metric = out.encode_descriptor("start_time", help, Some(&unit), kind)?;
            ConstGauge::new(used.started_at_seconds).encode(metric)?;
        }
        if let Ok(open) = open_descriptors(Path::new(DESCRIPTORS)) {
            gauge(out, "open_fds", "Open file descriptors", open)?;
        }
        if let Some(max) = getrlimit(Resource::Nofile).current {
            let help = "How many file descriptors may be open (ulimit -n)";
            gauge(out, "max_fds", help, max)?;
        }
        Ok(())
    }
}

/// What the process has used.
#[derive(Debug, PartialEq)]
struct Used {
    cpu_seconds: f64,
    resident_bytes: u64,
    started_at_seconds: f64,
}

/// `None` if the system does not tell.
fn used() -> Option<Used> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let of_system = fs::read_to_string("/proc/stat").ok()?;
    let (ticks, page_bytes) = (clock_ticks_per_second(), page_size() as u64);
    read_stat(&stat, &of_system, ticks, page_bytes)
}

/// Reads `/proc/self/stat` and `/proc/stat` (proc(5)), which count in ticks and pages.
fn read_stat(stat: &str, of_system: &str, ticks_per_second: u64, page_bytes: u64) -> Option<Used> {
    // The program's name, in parentheses, may have any character. The field behind it has the
    // number 3.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let boot = of_system
        .lines()
        .find_map(|line| line.strip_prefix("btime "));
    let booted_at = boot?.trim().parse::<u64>().ok()?;
    let seconds = |ticks: u64| ticks as f64 / ticks_per_second as f64;
    Some(Used {
        cpu_seconds: seconds(field(14)? + field(15)?),
        resident_bytes: field(24)? * page_bytes,
        started_at_seconds: booted_at as f64 + seconds(field(22)?),
    })
}

/// How many descriptors are open. Since Linux 6.2 the size of the folder says it; before, the
/// folder has to be read, which takes a while for a million.
fn open_descriptors(folder: &Path) -> io::Result<u64> {
    match fs::metadata(folder)?.len() {
        // Reading takes one, too.
        0 => Ok(fs::read_dir(folder)?.count().saturating_sub(1) as u64),
        open => Ok(open),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_program_s_name() {
        let stat = "7 (a) 1 (b c) S 1 7 7 0 -1 4194304 95 0 0 0 250 50 0 0 20 0 5 0 4200 8192 300 18446744073709551615";
        let of_system = "cpu  1 2 3\nctxt 5\nbtime 1700000000\nprocesses 3\n";
        assert_eq!(
            read_stat(stat, of_system, 100, 4096),
            Some(Used {
                cpu_seconds: 3.0,
                resident_bytes: 300 * 4096,
                started_at_seconds: 1_700_000_042.0,
            })
        );
        assert_eq!(read_stat(stat, "cpu 1\n", 100, 4096), None);
        assert_eq!(read_stat("7 (a) S 1", of_system, 100, 4096), None);
        assert_eq!(read_stat("", of_system, 100, 4096), None);
    }
}
