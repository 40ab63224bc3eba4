//! Scanners that others wrote look for faults in the server's TLS: sslyze and testssl.sh.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output};

use presenced_testkit::server::TestServer;
use presenced_testkit::temp::unique_path;
use presenced_tls::testing::{AUTHORITY_FILE, HOST};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

async fn output(mut command: Command) -> Output {
    let name = format!("{command:?}");
    let output = spawn_blocking(move || command.output()).await.unwrap();
    output.unwrap_or_else(|error| panic!("{name}: {error}; see make setup"))
}

/// A file of JSON that the scanner writes.
fn take_json<T: DeserializeOwned>(path: &Path, output: &Output) -> T {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let _ = std::fs::remove_file(path);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What sslyze writes. Keys of RSA are numbers in it, too large for what reads all of it.
#[derive(Deserialize)]
struct Report {
    server_scan_results: [Scanned; 1],
}

#[derive(Deserialize)]
struct Scanned {
    scan_result: BTreeMap<String, Box<RawValue>>,
}

#[derive(Deserialize)]
struct Scan<T> {
    status: String,
    result: T,
}

#[derive(Deserialize)]
struct Chains {
    certificate_deployments: Vec<Chain>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Chain {
    received_chain_has_valid_order: bool,
    received_chain_contains_anchor_certificate: bool,
    verified_chain_has_sha1_signature: bool,
}

impl Report {
    /// What one of its scans has found.
    fn of<T: DeserializeOwned>(&self, scan: &str) -> T {
        let found = self.server_scan_results[0].scan_result[scan].get();
        let scan: Scan<T> = serde_json::from_str(found).unwrap();
        scan.result
    }
}

/// All that sslyze looks for.
const SSLYZE: &[&str] = &[
    "--certinfo",
    "--sslv2",
    "--sslv3",
    "--tlsv1",
    "--tlsv1_1",
    "--tlsv1_2",
    "--tlsv1_3",
    "--early_data",
    "--compression",
    "--openssl_ccs",
    "--fallback",
    "--heartbleed",
    "--robot",
    "--reneg",
    "--resum",
    "--elliptic_curves",
    "--ems",
    "--http_headers",
    "--mozilla_config=intermediate",
];

/// What it says against Mozilla's recommendations, and why that is right here.
const SSLYZE_ACCEPTED: &[&str] = &[
    // The certificates of these tests never expire. Those of an operator are the operator's.
    "maximum_certificate_lifespan",
];

#[tokio::test]
async fn sslyze_finds_nothing() {
    let server = TestServer::start_tls(&[]).await;
    let report = unique_path();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/sslyze");
    let mut command = Command::new(program);
    command
        .args(SSLYZE)
        .args(["--certinfo_ca_file", AUTHORITY_FILE, "--sni", HOST])
        .arg(format!("--json_out={}", report.display()))
        .arg(server.edge.to_string());
    let output = output(command).await;
    let report: Report = take_json(&report, &output);
    for (name, scan) in &report.server_scan_results[0].scan_result {
        let read: Scan<IgnoredAny> = serde_json::from_str(scan.get()).unwrap();
        assert_eq!(read.status, "COMPLETED", "{name}: {scan}");
    }
    let of = |scan: &str| -> Value { report.of(scan) };
    for (version, suites) in [
        ("ssl_2_0", &[][..]),
        ("ssl_3_0", &[]),
        ("tls_1_0", &[]),
        ("tls_1_1", &[]),
        (
            "tls_1_2",
            &[
                "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
                "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
                "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
                "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
                "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            ],
        ),
        (
            "tls_1_3",
            &[
                "TLS_AES_128_GCM_SHA256",
                "TLS_AES_256_GCM_SHA384",
                "TLS_CHACHA20_POLY1305_SHA256",
            ],
        ),
    ] {
        let accepted = of(&format!("{version}_cipher_suites"));
        let accepted = accepted["accepted_cipher_suites"].as_array().unwrap();
        let accepted = accepted.iter();
        let accepted: BTreeSet<_> = accepted
            .map(|suite| suite["cipher_suite"]["name"].as_str().unwrap())
            .collect();
        assert_eq!(accepted, suites.iter().copied().collect(), "{version}");
    }
    for (scan, expected) in [
        ("tls_1_3_early_data", json!({"supports_early_data": false})),
        ("tls_compression", json!({"supports_compression": false})),
        (
            "openssl_ccs_injection",
            json!({"is_vulnerable_to_ccs_injection": false}),
        ),
        ("tls_fallback_scsv", json!({"supports_fallback_scsv": true})),
        ("heartbleed", json!({"is_vulnerable_to_heartbleed": false})),
        (
            "robot",
            json!({"robot_result": "NOT_VULNERABLE_RSA_NOT_SUPPORTED"}),
        ),
        (
            "session_renegotiation",
            json!({
                "supports_secure_renegotiation": true,
                "is_vulnerable_to_client_renegotiation_dos": false,
                "client_renegotiations_success_count": 0,
            }),
        ),
        (
            "tls_extended_master_secret",
            json!({"supports_ems_extension": true}),
        ),
    ] {
        assert_eq!(of(scan), expected, "{scan}");
    }
    // Each chain is one that leads to its authority, in order.
    let chains: Chains = report.of("certificate_info");
    let good = || Chain {
        received_chain_has_valid_order: true,
        received_chain_contains_anchor_certificate: false,
        verified_chain_has_sha1_signature: false,
    };
    assert_eq!(chains.certificate_deployments, [good(), good()]);
    // It takes a ticket for refused that is renewed, as RFC 5077 §3.3 allows; so the server is asked.
    let resumption = of("session_resumption");
    let tried = resumption["tls_ticket_attempted_resumptions_count"].as_u64();
    let resumed = "tls_handshakes_total{version=\"1.2\",resumed=\"yes\"}";
    assert_eq!(Some(server.metric(resumed).await), tried);
    assert_eq!(resumption["session_id_successful_resumptions_count"], 0);

    let printed = String::from_utf8_lossy(&output.stdout);
    let (_, against) = printed.split_once("Not compliant.").expect("it is read");
    let against = against
        .lines()
        .filter_map(|line| line.trim().strip_prefix("* "));
    let against = against.map(|line| line.split_once(':').map_or(line, |(name, _)| name));
    for name in against {
        assert!(SSLYZE_ACCEPTED.contains(&name), "{printed}");
    }
}

/// What testssl.sh finds, and why that is right here.
const TESTSSL_ACCEPTED: &[&str] = &[
    // Says nothing about the server: Debian's OpenSSL has no GOST.
    "engine_problem",
    // A browser would be told to speak TLS with a site's whole host for months. That is for the site to say.
    "HSTS",
    // Every suite that the server has is a good one, so clients may choose the one that they are fast with, as Mozilla's
    // recommendations have it, too.
    "cipher_order",
    // The certificates of these tests never expire, and nobody revokes them. Those of an operator are the operator's.
    "cert_validityPeriod",
    "cert_revocation",
];

/// Protocols, kinds of suites, forward secrecy, known vulnerabilities, and what HTTP says: half a minute's worth. `make soak`
/// has everything, with 370 suites and some forty simulated clients, which takes two.
const TESTSSL_SOME: &[&str] = &["-p", "-s", "-f", "-U", "-h"];

#[tokio::test]
async fn testssl_finds_nothing() {
    let scans = match std::env::var_os("TESTSSL_ALL") {
        Some(_) => &[],
        None => TESTSSL_SOME,
    };
    let server = TestServer::start_tls(&[]).await;
    let report = unique_path().with_extension("json");
    let mut command = Command::new("testssl");
    command
        .args(["--quiet", "--color=0", "--warnings=batch", "--nodns=none"])
        .args(["--ip=127.0.0.1", "--add-ca", AUTHORITY_FILE])
        .arg(format!("--jsonfile={}", report.display()))
        .args(scans)
        .arg(format!("https://{HOST}:{}", server.edge.port()));
    let output = output(command).await;
    let findings: Vec<Value> = take_json(&report, &output);
    let accepted = |finding: &Value| {
        let id = finding["id"].as_str().unwrap();
        // Of several certificates each has its own.
        let name = id.split(' ').next().unwrap();
        let is_good = ["OK", "INFO"].contains(&finding["severity"].as_str().unwrap());
        is_good || TESTSSL_ACCEPTED.contains(&name)
    };
    let faults: Vec<_> = findings.iter().filter(|found| !accepted(found)).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    // It has been to the end, and has seen both versions.
    let find = |id: &str| findings.iter().find(|finding| finding["id"] == id);
    assert_eq!(find("TLS1_2").unwrap()["finding"], "offered");
    assert_eq!(find("TLS1_3").unwrap()["finding"], "offered with final");
    assert!(find("RC4").is_some(), "{findings:#?}");
}
