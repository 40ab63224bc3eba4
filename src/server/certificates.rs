//! Says once a day which certificates are about to expire, and which have.

use std::time::Duration;

use presenced_session::clock::Clock;
use presenced_tasks::{Task, keep_up};
use presenced_tls::certificates::{Pair, utc};
use tokio::time::sleep;

use crate::gateway::tls::{Tls, expires_soon_from};
use crate::limits::CERTIFICATES_INTERVAL;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Follows the certificates that are in force, for ever. What was to be said before has been said: when settings are put to
/// use, they are warned of as well.
pub(super) async fn follow(tls: Tls, clock: Clock) {
    keep_up(Task::Certificates, || remind_again(&tls, clock)).await;
}

async fn remind_again(tls: &Tls, clock: Clock) {
    let unix_time = || Duration::from_millis(clock.unix_ms());
    let mut before = unix_time();
    loop {
        sleep(CERTIFICATES_INTERVAL).await;
        let now = unix_time();
        let certificates = tls.certificates();
        let due = certificates.pairs().iter();
        due.filter(|pair| is_due(pair, before, now))
            .for_each(|pair| remind(pair, now));
        before = now;
    }
}

/// Whether a certificate has come to its end between `before` and `now`, or another day has begun since it was to be renewed.
fn is_due(pair: &Pair, before: Duration, now: Duration) -> bool {
    let from = expires_soon_from(pair);
    let days = |at: Duration| Some(at.checked_sub(from)?.as_secs() / DAY.as_secs());
    days(now) > days(before) || has_expired(pair, now) && !has_expired(pair, before)
}

fn has_expired(pair: &Pair, now: Duration) -> bool {
    now > pair.expires_at()
}

fn remind(pair: &Pair, now: Duration) {
    // It may have hundreds of them.
    let (name, names) = (pair.names().first(), pair.names().len());
    let at = utc(pair.expires_at());
    match has_expired(pair, now) {
        true => tracing::error!(
            name,
            names,
            "a certificate has expired, on {at}, and clients refuse it; put a new one into the files of --tls-cert and \
             --tls-key"
        ),
        false => tracing::warn!(
            name,
            names,
            "a certificate expires on {at}; renew it before: --tls-cert"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::atomic::AtomicU64;
    use std::sync::{Arc, Mutex};

    use presenced_tasks::{fail, panics};
    use presenced_tls::testing;
    use tokio::task::yield_now;
    use tokio::time::advance;
    use tracing_subscriber::fmt::layer;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::registry;

    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    #[test]
    fn it_is_due_each_day_from_two_weeks_before_the_end_on() {
        let certificates = testing::certificates();
        let pair = &certificates.pairs()[0];
        let (end, second) = (pair.expires_at(), Duration::from_secs(1));
        let due = |before: Duration, now: Duration| is_due(pair, before, now);
        let from = end - 14 * DAY;
        assert!(!due(Duration::ZERO, from - second));
        assert!(due(from - second, from));
        assert!(!due(from, from + DAY - second));
        assert!(due(from + DAY - second, from + DAY));
        // Its last second is still good.
        assert!(due(end - second, end));
        assert!(due(end, end + second));
        assert!(!due(end + second, end + DAY - second));
        assert!(due(end + DAY - second, end + DAY));
        // However much time has passed, once; and not for a clock that was set back.
        assert!(due(Duration::ZERO, end + 100 * DAY));
        assert!(!due(end - DAY, end - 2 * DAY));
    }

    /// Lines of the log.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        /// Those that have come since the last call.
        fn take(&self) -> Vec<String> {
            let bytes = std::mem::take(&mut *self.0.lock().unwrap());
            let text = String::from_utf8(bytes).unwrap();
            text.lines().map(str::to_owned).collect()
        }
    }

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    async fn pass(time: Duration) {
        let until = tokio::time::Instant::now() + time;
        while tokio::time::Instant::now() < until {
            advance(CERTIFICATES_INTERVAL).await;
            yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn certificates_in_force_are_reminded_of_daily_and_when_they_have_expired() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = layer().with_ansi(false).with_writer(move || writer.clone());
        let _log = tracing::subscriber::set_default(registry().with(layer));
        let certificates = testing::certificates();
        let end = certificates.expires_at();
        let tls = Tls::new(certificates).unwrap();
        // 15 days and an hour before, and not at a whole minute.
        let start = end - 15 * DAY - HOUR + CERTIFICATES_INTERVAL / 2;
        let start_ms = AtomicU64::new(start.as_millis() as u64);
        let clock = Clock::simulated(Box::leak(Box::new(start_ms)));
        // A panic costs no line but those of its moment.
        fail::arm(Task::Certificates, 1);
        tokio::spawn(follow(tls, clock));
        pass(DAY).await;
        assert_eq!(panics(Task::Certificates), 1);
        let said = lines.take();
        assert!(
            said.iter().all(|line| line.contains("caught a panic")),
            "{said:?}"
        );
        // One has an ECDSA key, the other an RSA key; they expire at the same time.
        for day in 0..14 {
            pass(DAY).await;
            let said = lines.take();
            assert_eq!(said.len(), 2, "{day}: {said:?}");
            for line in said {
                assert!(line.contains("WARN") && line.contains("same.example"));
                assert!(line.contains(&format!("expires on {}", utc(end))), "{line}");
            }
        }
        pass(DAY).await;
        let said = lines.take();
        assert_eq!(said.len(), 2, "{said:?}");
        let is_error = |line: &String| line.contains("ERROR") && line.contains("has expired, on");
        assert!(said.iter().all(is_error), "{said:?}");
    }
}
