//! Which certificate a client gets, as a client of rustls sees it.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests may")]

mod common;

use std::sync::Arc;

use presenced_tls::certificates::{Certificates, Pair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, Error, RootCertStore,
    ServerConfig, ServerConnection, SignatureScheme, SupportedProtocolVersion,
};

use self::common::{file, pair};

const ECDSA: &[SignatureScheme] = &[
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
];
const P384: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP384_SHA384];
const RSA: &[SignatureScheme] = &[
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PKCS1_SHA256,
];
const ED25519: &[SignatureScheme] = &[SignatureScheme::ED25519];
const ALL: &[SignatureScheme] = &[
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::ED25519,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP256_SHA256,
];

const FILES: [&str; 9] = [
    "p256",
    "p384",
    "ed25519",
    "rsa",
    "names",
    "wildcard",
    "wildcard-rsa",
    "exact",
    "first",
];

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls_graviola::default_provider())
}

/// A client that takes every certificate, if the server signs with its key and by one of some schemes.
#[derive(Debug)]
struct Trusting {
    schemes: &'static [SignatureScheme],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.to_vec()
    }
}

/// A server with these certificates, and what its clients see of it.
struct Server(Arc<ServerConfig>);

impl Server {
    fn with(pairs: &[Pair]) -> Server {
        let certificates = Certificates::new(pairs).unwrap();
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(certificates));
        Server(Arc::new(config))
    }

    /// The chain that a client gets which asks for `host`; for none (SNI) if it is an address.
    fn shown_to(
        &self,
        client: ClientConfig,
        host: &str,
    ) -> Result<Vec<CertificateDer<'static>>, Error> {
        let host = ServerName::try_from(host.to_owned()).unwrap();
        let mut client = Connection::Client(ClientConnection::new(Arc::new(client), host).unwrap());
        let mut server = Connection::Server(ServerConnection::new(self.0.clone()).unwrap());
        while client.is_handshaking() || server.is_handshaking() {
            send(&mut client, &mut server)?;
            send(&mut server, &mut client)?;
        }
        Ok(client
            .peer_certificates()
            .unwrap()
            .iter()
            .map(|it| it.clone().into_owned())
            .collect())
    }

    /// The file of the certificate that a client gets.
    fn choice_by(
        &self,
        version: &'static SupportedProtocolVersion,
        schemes: &'static [SignatureScheme],
        host: &str,
    ) -> Option<&'static str> {
        let chain = self.shown_to(trusting(schemes, version), host).ok()?;
        let shown = |name: &&str| chain == certificates(&format!("{name}.pem"));
        FILES.into_iter().find(shown)
    }

    /// The same, by TLS 1.3 and by TLS 1.2.
    fn choice(&self, schemes: &'static [SignatureScheme], host: &str) -> Option<&'static str> {
        let by_13 = self.choice_by(&TLS13, schemes, host);
        assert_eq!(self.choice_by(&TLS12, schemes, host), by_13, "{host}");
        by_13
    }
}

fn trusting(
    schemes: &'static [SignatureScheme],
    version: &'static SupportedProtocolVersion,
) -> ClientConfig {
    let verifier = Trusting {
        schemes,
        provider: provider(),
    };
    // Else rustls offers the suites of both versions, whichever it speaks; others don't.
    let mut provider = rustls_graviola::default_provider();
    provider
        .cipher_suites
        .retain(|suite| suite.version() == version);
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth()
}

fn send(from: &mut Connection, to: &mut Connection) -> Result<(), Error> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut bytes = bytes.as_slice();
    while !bytes.is_empty() {
        to.read_tls(&mut bytes).unwrap();
        to.process_new_packets()?;
    }
    Ok(())
}

fn certificates(name: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(&file(name))
        .map(Result::unwrap)
        .collect()
}

#[test]
fn a_client_gets_the_certificate_of_the_host_that_it_names() {
    let pairs = [
        ("first", "p256"),
        ("wildcard", "p256"),
        ("exact", "p256"),
        ("names", "p256"),
        ("rsa", "rsa"),
    ];
    let server = Server::with(&pairs.map(|(certificate, key)| pair(certificate, key)));
    for (host, expected) in [
        ("first.example", "first"),
        ("rsa.example", "rsa"),
        ("RSA.Example", "rsa"),
        ("upper.example", "names"),
        // Exactly, though the wildcard's certificate comes before.
        ("exact.wild.example", "exact"),
        // Of two with the same wildcard, the first.
        ("a.wild.example", "wildcard"),
        ("A.WILD.example", "wildcard"),
        // No certificate has these names, so the first of all is shown.
        ("wild.example", "first"),
        ("a.b.wild.example", "first"),
        ("unknown.example", "first"),
        // A client sends no address as the name of a host.
        ("127.0.0.1", "first"),
        ("192.0.2.1", "first"),
    ] {
        assert_eq!(server.choice(ALL, host), Some(expected), "{host}");
    }
}

#[test]
fn of_several_with_the_same_name_a_client_gets_the_first_that_it_can_use() {
    let kinds = ["p256", "p384", "ed25519", "rsa"];
    let server = Server::with(&kinds.map(|kind| pair(kind, kind)));
    let host = "same.example";
    for (schemes, expected) in [(ALL, "p256"), (ECDSA, "p256"), (P384, "p384"), (RSA, "rsa")] {
        assert_eq!(server.choice(schemes, host), Some(expected), "{expected}");
        // Nor does it matter whether the first of all is chosen for want of a name.
        assert_eq!(
            server.choice(schemes, "127.0.0.1"),
            Some(expected),
            "{expected}"
        );
    }
    let other_order = Server::with(&[pair("rsa", "rsa"), pair("p256", "p256")]);
    assert_eq!(other_order.choice(ALL, host), Some("rsa"));
    assert_eq!(other_order.choice(ECDSA, host), Some("p256"));
}

/// The provider does not sign by Ed25519 in TLS 1.2.
#[test]
fn a_client_of_tls_1_2_gets_another_certificate_than_that_of_ed25519() {
    let host = "same.example";
    let server = Server::with(&[pair("ed25519", "ed25519"), pair("p256", "p256")]);
    assert_eq!(server.choice_by(&TLS13, ALL, host), Some("ed25519"));
    assert_eq!(server.choice_by(&TLS12, ALL, host), Some("p256"));
    let alone = Server::with(&[pair("ed25519", "ed25519")]);
    assert_eq!(alone.choice_by(&TLS13, ED25519, host), Some("ed25519"));
    assert_eq!(alone.choice_by(&TLS12, ALL, host), None);
}

#[test]
fn a_wildcard_serves_a_client_that_can_not_use_the_certificate_of_its_exact_name() {
    let server = Server::with(&[pair("wildcard-rsa", "rsa"), pair("exact", "p256")]);
    let host = "exact.wild.example";
    assert_eq!(server.choice(ALL, host), Some("exact"));
    assert_eq!(server.choice(RSA, host), Some("wildcard-rsa"));
}

#[test]
fn a_client_that_can_use_no_certificate_of_a_host_is_refused() {
    let server = Server::with(&[
        pair("p256", "p256"),
        pair("first", "p256"),
        pair("rsa", "rsa"),
    ]);
    // That of another host would not help it.
    assert_eq!(server.choice(RSA, "p256.example"), None);
    assert_eq!(server.choice(RSA, "same.example"), Some("rsa"));
    assert_eq!(server.choice(ED25519, "127.0.0.1"), None);
}

#[test]
fn a_client_that_trusts_the_authority_alone_gets_the_whole_chain() {
    let server = Server::with(&[pair("first", "p256"), pair("chain", "p256")]);
    let mut roots = RootCertStore::empty();
    roots.add(certificates("root.pem").remove(0)).unwrap();
    let client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let chain = server.shown_to(client.clone(), "p256.example").unwrap();
    assert_eq!(chain, certificates("chain.pem"));
    // Another name's certificate is no good to it, and neither is one without its chain.
    assert!(server.shown_to(client.clone(), "unknown.example").is_err());
    assert!(server.shown_to(client, "first.example").is_err());
}
