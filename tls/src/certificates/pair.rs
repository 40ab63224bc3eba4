//! A certificate chain with its private key.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::SignatureAlgorithm;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::{CertifiedKey, SigningKey};

use super::key;
use super::pair_error::PairError;
use super::x509::Facts;

/// A certificate chain with its private key, which fit each other.
#[derive(Clone)]
pub struct Pair {
    certified_key: Arc<CertifiedKey>,
    names: Vec<String>,
    valid_from: Duration,
    expires_at: Duration,
}

impl Pair {
    /// Reads a chain of certificates, the server's first, and the private key of that one: PKCS#8, SEC1 or
    /// PKCS#1. Both may be the same file. `now` is the time since the Unix epoch.
    ///
    /// A key may be RSA of 2048 to 8192 bits, ECDSA with P-256 or P-384, or Ed25519; the last serves clients of
    /// TLS 1.3 alone.
    ///
    /// # Errors
    ///
    /// If clients could not use them, and why.
    pub fn read(certificate_pem: &[u8], key_pem: &[u8], now: Duration) -> Result<Pair, PairError> {
        let (chain, facts) = read_chain(certificate_pem)?;
        let Some((server, authorities)) = facts.split_first() else {
            return Err(PairError::NoCertificate);
        };
        let key = key::read(key_pem)?;
        check_key(&*key, server, authorities)?;
        check_server(server, now)?;
        for (place, authority) in authorities.iter().enumerate() {
            check_chain(authority, place + 2, now)?;
        }
        let expiries = authorities.iter().map(|authority| authority.expires_at);
        Ok(Pair {
            certified_key: Arc::new(CertifiedKey::new(chain, key)),
            names: server.names.clone(),
            valid_from: server.valid_from,
            expires_at: expiries.fold(server.expires_at, Duration::min),
        })
    }

    /// The hosts that it is for, in lower case: DNS names, of which some may be wildcards such as
    /// `*.example.com`, and IP addresses.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The first second of the certificate, since the Unix epoch.
    #[must_use]
    pub fn valid_from(&self) -> Duration {
        self.valid_from
    }

    /// The last second of the certificate or of one of its chain, whichever expires first. It is the time
    /// since the Unix epoch.
    #[must_use]
    pub fn expires_at(&self) -> Duration {
        self.expires_at
    }

    /// Whether its key is RSA: a handshake then costs a multiple of what it costs with ECDSA or Ed25519.
    #[must_use]
    pub fn is_rsa(&self) -> bool {
        self.certified_key.key.algorithm() == SignatureAlgorithm::RSA
    }

    pub(super) fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.certified_key
    }
}

/// Never shows the key.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair")
            .field("names", &self.names)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

fn read_chain(pem: &[u8]) -> Result<(Vec<CertificateDer<'static>>, Vec<Facts>), PairError> {
    let mut chain = Vec::new();
    let mut facts = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| PairError::BrokenCertificate)?;
        let number = chain.len() + 1;
        let unreadable = |_| PairError::UnreadableCertificate { number };
        facts.push(Facts::read(&certificate).map_err(unreadable)?);
        chain.push(certificate);
    }
    Ok((chain, facts))
}

fn check_key(key: &dyn SigningKey, server: &Facts, authorities: &[Facts]) -> Result<(), PairError> {
    let Some(public_key) = key.public_key() else {
        return Err(PairError::UnusableKey);
    };
    let is_of = |facts: &Facts| facts.public_key == public_key.as_ref();
    if is_of(server) {
        return Ok(());
    }
    if let Some(place) = authorities.iter().position(is_of) {
        return Err(PairError::WrongOrder { number: place + 2 });
    }
    // The certificate is the wrong one, whatever the key may be.
    if server.is_authority {
        return Err(PairError::OfAuthority);
    }
    Err(PairError::OtherKey)
}

fn check_server(server: &Facts, now: Duration) -> Result<(), PairError> {
    if server.is_authority {
        return Err(PairError::OfAuthority);
    }
    if !server.is_for_servers {
        return Err(PairError::NotForServers);
    }
    if server.names.is_empty() {
        return Err(PairError::NoNames);
    }
    let (from, at) = (server.valid_from, server.expires_at);
    if now > at {
        return Err(PairError::Expired { at });
    }
    if now < from {
        return Err(PairError::NotValidYet { from });
    }
    Ok(())
}

fn check_chain(authority: &Facts, number: usize, now: Duration) -> Result<(), PairError> {
    let (from, at) = (authority.valid_from, authority.expires_at);
    if now > at {
        return Err(PairError::ExpiredInChain { number, at });
    }
    if now < from {
        return Err(PairError::NotValidYetInChain { number, from });
    }
    Ok(())
}
