//! Files that are damaged give an error, or a pair that works: they never panic.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests may")]

mod common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use presenced_tls::certificates::{Pair, PairError, PairFile};

use self::common::{NOW, file, pair};

/// Each beginning, and each byte changed in several ways.
fn damaged(bytes: &[u8], changes: &'static [u8]) -> impl Iterator<Item = Vec<u8>> {
    let cut = (0..bytes.len()).map(|len| bytes[..len].to_vec());
    let changed = (0..bytes.len()).flat_map(move |at| {
        changes.iter().map(move |change| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= change;
            bytes
        })
    });
    cut.chain(changed)
}

const EACH_BIT: &[u8] = &[0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff];

fn der_of(pem: &[u8]) -> (String, Vec<u8>) {
    let pem = String::from_utf8(pem.to_vec()).unwrap();
    let mut lines = pem.lines();
    let begin = lines.next().unwrap();
    let label = begin
        .trim_matches('-')
        .strip_prefix("BEGIN ")
        .unwrap()
        .to_owned();
    let body: String = lines.take_while(|line| !line.starts_with('-')).collect();
    (label, STANDARD.decode(body).unwrap())
}

fn pem_of(label: &str, der: &[u8]) -> Vec<u8> {
    let body = STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n").into_bytes()
}

/// Reads each damaged form of a certificate. Returns how many still were one.
fn read_certificates(certificates: impl Iterator<Item = Vec<u8>>) -> usize {
    let key = file("p256.key");
    let read = certificates.filter(|certificate| match Pair::read(certificate, &key, NOW) {
        Ok(pair) => {
            assert!(!pair.names().is_empty());
            true
        }
        // The damage is in its public key.
        Err(PairError::OtherKey) => false,
        Err(error) => {
            assert_eq!(error.file(), PairFile::Certificate, "{error}");
            false
        }
    });
    read.count()
}

/// Reads each damaged form of a key. Returns how many still were that of the certificate.
fn read_keys(certificate: &str, keys: impl Iterator<Item = Vec<u8>>) -> usize {
    let certificate = file(certificate);
    let read = keys.filter(|key| match Pair::read(&certificate, key, NOW) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.file(), PairFile::Key, "{error}");
            false
        }
    });
    read.count()
}

#[test]
fn a_certificate_whose_pem_is_damaged_never_panics() {
    let pem = file("p256.pem");
    let good = read_certificates(damaged(&pem, &[0x01, 0x20, 0x80]));
    assert!(good < pem.len(), "{good}");
}

#[test]
fn a_certificate_whose_der_is_damaged_never_panics() {
    let (label, der) = der_of(&file("p256.pem"));
    let damaged = damaged(&der, EACH_BIT).map(|der| pem_of(&label, &der));
    // Serial numbers, names and signatures are the clients' affair.
    let good = read_certificates(damaged);
    assert!(good > 0 && good < der.len() * EACH_BIT.len(), "{good}");
}

#[test]
fn a_chain_whose_pem_is_cut_is_whole_or_refused() {
    let (pem, key) = (file("chain.pem"), file("p256.key"));
    let whole = pair("chain", "p256");
    let cut = (0..pem.len()).map(|len| Pair::read(&pem[..len], &key, NOW));
    let mut read = 0;
    for result in cut {
        match result {
            Ok(pair) => {
                assert_eq!(pair.names(), whole.names());
                read += 1;
            }
            Err(error) => assert_eq!(error.file(), PairFile::Certificate, "{error}"),
        }
    }
    // Between two certificates, and without the last bytes.
    assert!((1..50).contains(&read), "{read}");
}

#[test]
fn a_key_whose_pem_is_damaged_never_panics() {
    let pem = file("p256.key");
    read_keys("p256.pem", damaged(&pem, &[0x01, 0x20, 0x80]));
}

#[test]
fn a_small_key_whose_der_is_damaged_never_panics() {
    for (certificate, key) in [
        ("p256.pem", "p256.key"),
        ("p256.pem", "p256-sec1.key"),
        ("ed25519.pem", "ed25519.key"),
    ] {
        let (label, der) = der_of(&file(key));
        read_keys(
            certificate,
            damaged(&der, EACH_BIT).map(|der| pem_of(&label, &der)),
        );
    }
}

#[test]
fn an_rsa_key_whose_der_is_damaged_never_panics() {
    let (label, der) = der_of(&file("rsa.key"));
    let damaged = damaged(&der, &[0x01]).map(|der| pem_of(&label, &der));
    read_keys("rsa.pem", damaged);
}
