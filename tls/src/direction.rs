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

    /// Takes this key, with which `sequence` records were sealed or opened already, and, with TLS 1.3, the secret that it was
    /// made of. `None` if one of them is too long.
    pub(crate) fn start(
        &mut self,
        sequence: u64,
        key: &AeadKey,
        iv: &Iv,
        secret: &[u8],
    ) -> Option<()> {
        fill(&mut self.key, key.as_ref())?;
        fill(&mut self.iv, iv.as_ref())?;
        fill(&mut self.secret, secret)?;
        self.sequence = sequence;
        Some(())
    }

    /// Takes the first keys of this secret of TLS 1.3.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn start_with_secret(
        &mut self,
        suite: &Tls13CipherSuite,
        cipher: Cipher,
        secret: &[u8],
    ) -> Option<()> {
        fill(&mut self.secret, secret)?;
        self.derive(suite, cipher, &mut Keys::default())
    }

    /// Goes on in place of `other`, which is wiped when it is dropped. The secrets are copied to where they stay, and nowhere
    /// else.
    pub(crate) fn succeed(&mut self, other: &Direction) {
        self.secret.copy_from_slice(&other.secret);
        self.key.copy_from_slice(&other.key);
        self.iv.copy_from_slice(&other.iv);
        self.sequence = other.sequence;
    }

    /// Goes on to the next keys (RFC 8446 §7.2). `None` if the secret is not what the present keys were made of: rustls has
    /// told of them in two ways, and only here is it seen whether both agree. With the version for which this was made they do.
    pub(crate) fn update(&mut self, suite: &Tls13CipherSuite, cipher: Cipher) -> Option<()> {
        let mut keys = Keys::default();
        self.keys(suite, cipher, &mut keys)?;
        if keys.key != self.key || keys.iv != self.iv {
            return None;
        }
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
        self.derive(suite, cipher, &mut keys)
    }

    /// Goes on with the keys of the secret, whose first record has the number zero.
    fn derive(&mut self, suite: &Tls13CipherSuite, cipher: Cipher, keys: &mut Keys) -> Option<()> {
        self.keys(suite, cipher, keys)?;
        self.key.copy_from_slice(&keys.key);
        self.iv.copy_from_slice(&keys.iv);
        self.sequence = 0;
        Some(())
    }

    /// Puts the keys of the secret in `keys`.
    fn keys(&self, suite: &Tls13CipherSuite, cipher: Cipher, keys: &mut Keys) -> Option<()> {
        let expander = self.expander(suite)?;
        let key = keys.key.get_mut(..cipher.key_bytes())?;
        expand_label(expander.as_ref(), b"key", key)?;
        expand_label(expander.as_ref(), b"iv", &mut keys.iv)
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

/// Keys that are derived from a secret; wiped when they are dropped. What is moved leaves a copy behind.
#[derive(Default)]
struct Keys {
    key: [u8; 32],
    iv: [u8; 12],
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.key.zeroize();
        self.iv.zeroize();
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
    use crate::testing;

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
    fn keys_of_another_secret_have_no_next() {
        for suite in crate::provider().cipher_suites {
            let Some(suite) = suite.tls13() else {
                continue;
            };
            let cipher = testing::cipher(suite.common.suite);
            let secret = vec![1; suite.common.hash_provider.output_len()];
            let mut derived = Direction::empty();
            derived.start_with_secret(suite, cipher, &secret).unwrap();
            let next = |key: [u8; 32], iv: [u8; 12], secret: &[u8]| {
                let mut direction = Direction::empty();
                let started = direction.start(7, &AeadKey::from(key), &Iv::from(iv), secret);
                assert_eq!(started, Some(()));
                let updated = direction.update(suite, cipher);
                assert_eq!(updated.is_some(), direction.sequence == 0);
                updated
            };
            let (key, iv) = (derived.key, derived.iv);
            assert_eq!(next(key, iv, &secret), Some(()));
            let (mut other_key, mut other_iv, mut other_secret) = (key, iv, secret.clone());
            other_key[0] ^= 1;
            other_iv[11] ^= 1;
            other_secret[1] ^= 1;
            assert_eq!(next(other_key, iv, &secret), None);
            assert_eq!(next(key, other_iv, &secret), None);
            assert_eq!(next(key, iv, &other_secret), None);
        }
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
