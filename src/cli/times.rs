//! Times: how they are written, which go together, and what follows from them.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use presenced_memcached::limits::BACKOFF_MAX;

use super::{Flags, SettingsError};
use crate::limits::{HEADROOM_SPARE, MISS_CACHE, TTL};
use crate::server::Config;

/// A duration, shown as it was written.
#[derive(Clone, Debug)]
pub struct Time {
    /// How long.
    pub duration: Duration,
    written: String,
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl Time {
    /// Another duration in the unit of this one.
    pub(super) fn like(&self, other: Duration) -> String {
        in_unit_of(&self.written, other)
    }
}

/// A duration in the unit that was `written`, if that takes no more than three digits after the point.
fn in_unit_of(written: &str, duration: Duration) -> String {
    let mut words = written
        .trim_end()
        .rsplit(|char: char| !char.is_alphabetic());
    let unit = words.next().unwrap_or_default();
    let one = humantime::parse_duration(&format!("1{unit}")).unwrap_or_default();
    let thousandths = duration.as_nanos() * 1000;
    match thousandths.checked_rem(one.as_nanos()) {
        Some(0) => {
            let thousandths = thousandths / one.as_nanos();
            let fraction = format!("{:03}", thousandths % 1000);
            let number = format!("{}.{fraction}", thousandths / 1000);
            let number = number.trim_end_matches('0').trim_end_matches('.');
            format!("{number}{unit}")
        }
        _ => humantime::format_duration(duration).to_string(),
    }
}

/// The parser of a flag that is a duration in `range`.
pub(super) fn time(
    range: RangeInclusive<Duration>,
) -> impl Fn(&str) -> Result<Time, String> + Clone {
    move |text| {
        if let Some(duration) = parse(text)?.filter(|duration| range.contains(duration)) {
            let written = text.to_owned();
            return Ok(Time { duration, written });
        }
        let limits = [range.start(), range.end()].map(|limit| in_unit_of(text, *limit));
        Err(format!("must be from {} to {}", limits[0], limits[1]))
    }
}

/// A duration as it is written; `None` if it is one that nothing can last: negative, or out of all bounds.
fn parse(text: &str) -> Result<Option<Duration>, &'static str> {
    let text = text.trim_start();
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(unsigned) => (-1, unsigned),
        None => (1, text),
    };
    match humantime::parse_duration(unsigned) {
        Ok(duration) => Ok(Some(duration).filter(|_| sign > 0)),
        Err(humantime::DurationError::NumberOverflow) if has_unit(unsigned) => Ok(None),
        Err(_) => Err("expected a number and a unit, such as 25s or 500ms"),
    }
}

fn has_unit(text: &str) -> bool {
    text.trim_end().ends_with(char::is_alphabetic)
}

impl Flags {
    /// Checks times that must go together; each alone is in its range.
    pub(super) fn check_times(&self) -> Result<(), SettingsError> {
        self.check_ttl()?;
        let (coalesce, timeout) = (&self.heartbeats.coalesce, &self.heartbeats.ping_timeout);
        if 2 * coalesce.duration > timeout.duration {
            refuse!(
                "--coalesce {coalesce} must be at most half of --ping-timeout {timeout}: \
                 pongs wait that long before they are read"
            );
        }
        if timeout.duration >= self.heartbeats.ping_interval.duration {
            refuse!(
                "--ping-timeout {timeout} must be less than --ping-interval {}: \
                 a ping is answered or missed before the next",
                self.heartbeats.ping_interval
            );
        }
        let heartbeats = &self.heartbeats;
        let round = heartbeats.ping_interval.duration + timeout.duration;
        let needed = round + 2 * heartbeats.flush_interval.duration + HEADROOM_SPARE;
        if heartbeats.ttl.duration < needed {
            refuse!(
                "--ttl {} must be at least --ping-interval {} + --ping-timeout {timeout} + \
                 2 × --flush-interval {} + {} = {}: a user who answers each ping must stay online \
                 through one failed flush, and others must learn of a longer one in time",
                heartbeats.ttl,
                heartbeats.ping_interval,
                heartbeats.flush_interval,
                humantime::format_duration(HEADROOM_SPARE),
                heartbeats.ttl.like(needed)
            );
        }
        Ok(())
    }

    /// How much sooner than needed a heartbeat is written when all is well.
    pub(super) fn headroom(&self) -> Duration {
        let heartbeats = &self.heartbeats;
        let used = [
            &heartbeats.ping_interval,
            &heartbeats.ping_timeout,
            &heartbeats.flush_interval,
        ];
        let used = used.iter().map(|time| time.duration).sum();
        heartbeats.ttl.duration.saturating_sub(used)
    }

    /// What memcached takes for a TTL.
    fn check_ttl(&self) -> Result<(), SettingsError> {
        let (ttl, drain) = (&self.heartbeats.ttl, &self.limits.drain);
        if ttl.duration.subsec_nanos() != 0 {
            refuse!("--ttl {ttl}: memcached counts whole seconds");
        }
        // While the server drains, entries are written with a TTL longer by the drain time.
        if ttl.duration + drain.duration > *TTL.end() {
            refuse!(
                "--ttl {ttl} and --drain {drain}: must be at most {} together, \
                 as memcached takes a longer TTL for a date",
                ttl.like(*TTL.end())
            );
        }
        Ok(())
    }
}

/// What settings promise, for people.
#[derive(Clone, Debug)]
pub struct Promises {
    /// When users are seen online.
    pub online: String,
    /// When users are seen offline.
    pub offline: String,
    /// How much the TTL has to spare.
    pub headroom: String,
}

impl fmt::Display for Promises {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "online   {}", self.online)?;
        writeln!(f, "offline  {}", self.offline)?;
        write!(f, "headroom {}", self.headroom)
    }
}

/// What settings promise.
pub fn promises(config: &Config) -> Promises {
    let (session, marker) = (&config.session, &config.memcached.marker);
    let ttl = marker.entry_ttl;
    let show = humantime::format_duration;
    // The last heartbeat that was written may be as old as one round of pings and the flush
    // before which the user left: what is pending of a user who has left is not written.
    let round = session.ping_interval + session.ping_timeout;
    let soonest = ttl - round - marker.flush_interval - Duration::from_secs(1);
    let spare = ttl - round - marker.flush_interval;
    let cache = config.pull.cache;
    // Whoever has just asked may be answered from that look-up.
    let cached = match cache.min(MISS_CACHE) {
        Duration::ZERO => String::new(),
        misses => format!(" (to others within {})", show(misses)),
    };
    Promises {
        online: format!(
            "at once on connect{}; if memcached fails just then, within {} of its return",
            cached,
            show(marker.flush_interval + BACKOFF_MAX),
        ),
        offline: format!(
            "between {} and {} after leaving; if a client just vanishes, {} after its last frame",
            show(soonest),
            show(ttl + cache),
            show(ttl + cache + marker.flush_interval),
        ),
        headroom: format!(
            "{} of the TTL of {} when a user is slowest to answer; {} when all answer at once",
            show(spare),
            show(ttl),
            show(spare + session.ping_timeout),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_in_the_unit_that_was_written() {
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        let parse = time(ms(100)..=s(30 * 86_400));
        for (text, limits) in [
            ("0s", "0.1s to 2592000s"),
            ("-5s", "0.1s to 2592000s"),
            ("- 1.5 m", "100ms to 43200m"),
            ("99999999999999999999s", "0.1s to 2592000s"),
            ("-99999999999999999999s", "0.1s to 2592000s"),
            ("0.0000000001 s", "0.1s to 2592000s"),
            ("99ms", "100ms to 2592000000ms"),
            ("2592001s", "0.1s to 2592000s"),
            ("721h", "100ms to 720h"),
            ("720h 1m", "100ms to 43200m"),
            ("31days", "100ms to 30days"),
            ("31 d", "100ms to 30d"),
            // 30 days are no whole number of these.
            ("100years", "100ms to 30days"),
            ("5weeks", "100ms to 30days"),
        ] {
            let refused = parse(text).unwrap_err();
            assert_eq!(refused, format!("must be from {limits}"), "{text}");
        }
        // What a limit is shown as can be given.
        for text in ["100ms", "0.1s", "1m 30s", "30days", "720h"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        for text in [
            "25",
            "-25",
            "",
            "-",
            "--5s",
            "-s",
            "s",
            "5 q",
            "99999999999999999999",
        ] {
            let refused = parse(text).unwrap_err();
            assert!(refused.contains("25s or 500ms"), "{text}: {refused}");
        }
        assert_eq!(
            time(s(0)..=s(3600))("2h").unwrap_err(),
            "must be from 0h to 1h"
        );
    }
}
