use std::fs;

use presenced_testkit::temp::{TempFile, unique_path};

use super::super::sources::Asked;
use super::*;

/// 2026-11-29 00:00:00 UTC.
const NOW: Duration = Duration::from_secs(1_795_910_400);

/// The last second of most of the certificates: 2120-01-01 00:00:00 UTC.
const END: Duration = Duration::from_secs(4_733_510_400);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A copy of one of the test certificates of presenced-tls, or of their keys, that is its owner's alone.
fn file(name: &str) -> TempFile {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tls/tests/certificates");
    let copy = TempFile::new(&fs::read_to_string(folder.join(name)).unwrap());
    copy.set_mode(0o600);
    copy
}

fn check(
    certificates: &[&Path],
    keys: &[&Path],
    now: Duration,
) -> Result<(Option<Arc<Certificates>>, Vec<String>), String> {
    let own = |files: &[&Path]| files.iter().map(|&file| file.to_owned()).collect();
    let flags = TlsFlags {
        tls_cert: own(certificates),
        tls_key: own(keys),
    };
    let mut notices = Vec::new();
    let checked = flags.check(now, &mut notices);
    let warnings = notices.iter().map(|notice| match notice {
        Notice::Warning(text) => text.clone(),
        Notice::Hint(text) => panic!("{text}"),
    });
    let warnings = warnings.collect();
    checked
        .map(|checked| (checked, warnings))
        .map_err(|error| error.0)
}

/// What is said of a pair of these files, with `C` and `K` for their names.
fn refusal(certificate: &Path, key: &Path) -> String {
    let error = check(&[certificate], &[key], NOW).expect_err("must be refused");
    let error = error.replace(&certificate.display().to_string(), "C");
    error.replace(&key.display().to_string(), "K")
}

#[test]
fn without_certificates_there_is_no_tls() {
    let (certificates, warnings) = check(&[], &[], NOW).unwrap();
    assert!(certificates.is_none() && warnings.is_empty());
}

#[test]
fn pairs_are_read_in_their_order() {
    let [first, second] = ["p256.pem", "names.pem"].map(file);
    let key = file("p256.key");
    let (certificates, warnings) =
        check(&[first.path(), second.path()], &[key.path(); 2], NOW).unwrap();
    let certificates = certificates.unwrap();
    let names = certificates.pairs().iter().map(|pair| &pair.names()[0]);
    assert!(names.eq(["same.example", "upper.example"]));
    assert_eq!(certificates.expires_at(), END);
    assert!(warnings.is_empty(), "{warnings:?}");
    // Both may be in one file.
    let both = file("p256-both.pem");
    assert!(check(&[both.path()], &[both.path()], NOW).is_ok());
}

#[test]
fn as_many_keys_as_certificates_are_needed() {
    let [a, b] = ["/a.pem", "/b.pem"].map(Path::new);
    let refused = |certificates: &[&Path], keys: &[&Path]| {
        check(certificates, keys, NOW).expect_err("must be refused")
    };
    assert_eq!(
        refused(&[a, b], &[]),
        "--tls-cert /a.pem,/b.pem needs --tls-key: the private key of the certificate"
    );
    assert_eq!(
        refused(&[], &[a]),
        "--tls-key /a.pem needs --tls-cert: the certificate that the key belongs to"
    );
    assert_eq!(
        refused(&[a, b], &[a]),
        "--tls-cert /a.pem,/b.pem and --tls-key /a.pem: there must be as many keys as certificates, the first key for \
         the first certificate, and so on; here they are 1 and 2"
    );
    let many = [a; TLS_PAIRS_MAX + 1];
    assert_eq!(
        refused(&many, &many),
        "--tls-cert is given 257 times: 256 is the most"
    );
    // What is wrong with the first is told first, so all of these were read.
    let most = [a; TLS_PAIRS_MAX];
    assert!(refused(&most, &most).contains("No such file"));
}

#[test]
fn what_is_wrong_is_said_of_the_file_at_fault() {
    for (certificate, key, expected) in [
        (
            "p256.pem",
            "p384.key",
            "--tls-key K: is not the key of this certificate, --tls-cert C",
        ),
        (
            "p256.pem",
            "intermediate.pem",
            "--tls-key K: has no private key in PEM form",
        ),
        (
            "p256.pem",
            "encrypted.key",
            "--tls-key K: has an encrypted private key: remove its passphrase",
        ),
        (
            "rsa-short.pem",
            "rsa-short.key",
            "--tls-key K: has an RSA key of 1024 bits: at least 2048 are needed",
        ),
        (
            "p521.pem",
            "p521.key",
            "--tls-key K: has a private key that can't be used: it must be RSA (2048 to 8192 bits), ECDSA (P-256 or P-384) \
             or Ed25519",
        ),
        (
            "p384.key",
            "p256.key",
            "--tls-cert C: has no certificate in PEM form",
        ),
        (
            "unreadable.pem",
            "p256.key",
            "--tls-cert C: can't be read: its certificate number 1 is none by X.509",
        ),
        (
            "expired.pem",
            "p256.key",
            "--tls-cert C: has expired, on 2026-11-02 12:00:00 UTC",
        ),
        (
            "not-yet.pem",
            "p256.key",
            "--tls-cert C: is not valid until 2100-01-01 00:00:00 UTC",
        ),
        (
            "chain-expired.pem",
            "p256.key",
            "--tls-cert C: has a chain whose certificate number 2 has expired, on 2021-01-01 00:00:00 UTC",
        ),
        (
            "wrong-order.pem",
            "p256.key",
            "--tls-cert C: is in the wrong order: the server's certificate must be the first, and is number 2",
        ),
        (
            "no-names.pem",
            "p256.key",
            "--tls-cert C: names no host: it has no subject alternative name that is a DNS name or an IP address",
        ),
        (
            "for-clients.pem",
            "p256.key",
            "--tls-cert C: is not for servers: its extended key usage lacks serverAuth",
        ),
        (
            "authority.pem",
            "p256.key",
            "--tls-cert C: is the certificate of an authority: a server needs one of its own, which the authority has signed",
        ),
    ] {
        let (certificate_file, key_file) = (file(certificate), file(key));
        let said = refusal(certificate_file.path(), key_file.path());
        assert_eq!(said, expected, "{certificate} with {key}");
    }
}

#[test]
fn a_file_that_can_not_be_read_is_named() {
    let (certificate, key) = (file("p256.pem"), file("p256.key"));
    let (certificate, key) = (certificate.path(), key.path());
    let nowhere = unique_path();
    assert_eq!(
        refusal(&nowhere, key),
        "--tls-cert C: No such file or directory (os error 2)"
    );
    assert_eq!(
        refusal(certificate, &nowhere),
        "--tls-key K: No such file or directory (os error 2)"
    );
    let folder = std::env::temp_dir();
    let is_folder = "Is a directory (os error 21)";
    assert_eq!(refusal(&folder, key), format!("--tls-cert C: {is_folder}"));
    assert_eq!(
        refusal(certificate, &folder),
        format!("--tls-key K: {is_folder}")
    );
    // What never ends, and what is too long.
    let zeroes = Path::new("/dev/zero");
    let too_long = "has more than 262144 bytes";
    assert_eq!(refusal(zeroes, key), format!("--tls-cert C: {too_long}"));
    assert_eq!(
        refusal(certificate, zeroes),
        format!("--tls-key K: {too_long}")
    );
    let text = fs::read_to_string(certificate).unwrap();
    let padded = |bytes: usize| TempFile::new(&(text.clone() + &"\n".repeat(bytes - text.len())));
    let (longest, longer) = (padded(TLS_FILE_BYTES_MAX), padded(TLS_FILE_BYTES_MAX + 1));
    assert!(check(&[longest.path()], &[key], NOW).is_ok());
    assert_eq!(
        refusal(longer.path(), key),
        format!("--tls-cert C: {too_long}")
    );
}

#[test]
fn a_key_is_its_owners_alone() {
    let (certificate, key) = (file("p256.pem"), file("p256.key"));
    key.set_mode(0o644);
    let (_, warnings) = check(&[certificate.path()], &[key.path()], NOW).unwrap();
    let name = key.path().display();
    assert_eq!(
        warnings,
        [format!(
            "--tls-key {name}: every user of this machine can read the secret"
        )]
    );
    key.set_mode(0o620);
    let said = refusal(certificate.path(), key.path());
    assert!(
        said.starts_with("--tls-key K: others than its owner can write the secret"),
        "{said}"
    );
}

#[test]
fn a_certificate_is_warned_of_from_two_weeks_before_its_end_on() {
    let (certificate, key) = (file("p256.pem"), file("p256.key"));
    let warned = |now: Duration| check(&[certificate.path()], &[key.path()], now).unwrap().1;
    assert!(warned(END - 14 * DAY - Duration::from_secs(1)).is_empty());
    let name = certificate.path().display();
    // The same each time.
    for now in [END - 14 * DAY, END - DAY, END] {
        assert_eq!(
            warned(now),
            [format!(
                "--tls-cert {name}: expires on 2120-01-01 00:00:00 UTC; renew it before"
            )]
        );
    }
}

#[test]
fn an_rsa_key_is_warned_of_unless_it_is_for_old_clients_alone() {
    let of = |name: &str| [file(&format!("{name}.pem")), file(&format!("{name}.key"))];
    let ([ecdsa, ecdsa_key], [rsa, rsa_key]) = (of("p256"), of("rsa"));
    let wildcard = file("wildcard-rsa.pem");
    let [ecdsa, ecdsa_key, rsa, rsa_key, wildcard] =
        [&ecdsa, &ecdsa_key, &rsa, &rsa_key, &wildcard].map(TempFile::path);
    let warnings =
        |certificates: &[&Path], keys: &[&Path]| check(certificates, keys, NOW).unwrap().1;
    let alone = warnings(&[rsa], &[rsa_key]);
    assert_eq!(alone.len(), 1, "{alone:?}");
    assert!(alone[0].contains("is an RSA key"), "{alone:?}");
    // Its own name, rsa.example, is no other's.
    assert_eq!(warnings(&[ecdsa, rsa], &[ecdsa_key, rsa_key]).len(), 1);
    assert_eq!(warnings(&[rsa, ecdsa], &[rsa_key, ecdsa_key]).len(), 1);
    let names = file("wildcard.pem");
    let both = [names.path(), wildcard];
    assert!(warnings(&both, &[ecdsa_key, rsa_key]).is_empty());
    let other_order = [wildcard, names.path()];
    assert_eq!(warnings(&other_order, &[rsa_key, ecdsa_key]).len(), 1);
}

/// What settings that are read from the environment and a file say.
fn settings(
    environment: &[(&str, &Path)],
    text: &str,
) -> Result<Option<Arc<Certificates>>, String> {
    let environment = environment.iter();
    let environment = environment.map(|(name, file)| ((*name).into(), file.into()));
    let args = ["presenced".into(), "--config=/p.toml".into()];
    let asked = Asked::read(args, environment, |_| Ok(text.to_owned())).unwrap();
    let config = asked.settings.check().config;
    config
        .map(|config| config.gateway.tls)
        .map_err(|error| error.to_string())
}

#[test]
fn they_are_settings_as_all_others_are() {
    let [first, second, key] = ["p256.pem", "names.pem", "p256.key"].map(file);
    let [first, second, key] = [&first, &second, &key].map(TempFile::path);
    let text = format!("tls-cert = [{first:?}, {second:?}]\ntls-key = [{key:?}, {key:?}]\n");
    let read = settings(&[], &text).unwrap().unwrap();
    assert_eq!(read.pairs().len(), 2);
    // The environment comes before the file, and parts several by commas.
    let only_key = format!("tls-key = {key:?}\n");
    let of_environment = settings(&[("PRESENCED_TLS_CERT", first)], &only_key);
    assert_eq!(of_environment.unwrap().unwrap().pairs().len(), 1);
    let both = format!("{},{}", first.display(), second.display());
    let refused = settings(&[("PRESENCED_TLS_CERT", Path::new(&both))], &only_key).unwrap_err();
    for part in [
        format!("/p.toml:1: PRESENCED_TLS_CERT {both} and tls-key"),
        "here they are 1 and 2".to_owned(),
    ] {
        assert!(refused.contains(&part), "{refused}");
    }
}
