//! The AEADs that rustls's suites have, as graviola does them: in place, with a nonce that the caller must never use again.

use graviola::aead::{AesGcm, ChaCha20Poly1305};

/// Bytes that sealing adds behind the text.
pub(crate) const TAG_BYTES: usize = 16;

/// Which AEAD a connection has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cipher {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

impl Cipher {
    pub(crate) fn key_bytes(self) -> usize {
        match self {
            Cipher::Aes128Gcm => 16,
            Cipher::Aes256Gcm | Cipher::ChaCha20Poly1305 => 32,
        }
    }

    pub(crate) fn is_gcm(self) -> bool {
        self != Cipher::ChaCha20Poly1305
    }

    /// How many records one key may seal. GCM: RFC 8446 §5.5 has 2^24.5 records of full length, and RFC 9325 §4.4 asks TLS
    /// 1.2 for the same. This is a little less, as a margin for the alert or the key update that ends the key. For ChaCha20-Poly1305 the
    /// sequence number would end first.
    pub(crate) fn records_per_key_max(self) -> u64 {
        match self.is_gcm() {
            true => (1 << 24) - 16,
            false => u64::MAX - 16,
        }
    }
}

/// A key that is ready for use: for GCM some hundred bytes of tables, so it is made for each use and not kept.
#[expect(
    clippy::large_enum_variant,
    reason = "it lives on the stack, for one call"
)]
pub(crate) enum Aead {
    Gcm(AesGcm),
    ChaCha(ChaCha20Poly1305),
}

impl Aead {
    /// `key` has [`Cipher::key_bytes`], and zeros behind them.
    pub(crate) fn new(cipher: Cipher, key: &[u8; 32]) -> Aead {
        match cipher.is_gcm() {
            true => Aead::Gcm(AesGcm::new(&key[..cipher.key_bytes()])),
            false => Aead::ChaCha(ChaCha20Poly1305::new(*key)),
        }
    }

    /// Seals `text` where it stands; returns the tag.
    pub(crate) fn seal(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8]) -> [u8; TAG_BYTES] {
        let mut tag = [0; TAG_BYTES];
        match self {
            Aead::Gcm(aead) => aead.encrypt(&nonce, aad, text, &mut tag),
            Aead::ChaCha(aead) => aead.encrypt(&nonce, aad, text, &mut tag),
        }
        tag
    }

    /// Opens `text` where it stands. If the tag is wrong, `text` is zeros, and the answer false.
    #[must_use]
    pub(crate) fn open(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8], tag: &[u8]) -> bool {
        let opened = match self {
            Aead::Gcm(aead) => aead.decrypt(&nonce, aad, text, tag),
            Aead::ChaCha(aead) => aead.decrypt(&nonce, aad, text, tag),
        };
        opened.is_ok()
    }
}
