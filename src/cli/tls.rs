//! The certificates that clients are shown.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use presenced_memcached::settings_file;
use presenced_tls::certificates::{Certificates, Pair, PairError, PairFile, utc};
use zeroize::Zeroizing;

use super::secret::check_access;
use super::{Notice, SettingsError};
use crate::gateway::tls::expires_soon_from;
use crate::limits::{TLS_FILE_BYTES_MAX, TLS_PAIRS_MAX};

const CERTIFICATE: &str = "--tls-cert";
const KEY: &str = "--tls-key";

/// TLS on the addresses for clients.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "TLS for clients")]
pub struct TlsFlags {
    /// PEM file with a certificate, followed by those of its chain: the addresses for clients then
    /// speak TLS (https, wss) and nothing else; may be repeated, and each client gets the
    /// certificate of the host that it asks for [default: no TLS]
    #[arg(
        long,
        env = "PRESENCED_TLS_CERT",
        value_name = "FILE",
        value_delimiter = ','
    )]
    pub tls_cert: Vec<PathBuf>,

    /// PEM file with the private key of a certificate: ECDSA (P-256 or P-384; recommended), RSA or
    /// Ed25519; may be repeated, the first key for the first --tls-cert, and so on
    #[arg(
        long,
        env = "PRESENCED_TLS_KEY",
        value_name = "FILE",
        value_delimiter = ','
    )]
    pub tls_key: Vec<PathBuf>,
}

impl TlsFlags {
    /// What clients are shown, if they are to speak TLS. `now` is the time since the Unix epoch.
    pub(super) fn check(
        &self,
        now: Duration,
        notices: &mut Vec<Notice>,
    ) -> Result<Option<Arc<Certificates>>, SettingsError> {
        let (certificates, keys) = (&self.tls_cert, &self.tls_key);
        match (certificates.len(), keys.len()) {
            (_, 0) if !certificates.is_empty() => refuse!(
                "{CERTIFICATE} {} needs {KEY}: the private key of the certificate",
                list(certificates)
            ),
            (0, 1..) => refuse!(
                "{KEY} {} needs {CERTIFICATE}: the certificate that the key belongs to",
                list(keys)
            ),
            (certificate_count, key_count) if certificate_count != key_count => refuse!(
                "{CERTIFICATE} {} and {KEY} {}: there must be as many keys as certificates, the first key for the first \
                 certificate, and so on; here they are {key_count} and {certificate_count}",
                list(certificates),
                list(keys)
            ),
            (count, _) if count > TLS_PAIRS_MAX => {
                refuse!("{CERTIFICATE} is given {count} times: {TLS_PAIRS_MAX} is the most")
            }
            _ => {}
        }
        let mut pairs = Vec::with_capacity(certificates.len());
        for (certificate, key) in certificates.iter().zip(keys) {
            let pair = read(certificate, key, now, notices)?;
            notices.extend(expiry(certificate, &pair, now));
            notices.extend(cost(key, &pair, &pairs));
            pairs.push(pair);
        }
        Ok(Certificates::new(&pairs).map(Arc::new))
    }
}

/// Reads a pair, and says which of its files is at fault if it can't be used.
fn read(
    certificate: &Path,
    key: &Path,
    now: Duration,
    notices: &mut Vec<Notice>,
) -> Result<Pair, SettingsError> {
    let certificate_pem = content(CERTIFICATE, certificate)?;
    // It is wiped, whatever comes of it.
    let key_pem = Zeroizing::new(content(KEY, key)?);
    let pair = Pair::read(&certificate_pem, &key_pem, now).map_err(|error| {
        let of_key = || format!("{KEY} {}", key.display());
        let of_certificate = || format!("{CERTIFICATE} {}", certificate.display());
        SettingsError(match (&error, error.file()) {
            // Of several, it must be known which it was tried with.
            (PairError::OtherKey, _) => format!("{}: {error}, {}", of_key(), of_certificate()),
            (_, PairFile::Key) => format!("{}: {error}", of_key()),
            (_, PairFile::Certificate) => format!("{}: {error}", of_certificate()),
        })
    })?;
    check_access(KEY, key, notices)?;
    Ok(pair)
}

fn content(flag: &str, file: &Path) -> Result<Vec<u8>, SettingsError> {
    settings_file::read(file, TLS_FILE_BYTES_MAX)
        .map_err(|why| SettingsError(format!("{flag} {}: {why}", file.display())))
}

/// A warning of a certificate that should have been renewed. It says when, not how soon: the same text at each reload is
/// told once.
fn expiry(file: &Path, pair: &Pair, now: Duration) -> Option<Notice> {
    (now >= expires_soon_from(pair)).then(|| {
        Notice::Warning(format!(
            "{CERTIFICATE} {}: expires on {}; renew it before",
            file.display(),
            utc(pair.expires_at())
        ))
    })
}

/// A warning of an RSA key, unless it is there for old clients alone: others get a certificate that comes before it.
fn cost(file: &Path, pair: &Pair, before: &[Pair]) -> Option<Notice> {
    let is_for_others = |name: &String| {
        let mut cheap = before.iter().filter(|pair| !pair.is_rsa());
        !cheap.any(|pair| pair.names().contains(name))
    };
    (pair.is_rsa() && pair.names().iter().any(is_for_others)).then(|| {
        Notice::Warning(format!(
            "{KEY} {}: is an RSA key, with which a handshake costs seven times the CPU time that it costs with an ECDSA key (P-256)",
            file.display()
        ))
    })
}

/// As they would be written behind one flag.
fn list(files: &[PathBuf]) -> String {
    let files = files.iter().map(|file| file.display().to_string());
    files.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
