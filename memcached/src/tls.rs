//! TLS to memcached (its `-Z`), by rustls with a provider that needs no C compiler.

use std::sync::Arc;
use std::{fmt, io};

use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use super::MemcachedError;

/// Makes connections secret, with those whose certificates it trusts.
#[derive(Clone)]
pub struct Tls(TlsConnector);

/// Why certificates can't be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// Not a list of certificates.
    #[error("has no certificate in PEM form")]
    Pem,
    /// Not one that can vouch for others.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

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
        let provider = Arc::new(rustls_graviola::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Tls(TlsConnector::from(Arc::new(config))))
    }

    /// The peer must prove that it is `host`, a name or an address.
    pub(super) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, MemcachedError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| MemcachedError::ServerName)?;
        let connected = self.0.connect(name, stream).await;
        connected.map_err(|error| MemcachedError::Connect(explained(error)))
    }
}

/// In words of memcached what TLS has said in its own.
fn explained(error: io::Error) -> io::Error {
    use rustls::{CertificateError, Error, InvalidMessage};
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    let why = match cause {
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "it does not speak TLS (memcached's -Z)"
        }
        // The library has no name for it.
        Some(Error::InvalidCertificate(CertificateError::Other(other)))
            if format!("{other:?}").contains("CaUsedAsEndEntity") =>
        {
            "its certificate is that of an authority: it needs one of its own, which the authority has signed"
        }
        _ => return error,
    };
    io::Error::new(error.kind(), why)
}
