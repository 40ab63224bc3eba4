//! Tokens of every algorithm, made by libraries that are not ours, and the keys that check them.

use std::path::Path;
use std::process::Stdio;

use presenced_testkit::process::{self, Process};
use presenced_testkit::raw::{Raw, get_with, handshake, request, upgrade_with};
use presenced_testkit::server::TestServer;
use presenced_testkit::temp::TempFile;
use presenced_testkit::tokens::{SECRET, claims, in_s, sign, strict_claims};
use presenced_testkit::{PATIENCE, until};
use serde_json::{Value, json};
use tokio::process::Command;

/// A key that another library has made, and tokens that it has signed with it.
pub(super) struct Made(Value);

impl Made {
    fn text(&self, name: &str) -> &str {
        self.0[name]
            .as_str()
            .unwrap_or_else(|| panic!("{name}: {}", self.0))
    }

    pub(super) fn name(&self) -> &str {
        self.text("name")
    }

    /// Of each of the claims in a list.
    pub(super) fn tokens<const COUNT: usize>(&self) -> [&str; COUNT] {
        let tokens = self.0["tokens"].as_array().unwrap().iter();
        let tokens: Vec<_> = tokens.filter_map(Value::as_str).collect();
        tokens.try_into().unwrap()
    }

    fn token(&self) -> &str {
        self.text("token")
    }

    fn is_ours(&self) -> bool {
        !self.name().contains(' ') && !["ES512", "ES256K"].contains(&self.name())
    }

    fn has_public_key(&self) -> bool {
        self.0.get("pem").is_some()
    }

    /// The public key in a JWK with a name.
    pub(super) fn jwk(&self) -> Value {
        let mut jwk = self.0["jwk"].clone();
        jwk["kid"] = self.name().into();
        // PyJWT writes it, but who reads it would have to know: it means the same.
        jwk.as_object_mut().unwrap().remove("key_ops");
        jwk
    }
}

/// Keys of each algorithm, and with each a token of `claims`, or several of a list of claims: by PyJWT.
pub(super) async fn pyjwt(claims: &Value) -> Vec<Made> {
    made_by("target/venv/bin/python", "pyjwt.py", claims).await
}

/// The same by the npm package jose.
async fn jose(claims: &Value) -> Vec<Made> {
    made_by("node", "jose.mjs", claims).await
}

/// By each of these libraries.
async fn by_each(claims: &Value) -> [Vec<Made>; 2] {
    [pyjwt(claims).await, jose(claims).await]
}

async fn made_by(interpreter: &str, script: &str, claims: &Value) -> Vec<Made> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let interpreter = match interpreter.contains('/') {
        true => root.join(interpreter),
        false => interpreter.into(),
    };
    let output = Command::new(interpreter)
        .arg(root.join("tests/it/tokens").join(script))
        .arg(claims.to_string())
        .stdin(Stdio::null())
        .output()
        .await;
    let output = output.expect("Python and Node.js are installed (make setup)");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "make setup? {errors}");
    let made: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    made.into_iter().map(Made).collect()
}

/// The status of a handshake with a token.
async fn shake(server: &TestServer, token: &str) -> u16 {
    handshake(server.edge, &upgrade_with(token)).await.status
}

fn key_flag(file: &TempFile) -> String {
    format!("--jwt-key-file={}", file.path().display())
}

#[tokio::test]
async fn each_algorithm_with_a_key_as_pem_as_jwk_or_in_a_set() {
    for made in by_each(&claims("alice")).await {
        check_public_keys(&made).await;
    }
}

async fn check_public_keys(made: &[Made]) {
    let ours = || {
        made.iter()
            .filter(|made| made.is_ours() && made.has_public_key())
    };
    assert_eq!(ours().count(), 9);
    // One server for each form of key; each has all keys.
    let pems: String = ours().map(|made| made.text("pem")).collect();
    let pems = TempFile::new(&format!("Issued by nobody.\n{pems}"));
    let set = json!({"keys": made.iter().filter(|made| made.has_public_key()).map(Made::jwk).collect::<Vec<_>>()});
    let set = TempFile::new(&set.to_string());
    let jwks: Vec<_> = ours()
        .map(|made| TempFile::new(&made.jwk().to_string()))
        .collect();
    let jwks: Vec<_> = jwks.iter().map(|file| (key_flag(file), file)).collect();
    let (pems, set) = (key_flag(&pems), key_flag(&set));
    let of_pems = TestServer::start(&[&pems]).await;
    let of_set = TestServer::start(&[&set]).await;
    let flags: Vec<_> = jwks.iter().map(|(flag, _)| flag.as_str()).collect();
    let of_jwks = TestServer::start(&flags).await;
    for made in made.iter().filter(|made| made.has_public_key()) {
        let expected = if made.is_ours() { 101 } else { 401 };
        for server in [&of_pems, &of_set, &of_jwks] {
            assert_eq!(
                shake(server, made.token()).await,
                expected,
                "{}",
                made.name()
            );
        }
    }
    // The secret of the tests is a key, too.
    assert_eq!(shake(&of_set, &sign(&claims("bob"))).await, 101);
}

#[tokio::test]
async fn a_secret_is_for_the_algorithms_for_which_it_is_long_enough() {
    for made in by_each(&claims("alice")).await {
        check_secrets(&made).await;
    }
}

async fn check_secrets(made: &[Made]) {
    let secrets = made.iter().filter(|made| !made.has_public_key());
    let secrets: Vec<_> = secrets.collect();
    let files: Vec<_> = secrets
        .iter()
        .map(|made| TempFile::new(made.text("secret")))
        .collect();
    let files: Vec<_> = files
        .iter()
        .map(|file| (format!("--jwt-secret-file={}", file.path().display()), file))
        .collect();
    let all: Vec<_> = files.iter().map(|(flag, _)| flag.as_str()).collect();
    let server = Process::start_dev(&all).await;
    for made in &secrets {
        let status = handshake(server.edge(), &upgrade_with(made.token()))
            .await
            .status;
        assert_eq!(status, 101, "{}", made.name());
    }
    // That of HS256 alone has 32 bytes.
    let short = Process::start_dev(&all[..1]).await;
    for (made, status) in secrets.iter().zip([101, 401, 401]) {
        let response = handshake(short.edge(), &upgrade_with(made.token())).await;
        assert_eq!(response.status, status, "{}", made.name());
    }
}

#[tokio::test]
async fn a_kid_chooses_and_an_unknown_one_is_told_apart() {
    let [of_alice, of_bob] = [
        by_each(&claims("alice")).await,
        by_each(&claims("bob")).await,
    ];
    for keys in of_alice.into_iter().zip(of_bob) {
        check_key_ids(<[_; 2]>::from(keys)).await;
    }
}

async fn check_key_ids(keys: [Vec<Made>; 2]) {
    let [mut first, mut second] = keys.map(|made| {
        made.into_iter()
            .find(|made| made.name() == "ES256")
            .unwrap()
    });
    let (a, b) = (first.token().to_owned(), second.token().to_owned());
    // Both tokens say that their key is ES256.
    first.0["name"] = "other".into();
    second.0["name"] = "ES256".into();
    let set = TempFile::new(&json!({"keys": [first.jwk(), second.jwk()]}).to_string());
    let flag = key_flag(&set);
    let server = TestServer::start(&[&flag]).await;
    assert_eq!(shake(&server, &a).await, 401);
    assert_eq!(shake(&server, &b).await, 101);
    assert_eq!(server.refused_for("token_invalid", "signature").await, 1);
    second.0["name"] = "third".into();
    let set = TempFile::new(&json!({"keys": [first.jwk(), second.jwk()]}).to_string());
    let flag = key_flag(&set);
    let server = TestServer::start(&[&flag]).await;
    assert_eq!(shake(&server, &b).await, 401);
    assert_eq!(server.refused_for("token_invalid", "unknown_key").await, 1);
}

#[tokio::test]
async fn a_token_as_a_provider_makes_it() {
    // Several audiences, groups that make it long, a claim of a provider's own.
    let mut claims = strict_claims("ignored");
    claims["aud"] = json!(["https://api.example", "presence"]);
    claims["https://app.example/uid"] = "auth0|5f7c8ec7c33c6c004bbafe82".into();
    claims["scope"] = "openid presence:connect presence:read".into();
    claims["groups"] = (0..300)
        .map(|number| format!("group-{number:08}"))
        .collect();
    let made = pyjwt(&claims).await;
    let rs256 = made.iter().find(|made| made.name() == "RS256").unwrap();
    assert!(rs256.token().len() > 6 * 1024);
    let key = TempFile::new(&rs256.jwk().to_string());
    let server = TestServer::start(&[
        &key_flag(&key),
        "--jwt-issuer=https://id.example",
        "--jwt-audience=presence",
        "--user-claim=https://app.example/uid",
        "--require-scope",
    ])
    .await;
    let mut session = Raw::connect(server.edge).await;
    let headers = upgrade_with(rs256.token());
    session.send(request("GET", "/ws", &headers, "")).await;
    let response = session.response().await;
    assert_eq!(response.status, 101, "{response:?}");
    // A pull may ask with the same token, and the session's user is here once its worker has it.
    let pull = "/v1/presence?user=auth0%7C5f7c8ec7c33c6c004bbafe82";
    until("the user is online", PATIENCE, async || {
        let answer = get_with(server.edge, pull, rs256.token()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let online = &answer.json()["online"]["auth0|5f7c8ec7c33c6c004bbafe82"];
        online["connectedAt"].is_u64()
    })
    .await;
}

/// Tokens with the claims of five providers, each with the flags that docs/identity-providers.md names for it.
#[tokio::test]
async fn tokens_in_the_shapes_of_five_providers() {
    let (iat, exp) = (in_s(-1), in_s(600));
    let providers = [
        (
            "auth0|5f7c8ec7c33c6c004bbafe82",
            json!({"iss": "https://tenant.auth0.com/", "sub": "auth0|5f7c8ec7c33c6c004bbafe82", "iat": iat, "exp": exp,
                "aud": ["presence", "https://tenant.auth0.com/userinfo"], "azp": "client", "scope": "openid profile"}),
            vec![
                "--jwt-issuer=https://tenant.auth0.com/",
                "--jwt-audience=presence",
            ],
        ),
        (
            "f:9a0f:42",
            json!({"iss": "https://kc.example/realms/main", "sub": "f:9a0f:42", "iat": iat, "exp": exp, "typ": "Bearer",
                "aud": ["presence", "account"], "azp": "app", "acr": "1", "realm_access": {"roles": ["user"]},
                "resource_access": {"account": {"roles": ["view-profile"]}}, "email_verified": true}),
            vec![
                "--jwt-issuer=https://kc.example/realms/main",
                "--jwt-audience=presence",
            ],
        ),
        (
            "00000000-0000-0000-66f3-3332eca7ea81",
            json!({"iss": "https://login.microsoftonline.com/9122040d/v2.0", "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
                "oid": "00000000-0000-0000-66f3-3332eca7ea81", "tid": "9122040d", "aud": "6e74172b", "iat": iat, "nbf": iat,
                "exp": exp, "scp": "access", "ver": "2.0"}),
            vec![
                "--jwt-issuer=https://login.microsoftonline.com/9122040d/v2.0",
                "--jwt-audience=6e74172b",
                "--user-claim=oid",
            ],
        ),
        (
            "Zm9vYmFyMTIzNDU2Nzg5",
            json!({"iss": "https://securetoken.google.com/project", "sub": "Zm9vYmFyMTIzNDU2Nzg5", "aud": "project", "iat": iat,
                "exp": exp, "auth_time": iat, "user_id": "Zm9vYmFyMTIzNDU2Nzg5",
                "firebase": {"identities": {}, "sign_in_provider": "anonymous"}}),
            vec![
                "--jwt-issuer=https://securetoken.google.com/project",
                "--jwt-audience=project",
            ],
        ),
        (
            "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
            json!({"iss": "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_x", "exp": exp, "iat": iat, "auth_time": iat,
                "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "client_id": "client", "token_use": "access",
                "cognito:groups": ["admins"], "scope": "aws.cognito.signin.user.admin", "username": "alice"}),
            vec!["--jwt-issuer=https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_x"],
        ),
    ];
    let claims = providers.each_ref().map(|(_, claims, _)| claims.clone());
    let made = pyjwt(&json!(claims)).await;
    let rs256 = made.iter().find(|made| made.name() == "RS256").unwrap();
    let key = TempFile::new(&rs256.jwk().to_string());
    let tokens = rs256.tokens::<5>();
    for (number, (user, _, flags)) in providers.iter().enumerate() {
        let key = key_flag(&key);
        let server = TestServer::start(&[&[key.as_str()], flags.as_slice()].concat()).await;
        for (other, token) in tokens.iter().enumerate() {
            let status = if other == number { 101 } else { 401 };
            assert_eq!(shake(&server, token).await, status, "{user} and {other}");
        }
        let mut session = Raw::connect(server.edge).await;
        let headers = upgrade_with(tokens[number]);
        session.send(request("GET", "/ws", &headers, "")).await;
        assert_eq!(session.response().await.status, 101);
        let pull = format!("/v1/presence?user={}", user.replace('|', "%7C"));
        until("the user is online", PATIENCE, async || {
            let answer = get_with(server.edge, &pull, tokens[number]).await;
            answer.json()["online"][user]["connectedAt"].is_u64()
        })
        .await;
    }
}

#[tokio::test]
async fn keys_that_can_not_be_used_are_refused_at_start() {
    let made = pyjwt(&claims("alice")).await;
    let find = |name: &str| made.iter().find(|made| made.name() == name).unwrap();
    let with = |jwk: Value, name: &str, value: Value| {
        let mut jwk = jwk;
        jwk[name] = value;
        jwk.to_string()
    };
    let (rs256, es256) = (find("RS256"), find("ES256"));
    for (text, why) in [
        (
            find("RS256 of 1,024 bits").text("pem").to_owned(),
            "no RSA key of 2,048",
        ),
        (
            find("ES512").text("pem").to_owned(),
            "other than P-256 and P-384",
        ),
        (
            find("ES256K").text("pem").to_owned(),
            "other than P-256 and P-384",
        ),
        (
            find("EdDSA of Ed448").text("pem").to_owned(),
            "other than RSA, EC and Ed25519",
        ),
        (
            find("ES512").jwk().to_string(),
            "other than P-256 and P-384",
        ),
        (rs256.text("private").to_owned(), "is a private key"),
        (with(es256.jwk(), "d", "AAAA".into()), "is a private key"),
        (
            with(es256.jwk(), "alg", "RS256".into()),
            "type of key is not for",
        ),
        (
            with(es256.jwk(), "use", "enc".into()),
            "is not for signatures",
        ),
        (
            with(es256.jwk(), "x", es256.jwk()["y"].clone()),
            "no point on its curve",
        ),
        (with(rs256.jwk(), "e", "!".into()), "no base64"),
        (
            json!({"kty": "oct", "k": "AAAA"}).to_string(),
            "is a secret",
        ),
        (json!({"keys": []}).to_string(), "has no key"),
        (
            json!({"keys": vec![es256.jwk(); 101]}).to_string(),
            "more than 100 keys",
        ),
        ("{".into(), "no JSON"),
        ("Once upon a time".into(), "no public key"),
        (
            rs256.text("pem").replace("-----END", "-----AND"),
            "without an end",
        ),
        (rs256.text("pem").replace("MII", "MIJ"), "bad PEM"),
        (SECRET.into(), "no public key"),
    ] {
        let file = TempFile::new(&text);
        let output = process::run(&[&key_flag(&file)], None).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        let path = file.path().display().to_string();
        for part in ["--jwt-key-file", &path, why] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    // PKCS#1 is taken as well.
    let pkcs1 = TempFile::new(rs256.text("pkcs1"));
    let server = TestServer::start(&[&key_flag(&pkcs1)]).await;
    assert_eq!(shake(&server, rs256.token()).await, 101);
    // A public key is no secret.
    for text in [
        rs256.text("pem").to_owned(),
        format!("\n x {}", rs256.jwk()),
    ] {
        let file = TempFile::new(&text);
        let flag = format!("--jwt-secret-file={}", file.path().display());
        let output = process::run(&[&flag], None).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("--jwt-key-file"), "{said}");
    }
}
