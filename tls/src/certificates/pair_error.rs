//! What can be wrong with a certificate and its key.

use std::time::Duration;

use thiserror::Error;
use x509_cert::der::DateTime;

/// Why a certificate and a key can't be used together. Each text ends a sentence that begins with the name
/// of the [`PairError::file`] which is at fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PairError {
    /// Perhaps an empty file, the key's, or one in DER form.
    #[error("has no certificate in PEM form")]
    NoCertificate,
    /// Perhaps a copy that was cut off.
    #[error("has a certificate whose PEM form is broken")]
    BrokenCertificate,
    /// PEM, but of something else.
    #[error("can't be read: its certificate number {number} is none by X.509")]
    UnreadableCertificate {
        /// Its place in the file, from 1.
        number: usize,
    },
    /// The key is that of another certificate of the same file.
    #[error(
        "is in the wrong order: the server's certificate must be the first, and is number {number}"
    )]
    WrongOrder {
        /// The place of the server's certificate in the file, from 1.
        number: usize,
    },
    /// Clients refuse it.
    #[error(
        "is the certificate of an authority: a server needs one of its own, which the authority has signed"
    )]
    OfAuthority,
    /// Clients refuse it.
    #[error("is not for servers: its extended key usage lacks serverAuth")]
    NotForServers,
    /// Clients look at no other name, such as the subject's.
    #[error(
        "names no host: it has no subject alternative name that is a DNS name or an IP address"
    )]
    NoNames,
    /// It was good once.
    #[error("has expired, on {}", utc(*.at))]
    Expired {
        /// Its last second, since the Unix epoch.
        at: Duration,
    },
    /// It will be good, or this machine's clock is wrong.
    #[error("is not valid until {}", utc(*.from))]
    NotValidYet {
        /// Its first second, since the Unix epoch.
        from: Duration,
    },
    /// Clients that need it to trust the server's will refuse that one.
    #[error("has a chain whose certificate number {number} has expired, on {}", utc(*.at))]
    ExpiredInChain {
        /// Its place in the file, from 1.
        number: usize,
        /// Its last second, since the Unix epoch.
        at: Duration,
    },
    /// Clients that need it to trust the server's will refuse that one.
    #[error("has a chain whose certificate number {number} is not valid until {}", utc(*.from))]
    NotValidYetInChain {
        /// Its place in the file, from 1.
        number: usize,
        /// Its first second, since the Unix epoch.
        from: Duration,
    },
    /// Perhaps an empty file, the certificate's, or one in DER form.
    #[error("has no private key in PEM form")]
    NoKey,
    /// Perhaps a copy that was cut off.
    #[error("has a private key whose PEM form is broken")]
    BrokenKey,
    /// Nobody is there to type the passphrase.
    #[error("has an encrypted private key: remove its passphrase")]
    EncryptedKey,
    /// Clients refuse it, too.
    #[error(
        "has an RSA key of {bits} bits: at least {} are needed",
        crate::limits::RSA_BITS_MIN
    )]
    ShortRsaKey {
        /// The length of its modulus.
        bits: usize,
    },
    /// Of a kind or a form that is not supported, or damaged.
    #[error(
        "has a private key that can't be used: it must be RSA (2048 to 8192 bits), ECDSA (P-256 or P-384) or Ed25519"
    )]
    UnusableKey,
    /// Perhaps an old key with a new certificate.
    #[error("is not the key of this certificate")]
    OtherKey,
}

/// One of the two files of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairFile {
    /// That of the certificate and its chain.
    Certificate,
    /// That of the private key.
    Key,
}

impl PairError {
    /// Which file is at fault.
    #[must_use]
    pub fn file(&self) -> PairFile {
        match self {
            PairError::NoCertificate
            | PairError::BrokenCertificate
            | PairError::UnreadableCertificate { .. }
            | PairError::WrongOrder { .. }
            | PairError::OfAuthority
            | PairError::NotForServers
            | PairError::NoNames
            | PairError::Expired { .. }
            | PairError::NotValidYet { .. }
            | PairError::ExpiredInChain { .. }
            | PairError::NotValidYetInChain { .. } => PairFile::Certificate,
            PairError::NoKey
            | PairError::BrokenKey
            | PairError::EncryptedKey
            | PairError::ShortRsaKey { .. }
            | PairError::UnusableKey
            | PairError::OtherKey => PairFile::Key,
        }
    }
}

/// A moment since the Unix epoch, for people: `2026-11-29 00:00:00 UTC`.
#[must_use]
pub fn utc(at: Duration) -> String {
    // A certificate has no date that is out of this range: years have four digits.
    let date = DateTime::from_unix_duration(at).unwrap_or(DateTime::INFINITY);
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC",
        date.year(),
        date.month(),
        date.day(),
        date.hour(),
        date.minutes(),
        date.seconds()
    )
}
