//! The keys of one direction of a connection, and how many records they have sealed or opened.

use rustls::Tls13CipherSuite;
use rustls::crypto::cipher::{AeadKey, Iv};
use rustls::crypto::tls13::{HkdfExpander, OkmBlock};
use zeroize::Zeroize;

use crate::cipher::{Aead, Cipher};

/// SHA-384's length, the longest of all suites.
const SECRET_BYTES_MAX: usize = 48;

/// One direction. It can't be cloned: two copies would use a nonce twice.
pub(crate) struct Direction {
    /// The traffic secret (RFC 8446 §7.1), and zeros behind it; zeros alone with TLS 1.2, whose keys stay.
    secret: [u8; SECRET_BYTES_MAX],
    /// The key, and zeros behind it.
    key: [u8; 32],
    iv: [u8; 12],
    /// The number of the next record.
    sequence: u64,
}

impl Direction {
    /// One without keys. They are put in where it stays: what is moved leaves a copy behind.
    pub(crate) fn empty() -> Direction {
        Direction {
            secret: [0; SECRET_BYTES_MAX],
            key: [0; 32],
            iv: [0; 12],
            sequence: 0,
        }
    }

    /// Takes this key of TLS 1.2, with which `sequence` records were sealed or opened already.
    pub(crate) fn start_tls12(&mut self, sequence: u64, key: &AeadKey, iv: &Iv) -> Option<()> {
        fill(&mut self.key, key.as_ref())?;
        fill(&mut self.iv, iv.as_ref())?;
        self.sequence = sequence;
        Some(())
    }

    /// Takes the first keys of this secret of TLS 1.3, with which `sequence` records were sealed or opened already. Returns
    /// `None` if the secret is not one of the suite's.
    pub(crate) fn start_tls13(
        &mut self,
        suite: &Tls13CipherSuite,
        cipher: Cipher,
        sequence: u64,
        secret: &[u8],
    ) -> Option<()> {
        if secret.len() != suite.common.hash_provider.output_len() {
            return None;
        }
        fill(&mut self.secret, secret)?;
        self.derive(suite, cipher)?;
        self.sequence = sequence;
        Some(())
    }

    /// Goes on in place of `other`, which is wiped when it is dropped. The secrets are copied to where they stay, and nowhere
    /// else.
    pub(crate) fn succeed(&mut self, other: &Direction) {
        self.secret.copy_from_slice(&other.secret);
        self.key.copy_from_slice(&other.key);
        self.iv.copy_from_slice(&other.iv);
        self.sequence = other.sequence;
    }

    /// Whether these are its key and iv.
    pub(crate) fn has(&self, key: &AeadKey, iv: &Iv) -> bool {
        let key = key.as_ref();
        self.key.starts_with(key)
            && self.key[key.len()..].iter().all(|byte| *byte == 0)
            && self.iv == iv.as_ref()
    }

    /// Goes on to the next keys (RFC 8446 §7.2). `None` if the suite is not the connection's, and never else.
    pub(crate) fn update(&mut self, suite: &Tls13CipherSuite, cipher: Cipher) -> Option<()> {
        let length = suite.common.hash_provider.output_len();
        let mut next = [0; SECRET_BYTES_MAX];
        let expanded = expand_label(
            self.expander(suite)?.as_ref(),
            b"traffic upd",
            next.get_mut(..length)?,
        );
        self.secret = next;
        next.zeroize();
        expanded?;
        self.derive(suite, cipher)
    }

    /// The keys of the secret. Their first record has the number zero.
    fn derive(&mut self, suite: &Tls13CipherSuite, cipher: Cipher) -> Option<()> {
        let expander = self.expander(suite)?;
        self.key.zeroize();
        expand_label(
            expander.as_ref(),
            b"key",
            &mut self.key[..cipher.key_bytes()],
        )?;
        expand_label(expander.as_ref(), b"iv", &mut self.iv)?;
        self.sequence = 0;
        Some(())
    }

    fn expander(&self, suite: &Tls13CipherSuite) -> Option<Box<dyn HkdfExpander>> {
        let length = suite.common.hash_provider.output_len();
        // It wipes itself when it is dropped.
        let block = OkmBlock::new(self.secret.get(..length)?);
        Some(suite.hkdf_provider.expander_for_okm(&block))
    }

    /// The key, ready for use.
    pub(crate) fn aead(&self, cipher: Cipher) -> Aead {
        Aead::new(cipher, &self.key)
    }

    /// Reads a byte of each part that is needed for a record.
    pub(crate) fn touch(&self) -> u8 {
        // The last is in another line of the cache, or the same.
        self.key[0] ^ self.sequence as u8
    }

    /// How many records the key may still seal.
    pub(crate) fn records_left(&self, cipher: Cipher) -> u64 {
        cipher.records_per_key_max().saturating_sub(self.sequence)
    }

    /// The number and the nonce of the next record. They are used up from now on, whatever comes of the record.
    pub(crate) fn next_record(&mut self) -> Record {
        let number = self.sequence;
        // A key that is used up seals no more; what is opened ends with the peer's, which can count no further.
        self.sequence = number.wrapping_add(1);
        let mut nonce = self.iv;
        for (byte, counted) in nonce[4..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= counted;
        }
        Record { number, nonce }
    }

    /// A nonce of TLS 1.2's GCM, a part of which came with the record (RFC 5288 §3).
    pub(crate) fn salted(&self, explicit: [u8; 8]) -> [u8; 12] {
        let mut nonce = self.iv;
        nonce[4..].copy_from_slice(&explicit);
        nonce
    }

    fn wipe(&mut self) {
        self.secret.zeroize();
        self.key.zeroize();
        self.iv.zeroize();
    }

    #[cfg(test)]
    pub(crate) fn set_sequence(&mut self, sequence: u64) {
        self.sequence = sequence;
    }
}

impl Drop for Direction {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// What is different for each record.
pub(crate) struct Record {
    /// How many there were before, with this key.
    pub(crate) number: u64,
    /// The iv and the number (RFC 8446 §5.3, RFC 7905 §2).
    pub(crate) nonce: [u8; 12],
}

/// The bytes, and zeros behind them. `None` if there is no room for them.
fn fill(place: &mut [u8], bytes: &[u8]) -> Option<()> {
    place.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(())
}

/// HKDF-Expand-Label without a context (RFC 8446 §7.1).
fn expand_label(expander: &dyn HkdfExpander, label: &[u8], out: &mut [u8]) -> Option<()> {
    const PREFIX: &[u8] = b"tls13 ";
    let length = u16::try_from(out.len()).ok()?.to_be_bytes();
    let label_length = [u8::try_from(PREFIX.len() + label.len()).ok()?];
    let info: [&[u8]; 5] = [&length, &label_length, PREFIX, label, &[0]];
    expander.expand_slice(&info, out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record_layer::RecordLayer;

    /// Two of these fit a type that can be cloned, and then this does not compile.
    trait IsNotClone<Which> {
        fn is_not_clone() {}
    }
    impl<T> IsNotClone<()> for T {}
    impl<T: Clone> IsNotClone<u8> for T {}

    #[test]
    fn neither_a_direction_nor_its_record_layer_can_be_cloned() {
        <Direction as IsNotClone<_>>::is_not_clone();
        <RecordLayer as IsNotClone<_>>::is_not_clone();
    }

    #[test]
    fn another_key_or_iv_is_not_its_own() {
        let mut direction = Direction::empty();
        let key = |byte| AeadKey::from([byte; 32]);
        let iv = |byte| Iv::from([byte; 12]);
        assert_eq!(direction.start_tls12(0, &key(1), &iv(2)), Some(()));
        assert!(direction.has(&key(1), &iv(2)));
        assert!(!direction.has(&key(3), &iv(2)));
        assert!(!direction.has(&key(1), &iv(3)));
    }

    #[test]
    fn secrets_are_wiped_when_it_is_dropped() {
        // It has nothing else to drop.
        assert!(std::mem::needs_drop::<Direction>());
        let mut direction = Direction {
            secret: [1; SECRET_BYTES_MAX],
            key: [1; 32],
            iv: [1; 12],
            sequence: 1,
        };
        direction.wipe();
        let left = [&direction.secret[..], &direction.key, &direction.iv].concat();
        assert!(left.iter().all(|byte| *byte == 0));
    }
}
