//! Both ends in one process, in memory: the client is rustls's.

mod clients;
mod differential;
mod records;

use std::sync::{Arc, Mutex};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, KeyLog, RootCertStore, SupportedCipherSuite};

use crate::cipher::Cipher;
use crate::handshake::{Established, Progress, Server};
use crate::record_layer::RecordLayer;
use crate::testing::{AUTHORITY, HOST};

/// How clients that come again and again are set.
pub(super) fn client_config(suite: SupportedCipherSuite) -> ClientConfig {
    let provider = CryptoProvider {
        cipher_suites: vec![suite],
        ..rustls_graviola::default_provider()
    };
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(AUTHORITY) {
        roots.add(authority.unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[suite.version()])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.enable_secret_extraction = true;
    config
}

pub(super) fn client(config: &Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::try_from(HOST).unwrap();
    ClientConnection::new(config.clone(), name).unwrap()
}

/// What the client has to send.
pub(super) fn said(client: &mut ClientConnection) -> Vec<u8> {
    let mut said = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut said).unwrap();
    }
    said
}

/// The client gets what the server has said; the data in it.
pub(super) fn heard(client: &mut ClientConnection, mut bytes: &[u8]) -> Vec<u8> {
    use std::io::Read;
    let mut data = Vec::new();
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        client.process_new_packets().unwrap();
        // At the end of what has come there is an error, and none at the end of the connection.
        let _ = client.reader().read_to_end(&mut data);
    }
    data
}

/// Both ends after their handshake. What the client says comes in pieces of `piece` bytes.
pub(super) fn shake_hands(
    server: &Server,
    client: &mut ClientConnection,
    piece: usize,
) -> Established {
    let mut handshake = server.handshake().unwrap();
    loop {
        let bytes = said(client);
        assert!(!bytes.is_empty(), "both wait");
        let mut pieces = bytes.chunks(piece);
        while let Some(bytes) = pieces.next() {
            let mut out = Vec::new();
            let progress = handshake.receive(bytes, &mut out).unwrap();
            heard(client, &out);
            match progress {
                Progress::Wait(waits) => handshake = waits,
                Progress::Done(mut done) => {
                    done.rest.extend(pieces.flatten());
                    return done;
                }
            }
        }
    }
}

/// The records of the client's side, whose keys are taken from it, for what no real client sends.
pub(super) fn taken_from(
    client: ClientConnection,
    log: &Log,
    suite: SupportedCipherSuite,
) -> (Box<RecordLayer>, Box<RecordLayer>) {
    let extracted = client.dangerous_extract_secrets().unwrap();
    let log = log.0.lock().unwrap();
    let secret = |label: &str| {
        let found = log.iter().find(|(name, _)| name == label);
        found.map(|(_, secret)| secret.clone()).unwrap_or_default()
    };
    let of = |own: &str, other: &str, rx, tx| {
        let (cipher, ..) = crate::handshake::parts(&extracted.rx.1).unwrap();
        layer(suite, cipher, (&secret(own), &secret(other)), (rx, tx))
    };
    let (rx, tx) = (&extracted.rx, &extracted.tx);
    let client = of("SERVER_TRAFFIC_SECRET_0", "CLIENT_TRAFFIC_SECRET_0", rx, tx);
    let server = of("CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0", tx, rx);
    (client, server)
}

type Extracted = (u64, rustls::ConnectionTrafficSecrets);

/// Reads with the first of each pair, and writes with the second.
fn layer(
    suite: SupportedCipherSuite,
    cipher: Cipher,
    (read_secret, write_secret): (&[u8], &[u8]),
    (read, write): (&Extracted, &Extracted),
) -> Box<RecordLayer> {
    let mut layer = RecordLayer::empty(suite.tls13(), cipher);
    for (direction, secret, (sequence, keys)) in [
        (&mut layer.read, read_secret, read),
        (&mut layer.write, write_secret, write),
    ] {
        let (_, key, iv) = crate::handshake::parts(keys).unwrap();
        direction.start(*sequence, key, iv, secret).unwrap();
    }
    layer
}

/// What a client's log of keys was told.
#[derive(Debug, Default)]
pub(super) struct Log(Mutex<Vec<(String, Vec<u8>)>>);

impl KeyLog for Log {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        let mut log = self.0.lock().unwrap();
        log.push((label.to_owned(), secret.to_vec()));
    }
}
