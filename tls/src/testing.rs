//! Both ends of a connection without a handshake, records that no side would send, and certificates: for tests and fuzz
//! targets, behind the feature `testing`. The keys are public, so never use this for anything else.

#![allow(clippy::expect_used, reason = "a test may panic")]

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::cipher::{AeadKey, Iv};
use rustls::{CipherSuite, SupportedCipherSuite};

use crate::certificates::{Certificates, Pair};
use crate::cipher::Cipher;
use crate::record_layer::RecordLayer;

/// A host of which [`certificates`] has certificates, one with an ECDSA key and one with an RSA key.
pub const HOST: &str = "same.example";

/// The authority that has signed them, as PEM.
pub const AUTHORITY: &[u8] = include_bytes!("../tests/certificates/root.pem");

/// The file of that.
pub const AUTHORITY_FILE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/certificates/root.pem");

/// Certificates that are good for a hundred years.
#[must_use]
pub fn certificates() -> Arc<Certificates> {
    /// 2026-11-29.
    const NOW: Duration = Duration::from_secs(1_795_910_400);
    const INTERMEDIATE: &[u8] = include_bytes!("../tests/certificates/intermediate.pem");
    const ECDSA: [&[u8]; 2] = [
        include_bytes!("../tests/certificates/p256.pem"),
        include_bytes!("../tests/certificates/p256.key"),
    ];
    const RSA: [&[u8]; 2] = [
        include_bytes!("../tests/certificates/rsa.pem"),
        include_bytes!("../tests/certificates/rsa.key"),
    ];
    let pairs = [ECDSA, RSA].map(|[server, key]| {
        let chain = [server, INTERMEDIATE].concat();
        Pair::read(&chain, key, NOW).expect("it is good")
    });
    Arc::new(Certificates::new(&pairs).expect("there are two"))
}

/// Every suite of the server's.
pub fn suites() -> Vec<SupportedCipherSuite> {
    rustls_graviola::default_provider().cipher_suites
}

/// The client's and the server's end of a connection. They are the same each time.
pub fn ends(suite: SupportedCipherSuite) -> (Box<RecordLayer>, Box<RecordLayer>) {
    (layer(suite, 1, 2), layer(suite, 2, 1))
}

/// One record of any type and length. With TLS 1.3, zeros may follow its type.
pub fn craft(from: &mut RecordLayer, kind: u8, text: &[u8], zeros: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let aead = from.write.aead(from.cipher);
    let mut text = text.to_vec();
    let mut last = kind;
    if from.is_tls13() && zeros > 0 {
        text.push(kind);
        text.resize(text.len() + zeros - 1, 0);
        last = 0;
    }
    from.seal_record(&aead, last, &text, &mut out);
    out
}

/// Goes on to the next key for writing, without a word. With TLS 1.2 nothing happens.
pub fn go_on_to_next_write_key(of: &mut RecordLayer) {
    if let Some(suite) = of.suite {
        let updated = of.write.update(suite, of.cipher);
        debug_assert!(updated.is_some(), "the suite is the connection's");
    }
}

fn layer(suite: SupportedCipherSuite, read: u8, write: u8) -> Box<RecordLayer> {
    let cipher = cipher(suite.suite());
    let mut layer = RecordLayer::empty(suite.tls13(), cipher);
    for (direction, byte) in [(&mut layer.read, read), (&mut layer.write, write)] {
        let started = match suite.tls13() {
            Some(suite) => {
                let secret = vec![byte; suite.common.hash_provider.output_len()];
                direction.start_with_secret(suite, cipher, &secret)
            }
            None => direction.start(1, &AeadKey::from([byte; 32]), &Iv::from([byte; 12]), &[]),
        };
        debug_assert!(started.is_some(), "the secret is as long as its hash");
    }
    layer
}

pub(crate) fn cipher(suite: CipherSuite) -> Cipher {
    use CipherSuite as Suite;
    match suite {
        Suite::TLS13_CHACHA20_POLY1305_SHA256
        | Suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        | Suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => Cipher::ChaCha20Poly1305,
        Suite::TLS13_AES_256_GCM_SHA384
        | Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        | Suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => Cipher::Aes256Gcm,
        _ => Cipher::Aes128Gcm,
    }
}
