//! Which certificate a server shows.
//!
//! - `pair`: a certificate chain with its private key, each of which is checked when it is read.
//! - `pair_error`: what can be wrong with them, and in which of the two files.
//! - `x509`: what is read of a certificate.
//! - `key`: the private key.
//! - `by_name`: what belongs to the name that a client asks for.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod by_name;
mod key;
mod pair;
mod pair_error;
mod x509;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use self::by_name::ByName;
pub use self::pair::Pair;
pub use self::pair_error::{PairError, PairFile, utc};

/// The certificates of a server, of which each client is shown one.
///
/// A client says which host it wants (SNI). It gets a certificate that has exactly this name; if there is
/// none, one that has it by a wildcard; if there is none either, or if the client names no host, the first
/// of all. Of several for one name it gets the first whose key it can use: a host may have an ECDSA
/// certificate, and an RSA one for old clients.
pub struct Certificates {
    by_name: ByName<Choice>,
    any: Choice,
    pairs: Vec<Pair>,
    expires_at: Duration,
}

impl Certificates {
    /// Shows the certificates of `pairs`, the first of which is for clients that name no host. Returns
    /// `None` if there are no pairs.
    #[must_use]
    pub fn new(pairs: &[Pair]) -> Option<Certificates> {
        let expires_at = pairs.iter().map(Pair::expires_at).min()?;
        let mut by_name = ByName::<Choice>::default();
        let mut any = Choice::default();
        for pair in pairs {
            for name in pair.names() {
                by_name.entry(name).add(pair);
            }
            any.add(pair);
        }
        Some(Certificates {
            by_name,
            any,
            pairs: pairs.to_vec(),
            expires_at,
        })
    }

    /// The pairs that they were made of, in the same order.
    #[must_use]
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// When the first of all these certificates expires, since the Unix epoch.
    #[must_use]
    pub fn expires_at(&self) -> Duration {
        self.expires_at
    }

    fn choose(&self, name: Option<&str>, usable: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let named = || {
            let choices = name.into_iter().flat_map(|name| self.by_name.find(name));
            choices.flat_map(|choice| &choice.0)
        };
        if let Some(first) = named().next() {
            let best = named().find(|key| can_use(key, usable));
            // What the client can't use lets the handshake fail with the right alert.
            return Some(best.unwrap_or(first).clone());
        }
        let all = &self.any.0;
        let best = all.iter().find(|key| can_use(key, usable));
        best.or(all.first()).cloned()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}

/// Never shows a key.
impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Certificates of which each serves as well, in the order in which they were given. There are at most as
/// many as there are kinds of keys, so that a choice takes no longer with many pairs.
#[derive(Default)]
struct Choice(Vec<Arc<CertifiedKey>>);

impl Choice {
    fn add(&mut self, pair: &Pair) {
        let key = pair.certified_key();
        if !self.0.iter().any(|earlier| same_kind(earlier, key)) {
            self.0.push(key.clone());
        }
    }
}

/// Whether every client that can use one of them can use the other.
fn same_kind(one: &CertifiedKey, other: &CertifiedKey) -> bool {
    key::SCHEMES
        .iter()
        .all(|&scheme| can_use(one, &[scheme]) == can_use(other, &[scheme]))
}

fn can_use(key: &CertifiedKey, usable: &[SignatureScheme]) -> bool {
    key.key.choose_scheme(usable).is_some()
}
