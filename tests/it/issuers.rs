//! Several issuers of tokens, as a settings file has them.

use presenced_testkit::PATIENCE;
use presenced_testkit::client::Client;
use presenced_testkit::process::Process;
use presenced_testkit::raw::{Response, get, handshake, upgrade_with};
use presenced_testkit::temp::TempFile;
use presenced_testkit::tokens::{SECRET, in_s, sign};
use presenced_testkit::until;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::algorithms::pyjwt;

const OURS: &str = "https://ours.example";
const THEIRS: &str = "https://theirs.example";
/// Signs with the same keys as [`THEIRS`], as projects of one provider do.
const THEIR_OTHER: &str = "https://theirs.example/other";

/// The server of a provider's keys; ends with the test.
pub(super) struct Keys {
    pub(super) url: String,
    serving: JoinHandle<()>,
}

impl Keys {
    pub(super) async fn serve(keys: &Value) -> Keys {
        let body = json!({"keys": [keys]}).to_string();
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Keys { url, serving }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What our own issuer signs.
fn ours(user: &str) -> Value {
    json!({"iss": OURS, "sub": user, "exp": in_s(600)})
}

/// What a provider signs, whose `sub` is another id than ours.
fn theirs(issuer: &str, user: &str) -> Value {
    json!({"iss": issuer, "sub": "alice", "user": {"id": user}, "aud": "presence", "exp": in_s(600)})
}

async fn connect(process: &Process, token: &str) -> Client {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let connected = Client::try_connect(process.edge(), "/ws", &headers).await;
    connected.expect("the handshake succeeds").0
}

async fn shake(process: &Process, token: &str) -> Response {
    handshake(process.edge(), &upgrade_with(token)).await
}

#[tokio::test]
async fn each_issuer_has_keys_claims_and_sessions_of_its_own() {
    let claims = [
        theirs(THEIRS, "bob"),
        theirs(THEIRS, "alice"),
        theirs(THEIR_OTHER, "bob"),
        theirs(OURS, "bob"),
    ];
    let made = pyjwt(&json!(claims)).await;
    let made = made.iter().find(|made| made.name() == "ES256").unwrap();
    let [of_bob, of_alice, of_other, forged] = made.tokens();
    let keys = Keys::serve(&made.jwk()).await;
    let (url, secret) = (&keys.url, TempFile::new(SECRET));
    let secret = secret.path().display();
    let file = TempFile::new(&format!(
        "[[issuer]]\njwt-issuer = '{OURS}'\njwt-secret-file = '{secret}'\n\n\
         [[issuer]]\njwt-issuer = '{THEIRS}'\njwt-jwks-url = '{url}'\njwt-audience = 'presence'\nuser-claim = 'user.id'\n\n\
         [[issuer]]\njwt-issuer = '{THEIR_OTHER}'\njwt-jwks-url = '{url}'\nallow-any-audience = true\n"
    ));
    let config = format!("--config={}", file.path().display());
    let process = Process::start_dev(&[&config]).await;
    until("ready", PATIENCE, async || {
        get(process.admin(), "/readyz").await.status == 200
    })
    .await;

    // The same `sub`, and other users: each issuer names them in a claim of its own.
    let mut alice = connect(&process, &sign(&ours("alice"))).await;
    let _bob = connect(&process, of_bob).await;
    until("bob is online", PATIENCE, async || {
        alice.pull(&["bob"]).await["online"]["bob"].is_object()
    })
    .await;
    assert_eq!(shake(&process, of_other).await.status, 101);

    // Nobody signs for another.
    let mut of_nobody = ours("alice");
    of_nobody["iss"].take();
    let mut of_a_stranger = ours("alice");
    of_a_stranger["iss"] = "https://strange.example".into();
    for (token, reason) in [
        (sign(&theirs(THEIRS, "bob")), "algorithm"),
        (forged.to_owned(), "algorithm"),
        (sign(&of_nobody), "issuer"),
        (sign(&of_a_stranger), "issuer"),
    ] {
        let refused = shake(&process, &token).await;
        let code = refused.error_code();
        assert_eq!(
            (refused.status, code.as_str()),
            (401, "token_invalid"),
            "{reason}"
        );
    }
    let metrics = get(process.admin(), "/metrics").await.body;
    for line in [
        "presenced_handshakes_total{result=\"token_invalid\",reason=\"algorithm\"} 2".to_owned(),
        "presenced_handshakes_total{result=\"token_invalid\",reason=\"issuer\"} 2".to_owned(),
        format!("presenced_jwks_fetches_total{{issuer=\"{THEIRS}\",outcome=\"ok\"}} 1"),
        format!("presenced_jwks_fetches_total{{issuer=\"{THEIR_OTHER}\",outcome=\"ok\"}} 1"),
        format!("presenced_jwks_age_seconds{{issuer=\"{THEIRS}\"}} "),
        format!("presenced_jwks_age_seconds{{issuer=\"{THEIR_OTHER}\"}} "),
    ] {
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }

    // A session goes on with a token of its own issuer, and ends with one of another, though its user is the same.
    let show = |client: &Client, token: &str| client.say(json!({"token": token}).to_string());
    show(&alice, &sign(&ours("alice")));
    let renewed = alice.hear().await;
    assert!(renewed["token"]["expiresIn"].is_u64(), "{renewed}");
    show(&alice, of_alice);
    assert_eq!(alice.closed().await.code, Some(1008));
}
