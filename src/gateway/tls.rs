//! How the client listener speaks TLS.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use presenced_tls::certificates::Certificates;
use presenced_tls::rustls::server::{ClientHello, ResolvesServerCert};
use presenced_tls::rustls::sign::CertifiedKey;
use presenced_tls::{Handshake, HandshakeError, Server, rustls};

use crate::swap::Swap;

/// TLS of the client listener. Its certificates can be replaced; the keys of tickets stay, so clients that were here before
/// still come back without a full handshake.
pub struct Tls {
    server: Server,
    certificates: Arc<InForce>,
}

/// The certificates that a handshake begins with.
struct InForce(Swap<Arc<Certificates>>);

impl Tls {
    /// TLS with these certificates.
    ///
    /// # Errors
    ///
    /// If there is no randomness for the keys of tickets.
    pub fn new(certificates: Arc<Certificates>) -> Result<Tls, rustls::Error> {
        let certificates = Arc::new(InForce(Swap::new(certificates)));
        Ok(Tls {
            server: Server::new(certificates.clone())?,
            certificates,
        })
    }

    /// The handshake of a new connection. It shows the certificates that are in force when the client has said hello.
    ///
    /// # Errors
    ///
    /// If rustls has none, which would be a fault of ours.
    pub fn handshake(&self) -> Result<Handshake, HandshakeError> {
        self.server.handshake()
    }

    /// Handshakes show these certificates from now on. Connections that are open go on.
    pub fn show(&self, certificates: Arc<Certificates>) {
        self.certificates.0.set(certificates);
    }

    /// When the first of the certificates that are in force expires, since the Unix epoch.
    pub fn expires_at(&self) -> Duration {
        self.certificates.0.get().expires_at()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("certificates", &self.certificates)
            .finish_non_exhaustive()
    }
}

impl ResolvesServerCert for InForce {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.get().resolve(hello)
    }
}

impl fmt::Debug for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.get().fmt(f)
    }
}
