//! Which certificates and keys are taken, and what is said of the others.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests may")]

mod common;

use std::time::Duration;

use presenced_tls::certificates::{Certificates, Pair, PairError, PairFile};

use self::common::{NOW, file, pair};

/// 2120-01-01 00:00:00 UTC.
const END: Duration = Duration::from_secs(4_733_510_400);

fn refused(certificate: &str, key: &str) -> (PairFile, String) {
    let error = Pair::read(&file(certificate), &file(key), NOW).unwrap_err();
    (error.file(), error.to_string())
}

#[test]
fn a_pair_of_each_kind_and_form_of_key_is_read() {
    for (certificate, key, is_rsa) in [
        ("p256", "p256", false),
        ("p256", "p256-sec1", false),
        ("p256", "p256-sec1-parameters", false),
        ("p384", "p384", false),
        ("p384", "p384-sec1", false),
        ("ed25519", "ed25519", false),
        ("rsa", "rsa", true),
        ("rsa", "rsa-pkcs1", true),
    ] {
        let read = pair(certificate, key);
        let own_name = format!("{certificate}.example");
        assert_eq!(
            read.names(),
            ["same.example", &own_name, "127.0.0.1"],
            "{key}"
        );
        assert_eq!(read.is_rsa(), is_rsa, "{key}");
        assert_eq!(read.expires_at(), END, "{key}");
    }
}

#[test]
fn a_certificate_and_its_key_may_be_in_one_file() {
    let both = file("p256-both.pem");
    let read = Pair::read(&both, &both, NOW).unwrap();
    assert_eq!(read.names(), pair("p256", "p256").names());
}

#[test]
fn lines_may_end_as_on_windows() {
    let windows = |name| String::from_utf8(file(name)).unwrap().replace('\n', "\r\n");
    let (certificate, key) = (windows("chain.pem"), windows("p256.key"));
    let read = Pair::read(certificate.as_bytes(), key.as_bytes(), NOW).unwrap();
    assert_eq!(read.names(), pair("chain", "p256").names());
    let encrypted = windows("encrypted-old.key");
    let error = Pair::read(certificate.as_bytes(), encrypted.as_bytes(), NOW).unwrap_err();
    assert_eq!(error, PairError::EncryptedKey);
}

#[test]
fn names_are_hosts_and_addresses_in_lower_case() {
    let names = [
        "upper.example",
        "*.wild.example",
        "192.0.2.1",
        "2001:db8::1",
    ];
    assert_eq!(pair("names", "p256").names(), names);
}

#[test]
fn a_certificate_for_any_usage_is_for_servers() {
    assert_eq!(pair("any-usage", "p256").names(), ["a.example"]);
}

#[test]
fn a_chain_expires_with_the_first_of_its_certificates() {
    let chain = pair("chain", "p256");
    // The intermediate's: 2110-01-01 00:00:00 UTC.
    assert_eq!(chain.expires_at(), Duration::from_secs(4_417_977_600));
    // 2020-01-01 00:00:00 UTC.
    assert_eq!(chain.valid_from(), Duration::from_secs(1_577_836_800));
    let pairs = [pair("p256", "p256"), chain.clone(), pair("rsa", "rsa")];
    assert_eq!(
        Certificates::new(&pairs).unwrap().expires_at(),
        chain.expires_at()
    );
    let expiries = |pairs: &[Pair]| pairs.iter().map(Pair::expires_at).collect::<Vec<_>>();
    let certificates = Certificates::new(&pairs).unwrap();
    assert_eq!(expiries(certificates.pairs()), expiries(&pairs));
}

#[test]
fn no_pairs_are_no_certificates() {
    assert!(Certificates::new(&[]).is_none());
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_of_its_file() {
    for (certificate, key, expected) in [
        ("p256.key", "p256.key", "has no certificate in PEM form"),
        ("make.sh", "p256.key", "has no certificate in PEM form"),
        (
            "unreadable.pem",
            "p256.key",
            "can't be read: its certificate number 1 is none by X.509",
        ),
        (
            "wrong-order.pem",
            "p256.key",
            "is in the wrong order: the server's certificate must be the first, and is number 2",
        ),
        (
            "authority.pem",
            "p256.key",
            "is the certificate of an authority: a server needs one of its own, which the authority has signed",
        ),
        // With the key of the certificate that should be there.
        (
            "root.pem",
            "p256.key",
            "is the certificate of an authority: a server needs one of its own, which the authority has signed",
        ),
        (
            "for-clients.pem",
            "p256.key",
            "is not for servers: its extended key usage lacks serverAuth",
        ),
        (
            "no-names.pem",
            "p256.key",
            "names no host: it has no subject alternative name that is a DNS name or an IP address",
        ),
        (
            "email-only.pem",
            "p256.key",
            "names no host: it has no subject alternative name that is a DNS name or an IP address",
        ),
        (
            "expired.pem",
            "p256.key",
            "has expired, on 2026-11-02 12:00:00 UTC",
        ),
        (
            "not-yet.pem",
            "p256.key",
            "is not valid until 2100-01-01 00:00:00 UTC",
        ),
        (
            "chain-expired.pem",
            "p256.key",
            "has a chain whose certificate number 2 has expired, on 2021-01-01 00:00:00 UTC",
        ),
        (
            "chain-not-yet.pem",
            "p256.key",
            "has a chain whose certificate number 2 is not valid until 2100-01-01 00:00:00 UTC",
        ),
    ] {
        let expected = (PairFile::Certificate, expected.to_owned());
        assert_eq!(refused(certificate, key), expected, "{certificate}");
    }
}

#[test]
fn what_is_wrong_with_a_key_is_said_of_its_file() {
    let unusable = "has a private key that can't be used: it must be RSA (2048 to 8192 bits), ECDSA (P-256 or P-384) \
                    or Ed25519";
    for (certificate, key, expected) in [
        ("p256.pem", "p256.pem", "has no private key in PEM form"),
        (
            "p256.pem",
            "encrypted.key",
            "has an encrypted private key: remove its passphrase",
        ),
        (
            "rsa.pem",
            "encrypted-old.key",
            "has an encrypted private key: remove its passphrase",
        ),
        (
            "rsa-short.pem",
            "rsa-short.key",
            "has an RSA key of 1024 bits: at least 2048 are needed",
        ),
        (
            "rsa-short.pem",
            "rsa-short-pkcs1.key",
            "has an RSA key of 1024 bits: at least 2048 are needed",
        ),
        ("p521.pem", "p521.key", unusable),
        ("p256.pem", "p384.key", "is not the key of this certificate"),
        (
            "p256.pem",
            "intermediate.key",
            "is not the key of this certificate",
        ),
        ("rsa.pem", "p256.key", "is not the key of this certificate"),
    ] {
        let expected = (PairFile::Key, expected.to_owned());
        assert_eq!(
            refused(certificate, key),
            expected,
            "{certificate} with {key}"
        );
    }
}

#[test]
fn what_was_cut_off_is_broken() {
    let (certificate, key) = (file("chain.pem"), file("p256.key"));
    let cut = &certificate[..certificate.len() - 100];
    assert_eq!(
        Pair::read(cut, &key, NOW).unwrap_err(),
        PairError::BrokenCertificate
    );
    assert_eq!(PairError::BrokenCertificate.file(), PairFile::Certificate);
    let cut = &key[..key.len() - 100];
    assert_eq!(
        Pair::read(&certificate, cut, NOW).unwrap_err(),
        PairError::BrokenKey
    );
    assert_eq!(PairError::BrokenKey.file(), PairFile::Key);
}

#[test]
fn a_certificate_is_good_from_its_first_second_to_its_last() {
    let (certificate, key) = (file("expired.pem"), file("p256.key"));
    let read = |now| Pair::read(&certificate, &key, now).map(|_| ());
    let from = Duration::from_secs(1_577_836_800);
    let at = Duration::from_secs(1_793_620_800);
    let second = Duration::from_secs(1);
    assert_eq!(read(from - second), Err(PairError::NotValidYet { from }));
    assert_eq!(read(from), Ok(()));
    assert_eq!(read(at), Ok(()));
    assert_eq!(read(at + second), Err(PairError::Expired { at }));
    assert_eq!(read(Duration::ZERO), Err(PairError::NotValidYet { from }));
    assert_eq!(read(Duration::MAX), Err(PairError::Expired { at }));
}

#[test]
fn no_key_is_ever_shown() {
    let rsa = pair("rsa", "rsa");
    let shown = format!("{rsa:?}");
    assert_eq!(
        shown,
        r#"Pair { names: ["same.example", "rsa.example", "127.0.0.1"], expires_at: 4733510400s, .. }"#
    );
    let shown = format!("{:?}", Certificates::new(&[rsa]).unwrap());
    assert_eq!(shown, "Certificates { expires_at: 4733510400s, .. }");
}
