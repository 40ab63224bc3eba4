//! The certificates of `tests/certificates`.

use std::path::Path;
use std::time::Duration;

use presenced_tls::certificates::Pair;

/// 2026-11-29 00:00:00 UTC.
pub(crate) const NOW: Duration = Duration::from_secs(1_795_910_400);

pub(crate) fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
    std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The pair of `certificate`.pem and `key`.key.
pub(crate) fn pair(certificate: &str, key: &str) -> Pair {
    let (certificate_pem, key_pem) = (
        file(&format!("{certificate}.pem")),
        file(&format!("{key}.key")),
    );
    Pair::read(&certificate_pem, &key_pem, NOW)
        .unwrap_or_else(|error| panic!("{certificate}: {error}"))
}
