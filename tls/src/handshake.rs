//! A server's handshake, by rustls. When it is done, the connection is nothing but its [`RecordLayer`].

use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, mem};

use rustls::crypto::CryptoProvider;
use rustls::crypto::cipher::{AeadKey, Iv};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::{
    ConnectionTrafficSecrets, ExtractedSecrets, HandshakeKind, KeyLog, ServerConfig,
    ServerConnection, SupportedCipherSuite,
};
use rustls_graviola::Ticketer;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::cipher::Cipher;
use crate::limits::{FRAGMENT_BYTES_MAX, HANDSHAKE_BYTES_MAX};
use crate::record_layer::{HEADER_BYTES, RecordLayer};

/// The first byte of a record of a handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;

/// All that can be said to a client whose handshake does not begin, as a server has no room for it: the alert
/// `internal_error`, which "is unrelated to the peer" (RFC 8446 §6.2).
pub const REFUSED: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];

/// The cryptography of it all, which needs no C compiler.
pub fn provider() -> CryptoProvider {
    rustls_graviola::default_provider()
}

/// How TLS is spoken: TLS 1.3 and 1.2, HTTP/1.1 by ALPN, sessions resumed by tickets (their keys are this process's, and
/// change by themselves), no early data, no certificates of clients.
#[derive(Clone)]
pub struct Server {
    config: Arc<ServerConfig>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server")
    }
}

impl Server {
    /// A server that shows the certificates of `certificates`.
    ///
    /// # Errors
    ///
    /// If there is no randomness for the keys of tickets.
    pub fn new(certificates: Arc<dyn ResolvesServerCert>) -> Result<Server, rustls::Error> {
        let provider = Arc::new(provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(certificates);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Ticketer::new()?;
        // One is enough, as clients ask for a new one each time they come.
        config.send_tls13_tickets = 1;
        config.max_early_data_size = 0;
        config.send_half_rtt_data = false;
        config.enable_secret_extraction = true;
        Ok(Server {
            config: Arc::new(config),
        })
    }

    #[cfg(test)]
    pub(crate) fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// The handshake of a new connection.
    ///
    /// # Errors
    ///
    /// If rustls has none for this configuration.
    pub fn handshake(&self) -> Result<Handshake, HandshakeError> {
        let secrets = Arc::new(Secrets::default());
        let mut config = (*self.config).clone();
        config.key_log = secrets.clone();
        let connection = ServerConnection::new(Arc::new(config)).map_err(HandshakeError::Rustls)?;
        Ok(Handshake {
            connection: Box::new(connection),
            secrets,
            inbox: Vec::new(),
            received: 0,
        })
    }
}

/// A handshake under way: some 10 kB, and up to 50 kB while a client sends as much as it may. So bound how many there are.
pub struct Handshake {
    connection: Box<ServerConnection>,
    secrets: Arc<Secrets>,
    /// Bytes of a record that has not come whole. rustls gets whole records alone: what it has buffered when the keys are
    /// taken from it would be lost.
    inbox: Vec<u8>,
    received: usize,
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").finish_non_exhaustive()
    }
}

/// How far a handshake is.
#[derive(Debug)]
#[must_use]
pub enum Progress {
    /// More must come.
    Wait(Handshake),
    /// It is done.
    Done(Established),
}

/// A connection after its handshake.
#[derive(Debug)]
pub struct Established {
    /// Its records.
    pub records: Box<RecordLayer>,
    /// What has come behind the handshake: records, to be opened.
    pub rest: Vec<u8>,
    /// Whether the client came back with a ticket.
    pub is_resumed: bool,
}

/// Why a handshake came to nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The first bytes are of something else, HTTP perhaps.
    #[error("it does not speak TLS")]
    NotTls,
    /// More bytes than a handshake needs.
    #[error("its handshake is too long")]
    TooLong,
    /// It has done what the RFCs forbid, or has nothing in common with this server.
    #[error(transparent)]
    Rustls(rustls::Error),
    /// rustls does not tell the secrets of the connection. That can't happen with the version for which this was made.
    #[error("the handshake has left no secrets")]
    Secrets,
}

impl Handshake {
    /// Goes on with `bytes` from the client. What must be sent, an alert included, is appended to `out`.
    ///
    /// # Errors
    ///
    /// Why the connection must end, once `out` is sent.
    pub fn receive(mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Progress, HandshakeError> {
        if self.received == 0 && bytes.first().is_some_and(|first| *first != HANDSHAKE) {
            return Err(HandshakeError::NotTls);
        }
        self.received += bytes.len();
        self.inbox.extend_from_slice(bytes);
        let mut taken = 0;
        while let Some(length) = self.whole_record(taken, out)? {
            let record = &self.inbox[taken..taken + length];
            taken += length;
            process(&mut self.connection, record, out)?;
            if !self.connection.is_handshaking() {
                let rest = self.inbox.split_off(taken);
                return self.establish(rest).map(Progress::Done);
            }
        }
        self.inbox.drain(..taken);
        if self.received > HANDSHAKE_BYTES_MAX {
            return Err(HandshakeError::TooLong);
        }
        Ok(Progress::Wait(self))
    }

    /// The length of the record at `at` in the inbox, if it has come whole.
    fn whole_record(
        &mut self,
        at: usize,
        out: &mut Vec<u8>,
    ) -> Result<Option<usize>, HandshakeError> {
        let whole = whole_record(&self.inbox[at..]);
        if whole.is_err() {
            // rustls refuses it for its header alone, and has the keys for the alert.
            let header = &self.inbox[at..at + HEADER_BYTES];
            process(&mut self.connection, header, out)?;
        }
        whole
    }

    fn establish(self, rest: Vec<u8>) -> Result<Established, HandshakeError> {
        let Handshake {
            connection,
            secrets,
            ..
        } = self;
        let suite = connection
            .negotiated_cipher_suite()
            .ok_or(HandshakeError::Secrets)?;
        let is_resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let extracted = connection.dangerous_extract_secrets();
        let extracted = extracted.map_err(HandshakeError::Rustls)?;
        let logged = secrets.take();
        let records = record_layer(suite, &extracted, &logged).ok_or(HandshakeError::Secrets)?;
        Ok(Established {
            records,
            rest,
            is_resumed,
        })
    }
}

/// The length of the record at the start of `bytes`, if it has come whole.
fn whole_record(bytes: &[u8]) -> Result<Option<usize>, HandshakeError> {
    let Some(&[_, _, _, high, low]) = bytes.first_chunk() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    // What a sealed record of TLS 1.2 may have, which is more than one of TLS 1.3.
    if length > FRAGMENT_BYTES_MAX + 2048 {
        return Err(HandshakeError::TooLong);
    }
    let whole = HEADER_BYTES + length;
    Ok((bytes.len() >= whole).then_some(whole))
}

/// Gives rustls one whole record, and takes what it has to say.
fn process(
    connection: &mut ServerConnection,
    mut record: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), HandshakeError> {
    let mut processed = Ok(());
    while !record.is_empty() && processed.is_ok() {
        // Memory is read, so what fails is that rustls takes no more.
        connection
            .read_tls(&mut record)
            .map_err(|_| HandshakeError::TooLong)?;
        processed = connection.process_new_packets().map(drop);
    }
    while connection.wants_write() && connection.write_tls(out).is_ok_and(|written| written > 0) {}
    processed.map_err(HandshakeError::Rustls)
}

/// The record layer of a connection whose keys are `extracted`. With TLS 1.3, the next keys are made of the secrets that were
/// `logged`.
fn record_layer(
    suite: SupportedCipherSuite,
    extracted: &ExtractedSecrets,
    logged: &Traffic,
) -> Option<Box<RecordLayer>> {
    let (cipher, read_key, read_iv) = parts(&extracted.rx.1)?;
    let (write_cipher, write_key, write_iv) = parts(&extracted.tx.1)?;
    let tls13 = suite.tls13();
    let secret_bytes = tls13.map_or(0, |suite| suite.common.hash_provider.output_len());
    let is_fit = |secret: &[u8]| secret.len() == secret_bytes;
    if cipher != write_cipher || !is_fit(&logged.client) || !is_fit(&logged.server) {
        return None;
    }
    let mut records = RecordLayer::empty(tls13, cipher);
    let RecordLayer { read, write, .. } = &mut *records;
    read.start(extracted.rx.0, read_key, read_iv, &logged.client)?;
    write.start(extracted.tx.0, write_key, write_iv, &logged.server)?;
    Some(records)
}

/// What AEAD they are for, the key and the iv.
pub(crate) fn parts(secrets: &ConnectionTrafficSecrets) -> Option<(Cipher, &AeadKey, &Iv)> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => Some((Cipher::Aes128Gcm, key, iv)),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => Some((Cipher::Aes256Gcm, key, iv)),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
            Some((Cipher::ChaCha20Poly1305, key, iv))
        }
        _ => None,
    }
}

/// The traffic secrets of one handshake. rustls gives out the keys, and not what the next keys are made of; only a log of
/// keys is told of that. This one goes nowhere.
#[derive(Default)]
struct Secrets(Mutex<Traffic>);

/// Empty with TLS 1.2.
#[derive(Default)]
struct Traffic {
    client: Zeroizing<Vec<u8>>,
    server: Zeroizing<Vec<u8>>,
}

impl Secrets {
    fn take(&self) -> Traffic {
        mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

/// Names of the NSS key log format.
const CLIENT_SECRET: &str = "CLIENT_TRAFFIC_SECRET_0";
const SERVER_SECRET: &str = "SERVER_TRAFFIC_SECRET_0";

impl KeyLog for Secrets {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        let mut traffic = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match label {
            CLIENT_SECRET => *traffic.client = secret.to_vec(),
            SERVER_SECRET => *traffic.server = secret.to_vec(),
            _ => {}
        }
    }

    fn will_log(&self, label: &str) -> bool {
        [CLIENT_SECRET, SERVER_SECRET].contains(&label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_that_are_missing_or_not_of_the_suite_are_refused() {
        for suite in provider().cipher_suites {
            let keys = || {
                let (key, iv) = (AeadKey::from([9; 32]), Iv::from([9; 12]));
                ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }
            };
            let extracted = ExtractedSecrets {
                tx: (0, keys()),
                rx: (0, keys()),
            };
            let tls13 = suite.tls13();
            let right = tls13.map_or(0, |suite| suite.common.hash_provider.output_len());
            for bytes in [0, 32, 48] {
                let secret = |bytes| Zeroizing::new(vec![1; bytes]);
                for (client, server) in [(bytes, right), (right, bytes)] {
                    let logged = Traffic {
                        client: secret(client),
                        server: secret(server),
                    };
                    let records = record_layer(suite, &extracted, &logged);
                    assert_eq!(records.is_some(), bytes == right, "{suite:?} {bytes}");
                }
            }
        }
    }
}
