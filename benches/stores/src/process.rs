//! CPU time and memory of a server from `/proc`, those of its child processes included: PostgreSQL has one for each
//! connection.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;

use crate::Result;

/// CPU time of a process, of its children, and of those children that have ended.
pub fn cpu(pid: u32) -> Result<Duration> {
    // From the field after the state: utime, stime, and then those of children that have ended.
    let mut ticks: u64 = times(pid)?.iter().sum();
    for child in children(pid)? {
        // A child that has just ended counts for its parent.
        ticks += times(child).map_or(0, |times| times[..2].iter().sum());
    }
    Ok(Duration::from_secs_f64(
        ticks as f64 / clock_ticks_per_second() as f64,
    ))
}

/// Bytes of memory of a process and its children. What they share counts once.
pub fn memory(pid: u32) -> Result<u64> {
    let mut total = pss(pid)?;
    for child in children(pid)? {
        total += pss(child).unwrap_or(0);
    }
    Ok(total)
}

fn pss(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.ok_or("no Pss in smaps_rollup")?.parse::<u64>()? * 1024)
}

fn times(pid: u32) -> Result<[u64; 4]> {
    let fields = stat(pid)?;
    let mut times = [0; 4];
    for (time, field) in times.iter_mut().zip(&fields[11..]) {
        *time = field.parse()?;
    }
    Ok(times)
}

fn children(pid: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(child) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // Processes end at any moment.
        if stat(child).is_ok_and(|fields| fields[1] == pid.to_string()) {
            children.push(child);
        }
    }
    Ok(children)
}

/// The fields of `/proc/PID/stat` from the state on. The command's name before it may contain anything.
fn stat(pid: u32) -> io::Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = text.rsplit_once(") ").map_or("", |(_, fields)| fields);
    Ok(fields.split(' ').map(str::to_owned).collect())
}
