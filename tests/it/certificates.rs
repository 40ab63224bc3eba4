//! The certificates that clients are shown, as an operator meets them.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use presenced_testkit::process::{FREE_PORTS, Process, run};
use presenced_testkit::raw::get;
use presenced_testkit::server::metric;
use presenced_testkit::temp::{TempFile, unique_path};
use presenced_testkit::tokens::SECRET;
use presenced_testkit::{PATIENCE, until};
use rustix::process::Signal;
use tokio::process::Command;

const EXPIRY: &str = "tls_certificate_expiry_timestamp_seconds";

/// 2120-01-01 00:00:00 UTC, the end of most of the certificates.
const END: u64 = 4_733_510_400;

/// 2110-01-01 00:00:00 UTC, that of the intermediate authority.
const END_OF_CHAIN: u64 = 4_417_977_600;

const REFUSED: &str = "are refused; those from before stay in force";

/// One of the test certificates of presenced-tls, or of their keys.
fn text(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tls/tests/certificates");
    fs::read_to_string(folder.join(name)).unwrap()
}

/// A copy that is its owner's alone.
fn file(name: &str) -> TempFile {
    let copy = TempFile::new(&text(name));
    copy.set_mode(0o600);
    copy
}

fn certificate_flag(file: &Path) -> String {
    format!("--tls-cert={}", file.display())
}

fn key_flag(file: &Path) -> String {
    format!("--tls-key={}", file.display())
}

async fn expiry(process: &Process) -> u64 {
    metric(&get(process.admin(), "/metrics").await, EXPIRY)
}

/// The certificate that a client is shown who asks for this host and trusts the authority of the tests, by its subject.
async fn shown(edge: SocketAddr, host: &str) -> String {
    let authority = Path::new(env!("CARGO_MANIFEST_DIR")).join("tls/tests/certificates/root.pem");
    let mut client = Command::new("openssl");
    client.args(["s_client", "-verify_return_error", "-connect"]);
    client.args([&edge.to_string(), "-servername", host, "-CAfile"]);
    let output = client.arg(authority).stdin(Stdio::null()).output().await;
    let output = output.unwrap_or_else(|error| panic!("openssl: {error}; is it installed?"));
    let [text, errors] = said(&output);
    assert!(output.status.success(), "{text} {errors}");
    let subject = text.split_once("subject=CN = presenced test ");
    let (_, rest) = subject.unwrap_or_else(|| panic!("{text}"));
    rest.split_whitespace().next().unwrap().to_owned()
}

/// What it says on stdout and stderr, each in one line: lines may be wrapped.
fn said(output: &Output) -> [String; 2] {
    [&output.stdout, &output.stderr].map(|bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    })
}

/// A folder as certbot keeps it: `live` has links to files of `archive`, which are replaced one after the other.
struct Live(PathBuf);

impl Live {
    fn new() -> Live {
        let folder = unique_path();
        fs::create_dir_all(folder.join("archive")).unwrap();
        fs::create_dir(folder.join("live")).unwrap();
        Live(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join("live").join(name)
    }

    /// `name` is another file from now on.
    fn link(&self, name: &str, version: &str, content: &str) {
        let target = self.0.join("archive").join(format!("{version}-{name}"));
        fs::write(&target, content).unwrap();
        fs::set_permissions(&target, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let next = self.0.join("live").join("next");
        symlink(&target, &next).unwrap();
        fs::rename(next, self.file(name)).unwrap();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn a_server_with_certificates_says_so() {
    let (certificate, key) = (file("chain.pem"), file("p256.key"));
    let flags = [
        certificate_flag(certificate.path()),
        key_flag(key.path()),
        "--drain=0s".to_owned(),
    ];
    let process = Process::start(&flags.each_ref().map(String::as_str)).await;
    assert!(
        process
            .greeting
            .contains(&format!("edge     https://{}/\n", process.edge())),
        "{}",
        process.greeting
    );
    // Operators need none.
    assert_eq!(expiry(&process).await, END_OF_CHAIN);
    process.signal(Signal::TERM);
    let (status, log) = process.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("WARN"), "{log}");

    let plain = Process::start(&[]).await;
    assert!(
        plain.greeting.contains("edge     http://"),
        "{}",
        plain.greeting
    );
    let metrics = get(plain.admin(), "/metrics").await.body;
    assert!(!metrics.contains(EXPIRY), "{metrics}");
}

#[tokio::test]
async fn a_pair_that_can_not_work_ends_it_with_2() {
    let (certificate, other_key) = (file("p256.pem"), file("p384.key"));
    let flags = [
        certificate_flag(certificate.path()),
        key_flag(other_key.path()),
    ];
    let [certificate_flag, key_flag] = flags.each_ref().map(String::as_str);
    let output = run(
        &[FREE_PORTS, &[certificate_flag, key_flag]].concat(),
        Some(SECRET),
    )
    .await;
    let [_, error] = said(&output);
    assert_eq!(output.status.code(), Some(2), "{error}");
    let expected = format!(
        "--tls-key {}: is not the key of this certificate, --tls-cert {}",
        other_key.path().display(),
        certificate.path().display()
    );
    assert!(error.contains(&expected), "{error}");
    assert!(!error.contains("PRIVATE KEY"), "{error}");
    let output = run(&["check", certificate_flag], Some(SECRET)).await;
    let [_, error] = said(&output);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("needs --tls-key"), "{error}");
}

#[tokio::test]
async fn commands_about_settings_know_them() {
    let files = ["p256.pem", "names.pem", "p256.key", "rsa.pem", "rsa.key"].map(file);
    let [ecdsa, names, ecdsa_key, rsa, rsa_key] = files.each_ref().map(TempFile::path);
    let config = TempFile::new(&format!(
        "tls-cert = [{ecdsa:?}, {names:?}, {rsa:?}]\ntls-key = [{ecdsa_key:?}, {ecdsa_key:?}, {rsa_key:?}]\n"
    ));
    let config = format!("--config={}", config.path().display());
    let output = run(&[&["check", &config], FREE_PORTS].concat(), Some(SECRET)).await;
    let [report, _] = said(&output);
    assert_eq!(output.status.code(), Some(0), "{report}");
    for part in [
        "ok tls 3 certificates for *.wild.example, 127.0.0.1, 192.0.2.1, 2001:db8::1, p256.example, rsa.example, same.example, \
         upper.example; the first to expire does so on 2120-01-01 00:00:00 UTC",
        &format!("ok file tls-cert {}: is read", names.display()),
        &format!("ok file tls-key {}: is read", rsa_key.display()),
        &format!("tls-key {}: is an RSA key", rsa_key.display()),
    ] {
        assert!(report.contains(part), "{part} in {report}");
    }

    let output = run(&["print-config", &config], Some(SECRET)).await;
    let [printed, _] = said(&output);
    let line = format!("tls-cert = [{ecdsa:?}, {names:?}, {rsa:?}] # file");
    assert!(printed.contains(&line), "{printed}");
    assert!(!printed.contains("PRIVATE KEY"), "{printed}");
    let plain = run(&["print-config"], Some(SECRET)).await;
    let [printed, _] = said(&plain);
    assert!(
        printed.contains("# tls-cert is not set: no TLS"),
        "{printed}"
    );

    // Its sessions are measured without TLS.
    let flags = [
        "capacity",
        "--probe-sessions=50",
        "--memcached=127.0.0.1:1",
        &config,
    ];
    let output = run(&flags, Some(SECRET)).await;
    let [report, _] = said(&output);
    assert_eq!(output.status.code(), Some(0), "{report}");
    for part in [
        "note measured 50 sessions on loopback",
        "note tls for each session 290 B of this process's memory",
    ] {
        assert!(report.contains(part), "{part} in {report}");
    }
}

#[tokio::test]
async fn a_renewal_is_taken_up_once_both_files_fit() {
    let live = Live::new();
    live.link("fullchain.pem", "1", &text("chain.pem"));
    live.link("privkey.pem", "1", &text("p256.key"));
    let (certificate, key) = (live.file("fullchain.pem"), live.file("privkey.pem"));
    let flags = [certificate_flag(&certificate), key_flag(&key)];
    let process = Process::start(&flags.each_ref().map(String::as_str)).await;
    assert_eq!(expiry(&process).await, END_OF_CHAIN);

    // The certificate is that of the next key: nothing changes, and one line says so.
    live.link("fullchain.pem", "2", &text("p384.pem"));
    process.logs(REFUSED).await;
    let why = format!(
        "--tls-key {}: is not the key of this certificate, --tls-cert {}",
        key.display(),
        certificate.display()
    );
    assert_eq!(process.logged(&why), 1);
    assert_eq!(expiry(&process).await, END_OF_CHAIN);
    live.link("privkey.pem", "2", &text("p384.key"));
    process.logs("taken up: --tls-cert, --tls-key").await;
    assert_eq!(expiry(&process).await, END);
    let stale = metric(&get(process.admin(), "/metrics").await, "settings_stale");
    assert_eq!(stale, 0);
    assert_eq!(process.logged(REFUSED), 1);

    // The same key with another certificate.
    live.link("privkey.pem", "3", &text("p256.key"));
    live.link("fullchain.pem", "3", &text("chain.pem"));
    until("both are taken up", PATIENCE, async || {
        expiry(&process).await == END_OF_CHAIN
    })
    .await;
    live.link("fullchain.pem", "4", &text("p256.pem"));
    until("the certificate is taken up", PATIENCE, async || {
        expiry(&process).await == END
    })
    .await;
    process.logs("taken up: --tls-cert\n").await;
}

#[tokio::test]
async fn clients_are_shown_the_certificate_of_their_host_and_the_new_one_after_a_reload() {
    let chain = |name: &str| {
        let chain = TempFile::new(&(text(&format!("{name}.pem")) + &text("intermediate.pem")));
        chain.set_mode(0o600);
        chain
    };
    let (first, names, key) = (chain("first"), chain("names"), file("p256.key"));
    let flags = [
        certificate_flag(first.path()),
        key_flag(key.path()),
        certificate_flag(names.path()),
        key_flag(key.path()),
    ];
    let process = Process::start(&flags.each_ref().map(String::as_str)).await;
    let edge = process.edge();
    for (host, certificate) in [
        ("first.example", "first"),
        ("upper.example", "names"),
        ("a.wild.example", "names"),
        ("unknown.example", "first"),
    ] {
        assert_eq!(shown(edge, host).await, certificate, "{host}");
    }
    let next = chain("p256");
    fs::rename(next.path(), first.path()).unwrap();
    process.logs("taken up: --tls-cert").await;
    for (host, certificate) in [
        ("p256.example", "p256"),
        ("upper.example", "names"),
        ("first.example", "p256"),
    ] {
        assert_eq!(shown(edge, host).await, certificate, "{host}");
    }
}

#[tokio::test]
async fn certificates_come_and_go_but_turning_tls_on_or_off_needs_a_restart() {
    let files = ["p256.pem", "chain.pem", "p256.key", "expired.pem"].map(file);
    let [one, other, key, expired] = files.each_ref().map(TempFile::path);
    let of = |certificates: &[&Path]| {
        let keys = vec![key; certificates.len()];
        format!("tls-cert = {certificates:?}\ntls-key = {keys:?}\n")
    };
    let config = TempFile::new(&of(&[one]));
    let flag = format!("--config={}", config.path().display());
    let process = Process::start(&[&flag]).await;
    assert_eq!(expiry(&process).await, END);
    let next = async |text: &str, log: &str| {
        fs::write(config.path(), text).unwrap();
        process.signal(Signal::HUP);
        process.logs(log).await;
    };
    next(&of(&[one, other]), "taken up: --tls-cert, --tls-key").await;
    assert_eq!(expiry(&process).await, END_OF_CHAIN);
    // All or nothing.
    let wrong = of(&[one, expired]) + "serve-health = true\n";
    next(&wrong, "has expired, on 2026-11-02 12:00:00 UTC").await;
    assert_eq!(expiry(&process).await, END_OF_CHAIN);
    assert_eq!(process.logged("taken up: --serve-health"), 0);

    next(
        "serve-health = true\n",
        "these need a restart: --tls-cert, --tls-key",
    )
    .await;
    process.logs("taken up: --serve-health").await;
    assert_eq!(expiry(&process).await, END_OF_CHAIN);
    next(
        &of(&[one]),
        "taken up: --serve-health, --tls-cert, --tls-key",
    )
    .await;
    assert_eq!(expiry(&process).await, END);

    let plain = TempFile::new("");
    let process = Process::start(&[&format!("--config={}", plain.path().display())]).await;
    fs::write(plain.path(), of(&[one])).unwrap();
    process.signal(Signal::HUP);
    process
        .logs("these need a restart: --tls-cert, --tls-key")
        .await;
    let metrics = get(process.admin(), "/metrics").await.body;
    assert!(!metrics.contains(EXPIRY), "{metrics}");
}

/// Runs a line of the shell in a folder, where nobody else may read what it makes.
async fn shell(line: &str, folder: &Path) {
    let made = Command::new("bash")
        .args(["-ec", &format!("umask 077; {line}")])
        .current_dir(folder)
        .output()
        .await
        .unwrap();
    assert!(made.status.success(), "is openssl installed? {made:?}");
}

/// The command for a trial in `docs/operations.md`.
#[tokio::test]
async fn a_certificate_as_documented_works() {
    let operations = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let operations = fs::read_to_string(operations).unwrap();
    let (_, rest) = operations.split_once("\nopenssl req -x509").unwrap();
    let (documented, _) = rest.split_once("\n```").unwrap();
    let folder = unique_path();
    fs::create_dir(&folder).unwrap();
    shell(&format!("openssl req -x509{documented}"), &folder).await;
    let flags = ["cert.pem", "key.pem"].map(|name| folder.join(name));
    let flags = [certificate_flag(&flags[0]), key_flag(&flags[1])];
    let output = run(&["check", &flags[0], &flags[1]], Some(SECRET)).await;
    let [report, _] = said(&output);
    assert!(
        report.contains("ok tls 1 certificate for 127.0.0.1, localhost;"),
        "{report}"
    );
    assert_eq!(output.status.code(), Some(0), "{report}");
    fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn a_certificate_that_expires_soon_is_warned_of_once() {
    const SOON: &str = "renew it before";
    let folder = unique_path();
    fs::create_dir(&folder).unwrap();
    let authority = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=authority \
                     -days 13 -keyout unused.key -out authority.pem";
    shell(authority, &folder).await;
    // It is as good as its chain.
    let authority = fs::read_to_string(folder.join("authority.pem")).unwrap();
    let certificate = TempFile::new(&(text("p256.pem") + &authority));
    let key = file("p256.key");
    let flags = [certificate_flag(certificate.path()), key_flag(key.path())];
    let process = Process::start(&[&flags[0], &flags[1], "--drain=0s"]).await;
    let name = certificate.path().display();
    process
        .logs(&format!("--tls-cert {name}: expires on"))
        .await;
    // A reload tells it no second time.
    process.signal(Signal::HUP);
    process.logs("nothing has changed").await;
    process.signal(Signal::TERM);
    let (_, log) = process.ended().await;
    assert_eq!(log.matches(SOON).count(), 1, "{log}");
    fs::remove_dir_all(&folder).unwrap();
}
