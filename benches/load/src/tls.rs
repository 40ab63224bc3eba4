//! TLS with the server, by rustls: what all connections share, and the side of one of them.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use clap::ValueEnum;
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, NamedGroup, RootCertStore};

use crate::session_error::SessionError;

/// Tickets that are kept. Each is used once, and servers send some with each handshake.
const TICKETS_MAX: usize = 16_384;

/// Groups in which keys are exchanged (RFC 8446 §4.2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KeyExchange {
    /// Curve25519
    X25519,
    /// P-256
    Secp256r1,
    /// Curve25519 and ML-KEM-768, which current browsers offer first
    X25519mlkem768,
}

impl KeyExchange {
    fn group(self) -> NamedGroup {
        match self {
            KeyExchange::X25519 => NamedGroup::X25519,
            KeyExchange::Secp256r1 => NamedGroup::secp256r1,
            KeyExchange::X25519mlkem768 => NamedGroup::X25519MLKEM768,
        }
    }
}

/// How this process speaks TLS.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// Trusts the certificates in the PEM file `ca`, and expects one for `name`. The error says what is wrong with the
    /// file.
    pub(crate) fn new(
        ca: &Path,
        name: ServerName<'static>,
        key_exchange: KeyExchange,
        resumes: bool,
    ) -> Result<Tls, String> {
        let mut provider = rustls_graviola::default_provider();
        // A share of the key is sent for the first group alone. The others are for servers that lack it.
        let is_wanted = |group| group == key_exchange.group();
        (provider.kx_groups)
            .retain(|group| group.name() != NamedGroup::X25519MLKEM768 || is_wanted(group.name()));
        (provider.kx_groups).sort_by_key(|group| !is_wanted(group.name()));
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots(ca)?)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = match resumes {
            true => Resumption::store(Arc::new(Tickets::default())),
            false => Resumption::disabled(),
        };
        Ok(Tls {
            config: Arc::new(config),
            name,
        })
    }

    /// A new connection's side.
    pub(crate) fn connect(&self) -> io::Result<Channel> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        Ok(Channel(Box::new(connection.map_err(io::Error::other)?)))
    }
}

/// The name that the certificate of a server at `ip` must have, unless another is given.
pub(crate) fn name_of(ip: IpAddr) -> ServerName<'static> {
    ServerName::IpAddress(ip.into())
}

fn roots(ca: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(ca).map_err(|error| error.to_string())?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    match roots.is_empty() {
        true => Err("there must be a certificate in it (PEM)".into()),
        false => Ok(roots),
    }
}

/// One connection's side of TLS: some 10 kB.
#[derive(Debug)]
pub(crate) struct Channel(Box<ClientConnection>);

impl Channel {
    /// The records of `bytes`, with all others that are to be sent. Before the handshake is done, `bytes` wait for it.
    pub(crate) fn seal(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        self.0.writer().write_all(bytes)?;
        self.drain()
    }

    /// The records that end the connection.
    pub(crate) fn end(&mut self) -> io::Result<Vec<u8>> {
        self.0.send_close_notify();
        self.drain()
    }

    fn drain(&mut self) -> io::Result<Vec<u8>> {
        let mut records = Vec::new();
        while self.0.wants_write() {
            self.0.write_tls(&mut records)?;
        }
        Ok(records)
    }

    /// Takes records from `stream`: as many as one read gives. The outer error is the stream's. Whether it succeeds or
    /// not, there may be records to send.
    pub(crate) fn receive(
        &mut self,
        stream: &mut impl Read,
    ) -> io::Result<Result<(), SessionError>> {
        self.0.read_tls(stream)?;
        let processed = self.0.process_new_packets();
        Ok(processed.map(drop).map_err(SessionError::from))
    }

    /// Takes what has been received, 0 bytes after its orderly end; `None` if more must come first.
    pub(crate) fn open(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.0.reader().read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            read => read.map(Some),
        }
    }

    /// What the handshake has led to, such as `TLS13_AES_128_GCM_SHA256 X25519 full`.
    pub(crate) fn summary(&self) -> String {
        let mut parts = Vec::new();
        if let Some(suite) = self.0.negotiated_cipher_suite() {
            parts.push(format!("{:?}", suite.suite()));
        }
        // A resumed session of TLS 1.2 exchanges no keys.
        if let Some(group) = self.0.negotiated_key_exchange_group() {
            parts.push(format!("{:?}", group.name()));
        }
        let kind = self.0.handshake_kind().map(|kind| match kind {
            HandshakeKind::Full => "full",
            HandshakeKind::FullWithHelloRetryRequest => "full, in two rounds",
            HandshakeKind::Resumed => "resumed",
        });
        parts.extend(kind.map(str::to_owned));
        parts.join(" ")
    }
}

/// The tickets of one server. rustls's own store keeps eight, fewer than there are handshakes at a time.
#[derive(Debug, Default)]
struct Tickets(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    tls13: VecDeque<Tls13ClientSessionValue>,
    tls12: Option<Tls12ClientSessionValue>,
}

impl Tickets {
    fn with<T>(&self, action: impl FnOnce(&mut Kept) -> T) -> T {
        action(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.with(|kept| kept.tls12 = Some(session));
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.with(|kept| kept.tls12.clone())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.with(|kept| kept.tls12 = None);
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.with(|kept| {
            kept.tls13.truncate(TICKETS_MAX - 1);
            kept.tls13.push_front(ticket);
        });
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.with(|kept| kept.tls13.pop_front())
    }
}
