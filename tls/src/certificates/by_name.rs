//! What belongs to the name that a client asks for.

use std::borrow::Cow;
use std::collections::HashMap;

/// Values by the names of certificates, wildcards among them: `*.example.com` stands for
/// `a.example.com`, but for neither `example.com` nor `a.b.example.com` (RFC 6125, 6.4.3). Upper and lower
/// case are the same.
#[derive(Debug)]
pub(super) struct ByName<T> {
    exact: HashMap<String, T>,
    /// By what follows `*.`.
    wildcard: HashMap<String, T>,
}

impl<T> Default for ByName<T> {
    fn default() -> ByName<T> {
        ByName {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
        }
    }
}

impl<T: Default> ByName<T> {
    /// The value of a certificate's name, a new one if it has none.
    pub(super) fn entry(&mut self, name: &str) -> &mut T {
        let name = name.to_ascii_lowercase();
        match name.strip_prefix("*.") {
            Some(parent) => self.wildcard.entry(parent.to_owned()).or_default(),
            None => self.exact.entry(name).or_default(),
        }
    }

    /// The values for a host: that of exactly this name, then that of a wildcard.
    pub(super) fn find(&self, host: &str) -> impl Iterator<Item = &T> {
        let host = lower_case(host);
        let exact = self.exact.get(host.as_ref());
        let wildcard = match host.split_once('.') {
            Some((label, parent)) if !label.is_empty() => self.wildcard.get(parent),
            _ => None,
        };
        exact.into_iter().chain(wildcard)
    }
}

fn lower_case(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(host.to_ascii_lowercase());
    }
    Cow::Borrowed(host)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::ByName;

    fn found(names: &[&str], host: &str) -> Vec<String> {
        let mut by_name = ByName::<Vec<String>>::default();
        for &name in names {
            by_name.entry(name).push(name.to_owned());
        }
        by_name.find(host).flatten().cloned().collect()
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        for (name, host, matches) in [
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "A.Example.COM", true),
            ("*.EXAMPLE.com", "a.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", ".example.com", false),
            ("*.example.com", "aexample.com", false),
            ("*.example.com", "a.example.org", false),
            ("*.example.com", "a.example.com.evil.org", false),
            ("a*.example.com", "ab.example.com", false),
            ("a.*.com", "a.b.com", false),
            ("*.com", "example.com", true),
            ("example.com", "example.com", true),
            ("example.com", "EXAMPLE.com", true),
            ("example.com", "a.example.com", false),
            ("example.com", "", false),
        ] {
            let expected: &[&str] = if matches { &[name] } else { &[] };
            assert_eq!(found(&[name], host), expected, "{name} and {host}");
        }
    }

    #[test]
    fn the_exact_name_comes_before_the_wildcard() {
        let names = ["*.example.com", "a.example.com"];
        assert_eq!(
            found(&names, "a.example.com"),
            ["a.example.com", "*.example.com"]
        );
        assert_eq!(found(&names, "b.example.com"), ["*.example.com"]);
    }

    /// The rule, label by label.
    fn naive(name: &str, host: &str) -> bool {
        let (name, host) = (name.to_ascii_lowercase(), host.to_ascii_lowercase());
        let (name, host): (Vec<_>, Vec<_>) = (name.split('.').collect(), host.split('.').collect());
        name.len() == host.len()
            && name
                .iter()
                .zip(&host)
                .enumerate()
                .all(|(at, (label, of_host))| {
                    label == of_host || at == 0 && *label == "*" && !of_host.is_empty()
                })
    }

    fn name_of(first: &'static str) -> impl Strategy<Value = String> {
        (first, vec("[abA]", 1..4)).prop_map(|(first, rest)| format!("{first}.{}", rest.join(".")))
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_a_look_at_every_name_finds(
            names in vec(name_of("[abA]|[*]"), 0..12),
            host in name_of("[abA]?"),
        ) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let mut expected: Vec<&str> =
                names.iter().copied().filter(|name| naive(name, &host)).collect();
            // The sort is stable: of several that serve as well, the first stays the first.
            expected.sort_by_key(|name| name.starts_with('*'));
            prop_assert_eq!(found(&names, &host), expected);
        }
    }
}
