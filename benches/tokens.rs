//! What it costs to check a token, by its algorithm, and beside it what the rest of a handshake costs in our
//! own code: reading the head is hyper's.
//!
//! `cargo bench --bench tokens -- [HS256] [ES256] [EdDSA] [RS256] [PS256] [upgrade]`

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a bench may panic"
)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use graviola::signing::ecdsa::{P256, SigningKey};
use graviola::signing::eddsa::Ed25519SigningKey;
use graviola::signing::rsa;
use http::{HeaderName, Request};
use presenced::tokens::key::read_keys;
use presenced::tokens::{Audience, Auth, Config, IssuerConfig, Key, Purpose, Rules, Secret};
use presenced_jwt::{Algorithm, EncodingKey, Header, encode};
use presenced_session::clock::unix_ms;
use presenced_session::handshake::{check_upgrade, switching_protocols};
use serde_json::{Value, json};

const SECRET: &[u8] = b"a secret of a benchmark, which is long enough";

/// Checks tokens with one key.
fn auth(key: Key) -> Auth {
    Auth::new(Config {
        issuers: vec![IssuerConfig {
            name: Some("https://id.example".into()),
            audience: Audience::Named("presence".into()),
            user_claim: "sub".into(),
            keys: vec![key],
            source: None,
        }],
        rules: Rules {
            bytes_max: 16 * 1024,
            lifetime_max: Duration::from_secs(86_400),
            leeway: Duration::from_secs(5),
            require_scope: false,
        },
    })
}

fn claims(pad: usize) -> Value {
    json!({
        "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
        "iss": "https://id.example",
        "aud": ["https://api.example", "presence"],
        "iat": unix_ms() / 1000,
        "exp": unix_ms() / 1000 + 3600,
        "scope": "openid profile presence:connect presence:read",
        "groups": "x".repeat(pad),
    })
}

/// The key that checks, and a token, by name.
fn made() -> Vec<(&'static str, Auth, String)> {
    let sign =
        |algorithm, key: &EncodingKey, pad| encode(&Header::new(algorithm), &claims(pad), key);
    let mut space = [0; 4096];
    let mut made = Vec::new();
    let mut add = |name, key: Key, algorithm, private: &EncodingKey, pad| {
        made.push((name, auth(key), sign(algorithm, private, pad).unwrap()));
    };
    let secret = || Key::of_secret(&Secret::new(SECRET).unwrap());
    let private = EncodingKey::from_secret(SECRET);
    add("HS256", secret(), Algorithm::HS256, &private, 0);
    add(
        "HS256-8-KiB",
        secret(),
        Algorithm::HS256,
        &private,
        6 * 1024,
    );
    let public = |spki: &[u8]| {
        use base64::Engine;
        let text = base64::prelude::BASE64_STANDARD.encode(spki);
        let lines: Vec<_> = text
            .as_bytes()
            .chunks(64)
            .map(|line| str::from_utf8(line).unwrap())
            .collect();
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            lines.join("\n")
        );
        read_keys(pem.as_bytes()).unwrap().remove(0)
    };
    let ec = SigningKey::<P256>::generate().unwrap();
    let private = EncodingKey::from_ec_der(ec.to_pkcs8_der(&mut space).unwrap());
    add(
        "ES256",
        public(ec.to_spki_der(&mut [0; 512]).unwrap()),
        Algorithm::ES256,
        &private,
        0,
    );
    let ed = Ed25519SigningKey::generate().unwrap();
    let private = EncodingKey::from_ed_der(ed.to_pkcs8_der(&mut space).unwrap());
    add(
        "EdDSA",
        public(ed.public_key().to_spki_der(&mut [0; 512]).unwrap()),
        Algorithm::EdDSA,
        &private,
        0,
    );
    let rsa = rsa::SigningKey::generate(rsa::KeySize::Rsa2048).unwrap();
    let private = EncodingKey::from_rsa_der(rsa.to_pkcs8_der(&mut space).unwrap());
    let key = || public(rsa.public_key().to_spki_der(&mut [0; 1024]).unwrap());
    add("RS256", key(), Algorithm::RS256, &private, 0);
    add("PS256", key(), Algorithm::PS256, &private, 0);
    made
}

fn tokens(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tokens");
    for (name, auth, token) in made() {
        group.bench_function(name, |bencher| {
            bencher.iter(|| auth.verify(black_box(&token), Purpose::Session).unwrap());
        });
    }
    let headers = [
        ("host", "chat.example"),
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "presence.v1"),
    ];
    let mut request = Request::get("/ws").body(()).unwrap();
    for (name, value) in headers {
        let name = HeaderName::from_static(name);
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    group.bench_function("upgrade", |bencher| {
        bencher.iter(|| {
            let accept = check_upgrade(black_box(&request)).unwrap();
            switching_protocols::<Vec<u8>>(accept, Some("presence.v1"))
        });
    });
    group.finish();
}

criterion_group!(benches, tokens);
criterion_main!(benches);
