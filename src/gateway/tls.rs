//! How the client listener speaks TLS.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use presenced_tls::certificates::{Certificates, Pair};
use presenced_tls::rustls::server::{ClientHello, ResolvesServerCert};
use presenced_tls::rustls::sign::CertifiedKey;
use presenced_tls::{Handshake, HandshakeError, Server, rustls};

use crate::limits::{CERTIFICATE_EXPIRES_SOON, CERTIFICATE_TIME_LEFT};
use crate::swap::Swap;

/// TLS of the client listener, for all who have a clone of it. Its certificates can be replaced; the keys of tickets stay, so clients that were here before
/// still come back without a full handshake.
#[derive(Clone)]
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

    /// The certificates that are in force.
    pub fn certificates(&self) -> Arc<Certificates> {
        Arc::clone(&self.certificates.0.get())
    }

    /// When the first of them expires, since the Unix epoch.
    pub fn expires_at(&self) -> Duration {
        self.certificates().expires_at()
    }
}

/// From when on a certificate should have been renewed, since the Unix epoch.
pub fn expires_soon_from(pair: &Pair) -> Duration {
    let expires_at = pair.expires_at();
    let lasts = expires_at.saturating_sub(pair.valid_from());
    let soon = CERTIFICATE_EXPIRES_SOON.min(lasts / CERTIFICATE_TIME_LEFT);
    expires_at.saturating_sub(soon)
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use presenced_tls::rustls::pki_types::pem::PemObject;
    use presenced_tls::rustls::pki_types::{CertificateDer, ServerName};
    use presenced_tls::rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore};
    use presenced_tls::{Progress, provider, testing};

    use super::*;

    /// 2026-11-29 00:00:00 UTC.
    const NOW: Duration = Duration::from_secs(1_795_910_400);

    fn file(name: &str) -> Vec<u8> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tls/tests/certificates");
        fs::read(folder.join(name)).unwrap()
    }

    /// These certificates, all of which have the same key.
    fn certificates(names: &[&str]) -> Arc<Certificates> {
        let pair = |name: &&str| {
            let chain = [file(&format!("{name}.pem")), file("intermediate.pem")].concat();
            Pair::read(&chain, &file("p256.key"), NOW).unwrap()
        };
        let pairs: Vec<_> = names.iter().map(pair).collect();
        Arc::new(Certificates::new(&pairs).unwrap())
    }

    /// How clients are set that trust the authority; they keep the tickets that they get.
    fn clients() -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(testing::AUTHORITY) {
            roots.add(authority.unwrap()).unwrap();
        }
        let config = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }

    fn client(config: &Arc<ClientConfig>, host: &str) -> ClientConnection {
        let host = ServerName::try_from(host.to_owned()).unwrap();
        ClientConnection::new(config.clone(), host).unwrap()
    }

    /// Both shake hands, unless the client finds fault with the certificate that it is shown.
    fn shake_hands(
        mut handshake: Handshake,
        client: &mut ClientConnection,
    ) -> Result<(), rustls::Error> {
        loop {
            let (mut said, mut answer) = (Vec::new(), Vec::new());
            while client.wants_write() {
                client.write_tls(&mut said).unwrap();
            }
            let progress = handshake.receive(&said, &mut answer).unwrap();
            let mut answer = answer.as_slice();
            while !answer.is_empty() {
                client.read_tls(&mut answer).unwrap();
                client.process_new_packets()?;
            }
            match progress {
                Progress::Wait(waits) => handshake = waits,
                Progress::Done(_) => return Ok(()),
            }
        }
    }

    /// The certificate that a client is shown who asks for this host, and how it came to it.
    fn shown(
        tls: &Tls,
        config: &Arc<ClientConfig>,
        host: &str,
    ) -> Result<(CertificateDer<'static>, HandshakeKind), rustls::Error> {
        let mut client = client(config, host);
        shake_hands(tls.handshake().unwrap(), &mut client)?;
        let certificate = client.peer_certificates().unwrap()[0].clone().into_owned();
        Ok((certificate, client.handshake_kind().unwrap()))
    }

    fn certificate(name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(&file(&format!("{name}.pem"))).unwrap()
    }

    #[test]
    fn a_client_is_shown_the_certificate_of_its_host() {
        let tls = Tls::new(certificates(&["p256", "names", "first"])).unwrap();
        for (host, name) in [
            ("p256.example", "p256"),
            ("upper.example", "names"),
            ("a.wild.example", "names"),
            ("first.example", "first"),
        ] {
            let (found, _) = shown(&tls, &clients(), host).unwrap();
            assert_eq!(found, certificate(name), "{host}");
        }
        assert!(shown(&tls, &clients(), "unknown.example").is_err());
    }

    #[test]
    fn new_certificates_are_shown_and_tickets_of_before_are_good() {
        let tls = Tls::new(certificates(&["p256"])).unwrap();
        let config = clients();
        let host = "p256.example";
        let (found, kind) = shown(&tls, &config, host).unwrap();
        assert_eq!(found, certificate("p256"));
        assert_ne!(kind, HandshakeKind::Resumed);
        assert!(shown(&tls, &clients(), "first.example").is_err());

        // One whose client has not said hello yet is shown the new ones.
        let early = tls.handshake().unwrap();
        tls.clone().show(certificates(&["first", "names"]));
        let mut late = client(&clients(), "first.example");
        shake_hands(early, &mut late).unwrap();
        let (found, _) = shown(&tls, &clients(), "first.example").unwrap();
        assert_eq!(found, certificate("first"));
        // It proves nothing to a client that asks for what is gone, unless it was here before.
        assert!(shown(&tls, &clients(), host).is_err());
        let (_, kind) = shown(&tls, &config, host).unwrap();
        assert_eq!(kind, HandshakeKind::Resumed);
        assert_eq!(tls.certificates().pairs().len(), 2);

        tls.show(testing::certificates());
        assert_eq!(tls.expires_at(), testing::certificates().expires_at());
        let (found, _) = shown(&tls, &clients(), testing::HOST).unwrap();
        assert_eq!(found, certificate("p256"));
    }

    #[test]
    fn no_key_is_ever_shown() {
        let tls = Tls::new(testing::certificates()).unwrap();
        let text = format!("{tls:?}");
        assert!(
            text.starts_with("Tls { certificates: Certificates { expires_at:"),
            "{text}"
        );
        assert!(text.len() < 200, "{text}");
    }
}
