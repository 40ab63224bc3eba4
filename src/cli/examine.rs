//! `presenced check`: whether the server would work with its settings, as far as that shows without it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use presenced_memcached::discovery::Discovery;
use presenced_memcached::probe::visit::{Visit, visit};
use presenced_memcached::{ConnectOptions, Endpoint};
use presenced_tls::certificates::{Pair, utc};
use rustix::process::{Resource, getrlimit};

use super::finding::{Finding, fine, note, wrong};
use super::sources::Settings;
use super::sources::key::Kind;
use super::sources::origin::Origin;
use super::{Notice, promises, unix_time};
use crate::limits::CLOCK_DIFFERENCE;
use crate::server::Config;
use crate::tokens::IssuerConfig;

/// Looks at all that the server would need. The settings have been checked, with `notices`, and made `config`.
pub async fn examine(config: &Config, notices: &[Notice], from: &Settings) -> Vec<Finding> {
    let mut findings = vec![settings(from)];
    findings.extend(files(from));
    findings.extend(tls(config));
    findings.extend([tokens(config), open_files(config)]);
    findings.push(fine("promises", promises(config).headroom));
    findings.extend(notices.iter().map(|notice| match notice {
        Notice::Warning(text) | Notice::Hint(text) => note("settings", text.clone()),
    }));
    findings.extend(nodes(config).await);
    findings
}

fn settings(settings: &Settings) -> Finding {
    let count = |is_of: fn(&Origin) -> bool| {
        let origins = settings.all_entries().map(|entry| &entry.origin);
        origins.filter(|origin| is_of(origin)).count()
    };
    let text = format!(
        "{} by flags, {} by the environment, {} by the file; the others are as by default",
        count(|origin| matches!(origin, Origin::Flag)),
        count(|origin| matches!(origin, Origin::Environment(_))),
        count(|origin| matches!(origin, Origin::File(..))),
    );
    fine("settings", text)
}

/// Each file that settings name. It has been read, or they would have been refused.
fn files(settings: &Settings) -> impl Iterator<Item = Finding> {
    let entries = settings.all_entries();
    let of_files = entries.filter(|entry| entry.key.kind == Kind::Path);
    let named = of_files.flat_map(|entry| entry.values.iter().map(|file| (&entry.key.name, file)));
    named.map(|(name, file)| fine("file", format!("{name} {}: is read", file.display())))
}

/// What clients are shown, where they are to speak TLS.
fn tls(config: &Config) -> Option<Finding> {
    let certificates = config.gateway.tls.as_ref()?;
    let pairs = certificates.pairs();
    let names: BTreeSet<_> = pairs.iter().flat_map(Pair::names).collect();
    let names: Vec<_> = names.into_iter().map(String::as_str).collect();
    let text = format!(
        "{} for {}; the first to expire does so on {}",
        match pairs.len() {
            1 => "1 certificate".to_owned(),
            count => format!("{count} certificates"),
        },
        names.join(", "),
        utc(certificates.expires_at())
    );
    Some(fine("tls", text))
}

fn tokens(config: &Config) -> Finding {
    let tokens = &config.gateway.tokens;
    let text = match tokens.issuers.as_slice() {
        _ if !tokens.has_key() => {
            return note(
                "tokens",
                "no key: tokens for everyone on this machine, and on no other".into(),
            );
        }
        [issuer] => keys(issuer),
        issuers => {
            let each = issuers.iter().map(|issuer| {
                let name = issuer.name.as_deref().unwrap_or_default();
                format!("{name:?} ({})", keys(issuer))
            });
            format!(
                "{} issuers: {}",
                issuers.len(),
                each.collect::<Vec<_>>().join(", ")
            )
        }
    };
    fine("tokens", text)
}

/// The keys of an issuer, which can be some, or would have been refused.
fn keys(issuer: &IssuerConfig) -> String {
    let keys = match issuer.keys.len() {
        0 => None,
        1 => Some("1 key".to_owned()),
        count => Some(format!("{count} keys")),
    };
    let source = issuer.source.as_ref();
    let source = source.map(|source| format!("keys are fetched from {}", source.name()));
    keys.into_iter()
        .chain(source)
        .collect::<Vec<_>>()
        .join(", and ")
}

/// The settings have been refused already if they need more.
fn open_files(config: &Config) -> Finding {
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.map_or("any number".into(), |limit| limit.to_string());
    let text = format!(
        "{limit} may be open, enough for {} sessions and {} HTTP connections",
        config.sessions_max, config.gateway.capacity.room.max,
    );
    fine("open files", text)
}

/// Each node, asked at the same time as the others.
async fn nodes(config: &Config) -> Vec<Finding> {
    let memcached = &config.memcached;
    if memcached.nodes.nodes.is_empty() && memcached.nodes.file.is_none() {
        let store = format!("embedded, on {}", config.store.listen);
        return vec![fine("store", store)];
    }
    let resolver = memcached.connect.network.resolver.clone();
    let mut discovery = Discovery::new(memcached.nodes.clone(), resolver);
    let endpoints = discovery.first().await;
    let access = Arc::new(memcached.connect.clone());
    let asked = endpoints
        .into_iter()
        .map(|endpoint| node(endpoint, access.clone()));
    let asked = join_all(asked).await.into_iter().flatten();
    let failures = discovery.failures().counts().into_iter();
    let failures = failures.filter(|(_, count)| *count > 0);
    let unknown = failures.map(|(name, _)| wrong("name", format!("{name}: can't be resolved")));
    let mut findings: Vec<_> = unknown.chain(asked).collect();
    if findings.is_empty() {
        findings.push(wrong("memcached", "there is no node".into()));
    }
    findings
}

/// What a node says, and its clock if that is not ours.
async fn node(endpoint: Endpoint, access: Arc<ConnectOptions>) -> Vec<Finding> {
    let addr = endpoint.addr.clone();
    let asked_at = Instant::now();
    match visit(endpoint, access).await {
        Ok(Visit { version, time_s }) => {
            let time = asked_at.elapsed().as_millis();
            let node = fine("node", format!("{addr}: memcached {version}, in {time} ms"));
            let clock = time_s.and_then(|time_s| off(Duration::from_secs(time_s), unix_time()));
            let clock = clock.map(|off| wrong("clock", format!("{addr}: {off}")));
            std::iter::once(node).chain(clock).collect()
        }
        Err(error) => vec![wrong("node", format!("{addr}: {error}"))],
    }
}

/// What is said of a node's clock that shows another time than ours. Entries do not care; but tokens expire by our
/// clock, and whoever signs them has probably that of the nodes. memcached's is exact to a second or two.
fn off(theirs: Duration, ours: Duration) -> Option<String> {
    let apart = theirs.abs_diff(ours);
    let than = if theirs > ours { "behind" } else { "ahead of" };
    (apart > CLOCK_DIFFERENCE + CLOCK_EXACTNESS).then(|| {
        format!(
            "our clock is {} s {than} this node's: tokens would expire at other times than meant",
            apart.as_secs()
        )
    })
}

/// How exact the time is that memcached tells.
const CLOCK_EXACTNESS: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_told_in_which_direction() {
        let s = Duration::from_secs;
        assert_eq!(off(s(1000), s(1007)), None);
        assert_eq!(off(s(1007), s(1000)), None);
        let behind = off(s(1060), s(1000)).unwrap();
        assert!(
            behind.starts_with("our clock is 60 s behind this"),
            "{behind}"
        );
        let ahead = off(s(1000), s(1060)).unwrap();
        assert!(
            ahead.starts_with("our clock is 60 s ahead of this"),
            "{ahead}"
        );
    }
}
