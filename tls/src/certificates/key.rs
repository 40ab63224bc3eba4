//! The private key of a certificate.

use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::sign::SigningKey;
use x509_cert::der::asn1::{AnyRef, OctetStringRef, UintRef};
use x509_cert::der::{self, Decode, NestedReader, Reader, SliceReader};
use x509_cert::spki::{AlgorithmIdentifierRef, ObjectIdentifier};

use super::pair_error::PairError;
use zeroize::Zeroizing;

use crate::limits::RSA_BITS_MIN;

/// One for each kind of key that can be used.
pub(super) const SCHEMES: [SignatureScheme; 4] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA256,
];

/// RFC 8017, A.1.
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// The first private key of a file, which has signed something: a key that is damaged says so at start-up
/// rather than to every client.
pub(super) fn read(key_pem: &[u8]) -> Result<Arc<dyn SigningKey>, PairError> {
    let key = match PrivateKeyDer::from_pem_slice(key_pem) {
        // What the provider gets of it is a copy, which is its own.
        Ok(key) => Zeroizing::new(key),
        Err(_) if is_encrypted(key_pem) => return Err(PairError::EncryptedKey),
        Err(pem::Error::NoItemsFound) => return Err(PairError::NoKey),
        Err(_) => return Err(PairError::BrokenKey),
    };
    match rsa_numbers(&key) {
        Err(_) => return Err(PairError::UnusableKey),
        Ok(Some(rsa)) => rsa.check()?,
        Ok(None) => {}
    }
    let provider = rustls_graviola::default_provider();
    let Ok(key) = provider.key_provider.load_private_key(key.clone_key()) else {
        return Err(PairError::UnusableKey);
    };
    let signature = key.choose_scheme(&SCHEMES).map(|signer| signer.sign(&[]));
    match signature {
        Some(Ok(_)) => Ok(key),
        _ => Err(PairError::UnusableKey),
    }
}

/// RFC 7468 has a label for it; what OpenSSL wrote before has a header.
fn is_encrypted(key_pem: &[u8]) -> bool {
    key_pem.split(|&byte| byte == b'\n').any(|line| {
        line.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
            || line.starts_with(b"Proc-Type: 4,ENCRYPTED")
    })
}

/// What an RSA key consists of (RFC 8017, A.1.2), as far as the provider neither says that it refuses it nor
/// checks it.
struct RsaNumbers<'a> {
    modulus: &'a [u8],
    prime1: &'a [u8],
    prime2: &'a [u8],
}

impl RsaNumbers<'_> {
    fn check(&self) -> Result<(), PairError> {
        let bits = bits(self.modulus);
        if bits < RSA_BITS_MIN {
            return Err(PairError::ShortRsaKey { bits });
        }
        // The provider computes with both in as many words, and panics if its debug assertions are on.
        if words(self.prime1) != words(self.prime2) {
            return Err(PairError::UnusableKey);
        }
        Ok(())
    }
}

/// They have no leading zeros but those of their first byte.
fn bits(number: &[u8]) -> usize {
    let unused = number.first().map_or(0, |byte| byte.leading_zeros());
    (number.len() * 8).saturating_sub(unused as usize)
}

fn words(number: &[u8]) -> usize {
    bits(number).div_ceil(64)
}

/// Returns `None` if the key is not RSA.
fn rsa_numbers<'a>(key: &'a PrivateKeyDer<'_>) -> der::Result<Option<RsaNumbers<'a>>> {
    match key {
        PrivateKeyDer::Pkcs1(key) => rsa_numbers_of_pkcs1(key.secret_pkcs1_der()).map(Some),
        PrivateKeyDer::Pkcs8(key) => {
            SliceReader::new(key.secret_pkcs8_der())?.sequence(|key: &mut NestedReader<'_, _>| {
                let _version = UintRef::decode(key)?;
                let algorithm = AlgorithmIdentifierRef::decode(key)?;
                let private_key = OctetStringRef::decode(key)?.as_bytes();
                skip_rest(key)?;
                if algorithm.oid != RSA_ENCRYPTION {
                    return Ok(None);
                }
                rsa_numbers_of_pkcs1(private_key).map(Some)
            })
        }
        _ => Ok(None),
    }
}

fn rsa_numbers_of_pkcs1(key: &[u8]) -> der::Result<RsaNumbers<'_>> {
    SliceReader::new(key)?.sequence(|key| {
        let _version = UintRef::decode(key)?;
        let modulus = UintRef::decode(key)?.as_bytes();
        let _public_exponent = UintRef::decode(key)?;
        let _private_exponent = UintRef::decode(key)?;
        let prime1 = UintRef::decode(key)?.as_bytes();
        let prime2 = UintRef::decode(key)?.as_bytes();
        skip_rest(key)?;
        Ok(RsaNumbers {
            modulus,
            prime1,
            prime2,
        })
    })
}

/// A sequence must be read to its end.
fn skip_rest<'a>(reader: &mut impl Reader<'a>) -> der::Result<()> {
    while !reader.is_finished() {
        AnyRef::decode(reader)?;
    }
    Ok(())
}
