//! How long the process has had a processor, as `getrusage` tells it.

use std::fs;
use std::time::Duration;

/// Linux counts these in hundredths of a second, whatever the kernel's own tick is.
const TICK: Duration = Duration::from_millis(10);

/// Time in its own code and in the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProcessorTime {
    pub(super) user: Duration,
    pub(super) system: Duration,
}

impl ProcessorTime {
    /// Of this process so far; `None` where there is no `/proc`.
    pub(super) fn now() -> Option<ProcessorTime> {
        ProcessorTime::read(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    /// As `proc_pid_stat(5)` has it: fields 14 and 15, of which the second may hold spaces and
    /// brackets.
    fn read(stat: &str) -> Option<ProcessorTime> {
        let (_, fields) = stat.rsplit_once(") ")?;
        let mut fields = fields.split(' ').skip(14 - 3);
        let mut time = || Some(TICK * fields.next()?.parse().ok()?);
        Some(ProcessorTime {
            user: time()?,
            system: time()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_field() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 123 45 0 0 20 0 1 0 900 1 2";
        let time = ProcessorTime {
            user: Duration::from_millis(1230),
            system: Duration::from_millis(450),
        };
        assert_eq!(ProcessorTime::read(stat), Some(time));
        assert_eq!(ProcessorTime::read("7 (a) S 1"), None);
    }

    #[test]
    fn time_goes_by() {
        let first = ProcessorTime::now().unwrap();
        let later = || ProcessorTime::now().unwrap();
        while later().user <= first.user && later().system <= first.system {}
    }
}
