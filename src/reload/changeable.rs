//! Which settings can change while the server runs: the one place that says so.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

/// What it takes to change a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// That it is read again.
    Reload,
    /// The same, but for entering and leaving dev mode: a server that was started without a key stays without, and
    /// one with a key keeps having some.
    ReloadOfTokens,
    /// The same, but for turning TLS on or off.
    ReloadOfTls,
    /// That its file changes. Another file takes a restart.
    Content,
    /// A restart.
    Restart,
}

/// The settings that can change; all others take a restart.
const CHANGEABLE: &[(&str, Change)] = &[
    ("config", Change::Content),
    ("admin-token-file", Change::Reload),
    ("serve-health", Change::Reload),
    ("tls-cert", Change::ReloadOfTls),
    ("tls-key", Change::ReloadOfTls),
    // These two have readers of their own, which look into them again and again.
    ("memcached-file", Change::Content),
    ("memcached-auth-file", Change::Content),
    ("jwt-secret-file", Change::ReloadOfTokens),
    ("jwt-key-file", Change::ReloadOfTokens),
    ("jwt-jwks-url", Change::ReloadOfTokens),
    ("jwt-jwks-ca", Change::ReloadOfTokens),
    ("jwt-audience", Change::ReloadOfTokens),
    ("allow-any-audience", Change::ReloadOfTokens),
    ("jwt-issuer", Change::ReloadOfTokens),
    ("require-scope", Change::ReloadOfTokens),
    ("jwt-max-lifetime", Change::ReloadOfTokens),
    ("jwt-leeway", Change::ReloadOfTokens),
    ("max-token", Change::ReloadOfTokens),
    ("user-claim", Change::ReloadOfTokens),
    ("allow-query-token", Change::ReloadOfTokens),
    ("allow-origin", Change::Reload),
    ("refuse-with", Change::Reload),
    ("max-head", Change::Reload),
    ("max-handshakes-per-second", Change::Reload),
    ("max-handshakes-per-second-per-address", Change::Reload),
    ("max-handshakes-per-second-per-user", Change::Reload),
    ("max-pull-users-per-second", Change::Reload),
    ("http-keep-alive", Change::Reload),
    ("log-level", Change::Reload),
];

/// What it takes to change the setting of a flag, which is named without hyphens.
pub fn change(name: &str) -> Change {
    let mut known = CHANGEABLE.iter();
    let found = known.find(|(known, _)| *known == name);
    found.map_or(Change::Restart, |(_, change)| *change)
}

/// The settings that can change, by the names of their flags without hyphens.
pub fn changeable() -> impl Iterator<Item = &'static str> {
    CHANGEABLE.iter().map(|(name, _)| *name)
}
