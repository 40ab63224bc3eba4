//! The rows, as files that `scripts/truth.sh` joins to a table.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::asker::Seen;

/// Fewer answers prove nothing.
const ANSWERS_MIN: u64 = 15;

/// One fault.
pub(crate) struct Row {
    /// Where in the table it is.
    pub(crate) number: u32,
    /// What went wrong.
    pub(crate) fault: &'static str,
    /// The longest that a live user may be called offline: zero, or what is documented.
    pub(crate) offline_max: Duration,
}

impl Row {
    /// One during which no live user may be called offline.
    pub(crate) fn never(number: u32, fault: &'static str) -> Row {
        Row {
            number,
            fault,
            offline_max: Duration::ZERO,
        }
    }

    /// One for which the documents make an exception.
    pub(crate) fn at_most(offline_max: Duration, number: u32, fault: &'static str) -> Row {
        Row {
            number,
            fault,
            offline_max,
        }
    }

    /// Writes the row, then asserts it.
    pub(crate) fn judge(&self, seen: &Seen) {
        let (offline, unknown) = (seen.offline.longest, seen.unknown.longest);
        let was_offline = seen.offline.count > 0;
        let folder = folder();
        fs::create_dir_all(&folder).unwrap();
        let line = format!(
            "| {} | {} | {} | {} |\n",
            self.fault,
            if was_offline {
                seconds(offline)
            } else {
                "0".into()
            },
            seconds(self.offline_max),
            seconds(unknown),
        );
        fs::write(folder.join(format!("{:02}.row", self.number)), line).unwrap();
        assert!(
            seen.answers >= ANSWERS_MIN,
            "asked {} times only",
            seen.answers
        );
        assert!(
            !was_offline || (offline <= self.offline_max && !self.offline_max.is_zero()),
            "{}: {} times a live user was called offline, for {offline:?} at the longest",
            self.fault,
            seen.offline.count,
        );
    }
}

fn seconds(time: Duration) -> String {
    match time {
        Duration::ZERO => "0".into(),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("truth")
}
