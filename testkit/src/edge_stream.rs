//! Connections to edges, of which some speak TLS: [`TestServer`](crate::server::TestServer) says which. So what is tested of an
//! edge can be tested over TLS, too.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use presenced_tls::rustls::pki_types::pem::PemObject;
use presenced_tls::rustls::pki_types::{CertificateDer, ServerName};
use presenced_tls::rustls::{ClientConfig, RootCertStore};
use presenced_tls::{provider, testing};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Edges that speak TLS, with the certificates of [`testing::certificates`].
static EDGES: Mutex<Option<HashSet<SocketAddr>>> = Mutex::new(None);

/// The edge at this address speaks TLS. Once it is gone, another may have the address.
#[derive(Debug)]
pub struct TlsEdge(SocketAddr);

impl TlsEdge {
    /// From now on.
    pub fn at(edge: SocketAddr) -> TlsEdge {
        edges().get_or_insert_default().insert(edge);
        TlsEdge(edge)
    }
}

impl Drop for TlsEdge {
    fn drop(&mut self) {
        edges().get_or_insert_default().remove(&self.0);
    }
}

fn edges() -> MutexGuard<'static, Option<HashSet<SocketAddr>>> {
    EDGES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the edge at this address speaks TLS.
pub fn is_tls(edge: SocketAddr) -> bool {
    edges().as_ref().is_some_and(|edges| edges.contains(&edge))
}

/// A client's connection to an edge.
pub enum EdgeStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl EdgeStream {
    /// Connects, and shakes hands if the edge speaks TLS.
    ///
    /// # Errors
    ///
    /// Nobody listens there, or the handshake fails.
    pub async fn connect(edge: SocketAddr) -> io::Result<EdgeStream> {
        EdgeStream::over(TcpStream::connect(edge).await?, edge).await
    }

    /// The same over a connection to the edge.
    ///
    /// # Errors
    ///
    /// The handshake fails.
    pub async fn over(stream: TcpStream, edge: SocketAddr) -> io::Result<EdgeStream> {
        stream.set_nodelay(true)?;
        if !is_tls(edge) {
            return Ok(EdgeStream::Plain(stream));
        }
        let host = ServerName::try_from(testing::HOST).expect("a name");
        let connector = TlsConnector::from(CLIENT.clone());
        let stream = connector.connect(host, stream).await?;
        Ok(EdgeStream::Tls(Box::new(stream)))
    }

    /// What is below.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            EdgeStream::Plain(stream) => stream,
            EdgeStream::Tls(stream) => stream.get_ref().0,
        }
    }
}

/// A client that trusts the authority of the test certificates.
pub static CLIENT: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(testing::AUTHORITY).expect("PEM");
    roots.add(authority).expect("an authority");
    let config = ClientConfig::builder_with_provider(provider().into())
        .with_safe_default_protocol_versions()
        .expect("the provider has both versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
});

impl AsyncRead for EdgeStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            EdgeStream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            EdgeStream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for EdgeStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            EdgeStream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            EdgeStream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            EdgeStream::Plain(stream) => Pin::new(stream).poll_flush(context),
            EdgeStream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            EdgeStream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            EdgeStream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
