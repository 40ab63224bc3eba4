//! Times: how they are written, which go together, and what follows from them.

use std::time::Duration;

use super::{Flags, SettingsError};
use crate::server::Config;
use presenced_memcached::limits::MEMCACHED_BACKOFF_MAX;
use presenced_session::limits::PING_INTERVAL_MAX;

impl Flags {
    pub(super) fn check_times(&self) -> Result<(), SettingsError> {
        let show = humantime::format_duration;
        let s = Duration::from_secs;
        let bounds = [
            // memcached takes a longer TTL for a date (protocol.txt, "Expiration times").
            ("--ttl", self.ttl, s(1), s(30 * 86_400)),
            (
                "--flush-interval",
                self.flush_interval,
                Duration::from_millis(100),
                s(3600),
            ),
            (
                "--ping-interval",
                self.ping_interval,
                Duration::from_millis(200),
                PING_INTERVAL_MAX,
            ),
            (
                "--ping-timeout",
                self.ping_timeout,
                Duration::from_millis(100),
                PING_INTERVAL_MAX,
            ),
            (
                "--coalesce",
                self.coalesce,
                Duration::ZERO,
                Duration::from_millis(100),
            ),
            (
                "--jwt-max-lifetime",
                self.jwt_max_lifetime,
                s(1),
                s(10 * 365 * 86_400),
            ),
            ("--drain", self.drain, Duration::ZERO, s(3600)),
        ];
        for (flag, value, least, most) in bounds {
            check_range(flag, value, least, most)?;
        }
        if self.ttl.subsec_nanos() != 0 {
            refuse!("--ttl {}: memcached counts whole seconds", show(self.ttl));
        }
        // While it drains everything is written with a TTL that is longer by the drain time.
        if self.ttl + self.drain > s(30 * 86_400) {
            refuse!(
                "--ttl {} and --drain {}: must be at most 30days together, \
                 as memcached takes a longer TTL for a date",
                show(self.ttl),
                show(self.drain)
            );
        }
        if 2 * self.coalesce > self.ping_timeout {
            refuse!(
                "--coalesce {} must be at most half of --ping-timeout {}: \
                 pongs wait that long before they are read",
                show(self.coalesce),
                show(self.ping_timeout)
            );
        }
        if self.ping_timeout >= self.ping_interval {
            refuse!(
                "--ping-timeout {} must be less than --ping-interval {}: \
                 a ping is answered or missed before the next",
                show(self.ping_timeout),
                show(self.ping_interval)
            );
        }
        let needed = self.ping_interval + self.ping_timeout + 2 * self.flush_interval + s(1);
        if self.ttl < needed {
            refuse!(
                "--ttl {} must be at least --ping-interval {} + --ping-timeout {} + \
                 2 × --flush-interval {} + 1s = {}: a user who answers each ping must stay online \
                 through one failed flush, and memcached is exact to a second",
                show(self.ttl),
                show(self.ping_interval),
                show(self.ping_timeout),
                show(self.flush_interval),
                show(needed)
            );
        }
        Ok(())
    }
}

/// What settings promise, for people: when users are seen online and offline, and how much the TTL has to
/// spare.
pub fn promises(config: &Config) -> String {
    let (session, presence) = (&config.session, &config.presence);
    let ttl = Duration::from_secs(presence.ttl_s.into());
    let show = humantime::format_duration;
    // The last heartbeat that was written may be as old as one round of pings and the flush
    // before which the user left: what is pending of a user who has left is not written.
    let round = session.ping_interval + session.ping_timeout;
    let soonest = ttl - round - presence.flush_interval - Duration::from_secs(1);
    let spare = ttl - round - presence.flush_interval;
    format!(
        "online   at once on connect; if memcached fails just then, within {} of its return\n\
         offline  between {} and {} after leaving; if a client just vanishes, {} after its last pong\n\
         headroom {} of the TTL of {} when a user is slowest to answer; {} when all answer at once",
        show(presence.flush_interval + MEMCACHED_BACKOFF_MAX),
        show(soonest),
        show(ttl),
        show(ttl + presence.flush_interval),
        show(spare),
        show(ttl),
        show(spare + session.ping_timeout),
    )
}

/// The parser of flags that are durations.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "expected a number and a unit, such as 25s or 500ms".into())
}

/// Refuses a `value` that is not from `least` to `most`.
pub(super) fn check_range(
    flag: &str,
    value: Duration,
    least: Duration,
    most: Duration,
) -> Result<(), SettingsError> {
    let show = humantime::format_duration;
    if value < least || value > most {
        refuse!(
            "{flag} {}: must be from {} to {}",
            show(value),
            show(least),
            show(most)
        );
    }
    Ok(())
}
