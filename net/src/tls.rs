//! TLS of connections that this process opens, by rustls with a provider that needs no C compiler.

use std::sync::Arc;
use std::{fmt, io};

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
pub use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, Error, InvalidMessage, RootCertStore,
};

/// Makes connections secret, with those whose certificates it trusts. Two are equal if they trust the same.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    roots: Arc<RootCertStore>,
}

/// Why certificates can't be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// Not a list of certificates.
    #[error("has no certificate in PEM form")]
    Pem,
    /// Not one that can vouch for others.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
    /// The system has none.
    #[error("this machine has no certificates of authorities (Debian's package ca-certificates)")]
    NoSystemRoots,
}

/// Why a connection did not become secret.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsConnectError {
    /// A certificate is for a name or an address.
    #[error("its name is none that a certificate can be for")]
    ServerName,
    /// What it has sent is something else.
    #[error("it does not speak TLS")]
    NotTls,
    /// A mistake that is often made with a certificate of one's own.
    #[error(
        "its certificate is that of an authority: it needs one of its own, which the authority has signed"
    )]
    OfAuthority,
    /// No trusted authority has signed it.
    #[error("its certificate is signed by no authority that is trusted")]
    UnknownAuthority,
    /// It was good once.
    #[error("its certificate has expired")]
    Expired,
    /// It will be good; or this machine's clock is wrong.
    #[error("its certificate is not valid yet")]
    NotValidYet,
    /// The peer is someone else.
    #[error("its certificate is for another name")]
    OtherName,
    /// All else, in the words of the library or the system.
    #[error("{0}")]
    Io(#[source] io::Error),
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Tls) -> bool {
        self.roots.roots == other.roots.roots
    }
}

impl Eq for Tls {}

impl Tls {
    /// Trusts servers whose certificates the authorities in `ca_pem` have signed, and no others.
    ///
    /// # Errors
    ///
    /// If `ca_pem` is not PEM, or has no certificate that can be trusted.
    pub fn new(ca_pem: &[u8]) -> Result<Tls, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem) {
            roots.add(certificate.map_err(|_| TlsError::Pem)?)?;
        }
        if roots.is_empty() {
            return Err(TlsError::Pem);
        }
        Tls::with_roots(roots)
    }

    /// Trusts servers as this machine's other programs do: the authorities in its own list, or in that
    /// of `SSL_CERT_FILE` and `SSL_CERT_DIR`. It reads files.
    ///
    /// # Errors
    ///
    /// If there are none.
    pub fn with_system_roots() -> Result<Tls, TlsError> {
        let mut roots = RootCertStore::empty();
        // Those that can't be read or used are left out: a few old ones are in every list.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(TlsError::NoSystemRoots);
        }
        Tls::with_roots(roots)
    }

    fn with_roots(roots: RootCertStore) -> Result<Tls, TlsError> {
        let provider = Arc::new(rustls_graviola::default_provider());
        let roots = Arc::new(roots);
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        Ok(Tls {
            connector: TlsConnector::from(Arc::new(config)),
            roots,
        })
    }

    /// The peer must prove that it is `host`, a name or an address. It may take as long as the peer
    /// likes.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub async fn connect<S>(&self, host: &str, stream: S) -> Result<TlsStream<S>, TlsConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| TlsConnectError::ServerName)?;
        let secret = self.connector.connect(name, stream);
        secret.await.map_err(explained)
    }
}

/// In plain words what the library says in its own.
fn explained(error: io::Error) -> TlsConnectError {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => TlsConnectError::NotTls,
        Some(Error::InvalidCertificate(fault)) => match fault {
            CertificateError::UnknownIssuer => TlsConnectError::UnknownAuthority,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                TlsConnectError::Expired
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                TlsConnectError::NotValidYet
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsConnectError::OtherName
            }
            // The library has no name for it.
            CertificateError::Other(other)
                if format!("{other:?}").contains("CaUsedAsEndEntity") =>
            {
                TlsConnectError::OfAuthority
            }
            _ => TlsConnectError::Io(error),
        },
        _ => TlsConnectError::Io(error),
    }
}
