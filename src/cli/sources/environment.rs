//! Settings in the environment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::super::Notice;
use super::super::nearest::nearest;

/// The variable of the tokens' secret, which has neither a flag nor a key: it would show in the list of
/// processes, or in a file that is no secret.
pub(super) const SECRET: &str = "PRESENCED_JWT_SECRET";

const PREFIX: &str = "PRESENCED_";

/// Variables of this program.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// Those among `variables` that are named after this program. One that is empty is as one that is not set, as
    /// scripts and units often have no other way to say so.
    ///
    /// The secret alone is taken as it is: without one the server serves this machine in dev mode, which nobody
    /// wants who meant to give one.
    pub(super) fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Environment {
        let ours = variables.into_iter().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            let is_ours = name.starts_with(PREFIX) && (name == SECRET || !value.is_empty());
            is_ours.then_some((name, value))
        });
        Environment(ours.collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(name).map(OsString::as_os_str)
    }

    /// A warning of each variable that is none of the `known`.
    pub(super) fn strangers(&self, known: &[String]) -> Vec<Notice> {
        let is_known = |name: &String| name == SECRET || known.contains(name);
        let strange = self.0.iter().filter(|(name, _)| !is_known(name));
        let strange = strange.filter(|(name, value)| !is_of_service(name, value));
        let warning = |name: &str| {
            let stem = |name: &'_ str| name.len().min(PREFIX.len());
            let known = known.iter().map(|known| &known[stem(known)..]);
            let meant = nearest(
                &name[PREFIX.len()..],
                known.chain([&SECRET[PREFIX.len()..]]),
            );
            let meant = meant.map(|meant| format!("; did you mean {PREFIX}{meant}?"));
            let meant = meant.unwrap_or_default();
            Notice::Warning(format!(
                "the environment has {name}, which is no setting{meant}"
            ))
        };
        strange.map(|(name, _)| warning(name)).collect()
    }
}

/// Whether Kubernetes, or Docker's links, set the variable for a service that is called like this program:
/// `PRESENCED_SERVICE_HOST`, `PRESENCED_PORT=tcp://10.0.0.1:80`, `PRESENCED_PORT_80_TCP_ADDR`, and the same of
/// a service `presenced-admin`.
fn is_of_service(name: &str, value: &OsStr) -> bool {
    let is_of_port = |(_, port): (&str, &str)| port.starts_with(|char: char| char.is_ascii_digit());
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.split_once("_PORT_").is_some_and(is_of_port)
        || name.ends_with("_PORT") && value.to_string_lossy().contains("://")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let variables = variables.iter().copied();
        Environment::new(variables.map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn what_is_empty_is_not_set_but_for_the_secret() {
        let read = environment(&[
            ("PRESENCED_TTL", ""),
            ("PRESENCED_DRAIN", "1s"),
            (SECRET, ""),
            ("OTHER", "x"),
        ]);
        assert_eq!(read.get("PRESENCED_TTL"), None);
        assert_eq!(read.get("PRESENCED_DRAIN"), Some("1s".as_ref()));
        assert_eq!(read.get(SECRET), Some("".as_ref()));
        assert_eq!(read.get("OTHER"), None);
    }

    #[test]
    fn a_variable_that_is_no_setting_is_named_with_the_one_that_was_meant() {
        let known = ["PRESENCED_TTL".to_owned(), "PRESENCED_LISTEN".to_owned()];
        let strangers = |variables: &[(&str, &str)]| {
            let notices = environment(variables).strangers(&known);
            let texts = notices.iter().map(Notice::text);
            texts.collect::<Vec<_>>().join("\n")
        };
        let slip = strangers(&[("PRESENCED_TLL", "60s"), ("PRESENCED_TTL", "60s")]);
        assert_eq!(
            slip,
            "the environment has PRESENCED_TLL, which is no setting; did you mean PRESENCED_TTL?"
        );
        let secret = strangers(&[("PRESENCED_JWT_SECRETS", "s3cret")]);
        assert!(
            secret.ends_with("did you mean PRESENCED_JWT_SECRET?"),
            "{secret}"
        );
        let other = strangers(&[("PRESENCED_COLOUR", "red"), ("PRESENCED_", "x")]);
        assert!(
            !other.contains("mean") && other.lines().count() == 2,
            "{other}"
        );
        assert!(
            other.contains("PRESENCED_COLOUR, which is no setting"),
            "{other}"
        );
        assert!(!other.contains("red"), "a value may be a secret: {other}");
        // Kubernetes sets these for a service of this name, and for one whose name begins with it.
        let of_services = strangers(&[
            ("PRESENCED_SERVICE_HOST", "10.0.0.1"),
            ("PRESENCED_SERVICE_PORT", "80"),
            ("PRESENCED_SERVICE_PORT_HTTP", "80"),
            ("PRESENCED_PORT", "tcp://10.0.0.1:80"),
            ("PRESENCED_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("PRESENCED_PORT_80_TCP_PROTO", "tcp"),
            ("PRESENCED_ADMIN_PORT_9180_TCP_ADDR", "10.0.0.1"),
        ]);
        assert_eq!(of_services, "");
        assert!(strangers(&[("PRESENCED_PORT", "80")]).contains("PRESENCED_PORT"));
    }
}
