//! Which of the known names was meant.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

/// How alike two names must be (Jaro, 0 to 1), so that one is a slip of the other.
const ALIKE: f64 = 0.7;

/// Longest name that is compared: what is longer is no slip of any name.
const NAME_BYTES_MAX: usize = 100;

/// The known name that is most like `name`, if one is alike at all.
pub(super) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let rated = known.map(|known| (strsim::jaro(name, known), known));
    let alike = rated.filter(|(likeness, _)| *likeness > ALIKE);
    let best = alike.max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_known_and_another_word_is_not() {
        let known = || ["ttl", "ping-interval", "ping-timeout", "listen"].into_iter();
        for (name, meant) in [
            ("tll", Some("ttl")),
            ("ping_interval", Some("ping-interval")),
            ("ping-time-out", Some("ping-timeout")),
            ("Listen", Some("listen")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, known()), meant, "{name}");
        }
        assert_eq!(nearest(&"ttl".repeat(1000), known()), None);
    }
}
