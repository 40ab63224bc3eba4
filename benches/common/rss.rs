//! Memory of this process.

use std::fs;

/// Resident memory of this process in bytes (VmRSS).
pub fn rss_bytes() -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.unwrap().parse::<i64>().unwrap() * 1024
}
