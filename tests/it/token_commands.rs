//! `presenced token` and `presenced check-token`, as an operator runs them.

use std::process::Output;

use presenced_testkit::PATIENCE;
use presenced_testkit::process::{command, run};
use presenced_testkit::raw::{get_with, handshake, upgrade_with};
use presenced_testkit::server::TestServer;
use presenced_testkit::temp::TempFile;
use presenced_testkit::tokens::{
    SECRET, STRICT, base64url, claims, in_s, sign, strict_claims, strict_header, strict_with, token,
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::algorithms::pyjwt;
use super::issuers::Keys;

/// What the command says of `token`, with [`SECRET`] and `flags`.
async fn check(token: &str, flags: &[&str]) -> (i32, String) {
    let output = checked(token.as_bytes(), flags, Some(SECRET)).await;
    assert_eq!(output.stderr, b"", "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), text)
}

async fn checked(input: &[u8], flags: &[&str], secret: Option<&str>) -> Output {
    let mut command = command(&[&["check-token"], flags].concat());
    command.stdin(std::process::Stdio::piped());
    command.envs(secret.map(|secret| ("PRESENCED_JWT_SECRET", secret)));
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may have read enough before all is written.
    let _ = stdin.write_all(input).await;
    drop(stdin);
    let output = timeout(PATIENCE, child.wait_with_output()).await;
    output.expect("the command ends").unwrap()
}

fn has_line(text: &str, start: &str) -> bool {
    text.lines().any(|line| line.starts_with(start))
}

#[tokio::test]
async fn a_token_is_one_that_a_server_with_the_same_settings_accepts() {
    let scoped = [STRICT, &["--require-scope", "--user-claim=user.id"]].concat();
    for flags in [&[][..], STRICT, &scoped, &["--allow-any-audience"]] {
        let server = TestServer::start(flags).await;
        let words = ["token", "--user=alice", "--lifetime=10m"];
        let output = run(&[&words, flags].concat(), Some(SECRET)).await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let token = text.strip_suffix('\n').unwrap();
        assert_eq!(
            handshake(server.edge, &upgrade_with(token)).await.status,
            101,
            "{flags:?}"
        );
        let pull = get_with(server.edge, "/v1/presence?user=alice", token).await;
        assert_eq!(pull.status, 200, "{flags:?}");
        let (status, text) = check(token, flags).await;
        assert_eq!(status, 0, "{text}");
        for start in [
            "ok     session     accepted: user \"alice\", for 10m",
            "ok     pull        accepted: user \"alice\", for 10m",
            "ok     signature   HS256, by key 1 of 1",
            "note   head        {\"",
            "note   claims      {\"",
        ] {
            assert!(has_line(&text, start), "{start} in {text}");
        }
        for name in ["\"iat\":", "\"jti\":"] {
            assert!(text.contains(name), "{text}");
        }
    }
    // A service token is for pulls alone.
    let words = [
        "token",
        "--user=shop",
        "--scope=presence:read-all",
        "--require-scope",
    ];
    let output = run(&words, Some(SECRET)).await;
    let token = String::from_utf8(output.stdout).unwrap();
    let (status, text) = check(&token, &["--require-scope"]).await;
    assert_eq!(status, 0, "{text}");
    for start in [
        "wrong  session     refused: its scope (scope or scp) is not for this; it needs presence:connect, and its scope is",
        "ok     pull        accepted: user \"shop\", for",
    ] {
        assert!(has_line(&text, start), "{start} in {text}");
    }
}

#[tokio::test]
async fn what_no_server_would_accept_is_not_signed() {
    for (flags, secret, parts) in [
        (
            &["--user=a"][..],
            None,
            &["a token is signed with a secret", "--jwt-secret-file"][..],
        ),
        (&[], Some(SECRET), &["--user <ID>"]),
        (
            &["--user=a b"],
            Some(SECRET),
            &["'a b'", "--user", "no space"],
        ),
        (
            &["--user=a", "--lifetime=48h"],
            Some(SECRET),
            &["--lifetime 48h", "--jwt-max-lifetime 24h"],
        ),
        (
            &["--user=a", "--lifetime=1"],
            Some(SECRET),
            &["'1'", "--lifetime"],
        ),
        (
            &["--user=a", "--require-scope", "--scope=x"],
            Some(SECRET),
            &["the server would refuse this token: its scope"],
        ),
        (
            &["--user=a", "--ttl=5s"],
            Some(SECRET),
            &["--ttl 5s must be at least"],
        ),
    ] {
        let output = run(&[&["token"], flags].concat(), secret).await;
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {said}");
        assert_eq!(output.stdout, b"");
        for part in parts {
            assert!(said.contains(part), "{flags:?} should name {part}: {said}");
        }
    }
}

#[tokio::test]
async fn with_several_issuers_it_is_said_whose_token_is_made() {
    let [first, second] = [SECRET, &SECRET.to_uppercase()].map(TempFile::new);
    let keys = Keys::serve(&json!({})).await;
    let file = TempFile::new(&format!(
        "[[issuer]]\njwt-issuer = 'first'\njwt-secret-file = '{}'\n\n\
         [[issuer]]\njwt-issuer = 'second'\njwt-secret-file = '{}'\njwt-audience = 'presence'\nuser-claim = 'uid'\n\n\
         [[issuer]]\njwt-issuer = 'third'\njwt-jwks-url = '{}'\n",
        first.path().display(),
        second.path().display(),
        keys.url
    ));
    let config = format!("--config={}", file.path().display());
    for (name, user_claim) in [("first", "sub"), ("second", "uid")] {
        let issuer = format!("--issuer={name}");
        let output = run(&["token", "--user=alice", &issuer, &config], None).await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let token = String::from_utf8(output.stdout).unwrap();
        let output = checked(token.as_bytes(), &[&config], None).await;
        let text = String::from_utf8(output.stdout).unwrap();
        let by = format!("HS256, by key 1 of 1 of the issuer {name:?}");
        for part in [
            by,
            format!("\"iss\":{name:?}"),
            format!("{user_claim:?}:\"alice\""),
        ] {
            assert!(text.contains(&part), "{part} in {text}");
        }
    }
    let both = "several have secrets: \"first\", \"second\"";
    let all = "\"first\", \"second\", \"third\"";
    for (flags, parts) in [
        (&[config.as_str()][..], &["--issuer is missing", both][..]),
        (
            &["--issuer=fourth", &config],
            &["--issuer \"fourth\": no issuer has that name", all],
        ),
        (
            &["--issuer=third", &config],
            &["--issuer \"third\": has no secret"],
        ),
        (
            &["--issuer=x"],
            &[
                "--issuer \"x\": no issuer has that name",
                "one without a name",
            ],
        ),
    ] {
        let secret = flags.len() == 1 && flags != [config.as_str()];
        let output = run(
            &[&["token", "--user=alice"], flags].concat(),
            secret.then_some(SECRET),
        )
        .await;
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {said}");
        assert_eq!(output.stdout, b"");
        for part in parts {
            assert!(said.contains(part), "{flags:?} should say {part}: {said}");
        }
    }
}

#[tokio::test]
async fn each_reason_is_told_with_what_the_token_has_and_what_is_needed() {
    let mut signed_by_others = strict_with("alice", "sub", "bob".into());
    signed_by_others.replace_range(signed_by_others.len() - 4.., "AAAA");
    let none = format!("{}.{}.", base64url(br#"{"alg":"none"}"#), base64url(b"{}"));
    let twice =
        presenced_testkit::tokens::sign_bytes(br#"{"alg":"HS256"}"#, br#"{"exp":1,"exp":2}"#);
    let broken = presenced_testkit::tokens::sign_bytes(br#"{"alg":"HS256"}"#, b"{");
    for (token, reasons) in [
        ("a.b".to_owned(), &["it is no token: three parts"][..]),
        (
            none,
            &["none of the issuer's keys is for its algorithm (alg); its alg is \"none\""],
        ),
        (
            signed_by_others,
            &["none of the issuer's keys has signed it"],
        ),
        (twice, &["a claim that is there twice"]),
        (broken, &["its claims are not JSON"]),
        (
            strict_with("alice", "exp", in_s(-3600).into()),
            &["it has expired (exp); that was 1h"],
        ),
        (
            strict_with("alice", "exp", in_s(7260).into()),
            &[
                "further ahead than --jwt-max-lifetime; it is 2h",
                "ahead, and may be 1h",
            ],
        ),
        (
            strict_with("alice", "nbf", in_s(600).into()),
            &["not valid yet (nbf); that is in "],
        ),
        (
            strict_with("alice", "aud", "other".into()),
            &["for another audience (aud); its aud is \"other\", and \"presence\" is needed"],
        ),
        (
            strict_with("alice", "aud", Value::Null),
            &["it has no aud, and \"presence\" is needed"],
        ),
        (
            strict_with("alice", "iss", "https://evil.example".into()),
            &[
                "of another issuer (iss); its iss is \"https://evil.example\", and the issuer is \"https://id.example\"",
            ],
        ),
        (
            strict_with("alice", "sub", Value::Null),
            &["it names no user", "the claim is \"sub\""],
        ),
        (
            strict_with("alice", "sub", "a b".into()),
            &["a user id has no space"],
        ),
        (
            strict_header("alice", |header| header.typ = Some("dpop+jwt".into())),
            &["it is for something else", "its typ is \"dpop+jwt\""],
        ),
        (
            "x".repeat(20_000),
            &["it is longer than --max-token; it has more than 16384 bytes"],
        ),
    ] {
        let (status, text) = check(&token, STRICT).await;
        assert_eq!(status, 1, "{text}");
        let line = text.lines().next().unwrap();
        assert!(line.starts_with("wrong  token       refused: "), "{text}");
        for reason in reasons {
            assert!(line.contains(reason), "{reason} in {text}");
        }
    }
    // Without an audience of its own, a server takes none.
    let (_, text) = check(&sign(&strict_claims("alice")), &[]).await;
    assert!(
        text.contains("its aud is \"presence\", and without --jwt-audience"),
        "{text}"
    );
    // What a terminal would obey is escaped.
    let (_, text) = check(&sign(&claims("\u{1b}[31m\u{9b}")), &[]).await;
    assert!(text.contains("\\u001b[31m\\u009b"), "{text}");
    // For programs.
    let (status, text) = check(&token("alice"), &["--log-format=json"]).await;
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lines: Vec<_> = lines.collect();
    assert_eq!(status, 0);
    assert_eq!(
        (&lines[0]["state"], &lines[0]["about"]),
        (&json!("ok"), &json!("session"))
    );
}

#[tokio::test]
async fn without_a_token_or_with_wrong_settings_it_ends_with_2() {
    for (input, flags, secret, part) in [
        ("", &[][..], Some(SECRET), "no token on standard input"),
        (" \n", &[], Some(SECRET), "no token on standard input"),
        ("a.b.c", &[], None, "no key: give the flags"),
        (
            "a.b.c",
            &["--ttl=5s"],
            Some(SECRET),
            "--ttl 5s must be at least",
        ),
        ("a.b.c", &["--tll=5s"], Some(SECRET), "--ttl"),
    ] {
        let output = checked(input.as_bytes(), flags, secret).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains(part) && output.stdout.is_empty(),
            "{part}: {said}"
        );
    }
    // Endless input is not read.
    let mut endless = command(&["check-token"]);
    endless.stdin(std::fs::File::open("/dev/zero").unwrap());
    endless.env("PRESENCED_JWT_SECRET", SECRET);
    let output = timeout(PATIENCE, endless.output()).await;
    assert_eq!(output.expect("it ends").unwrap().status.code(), Some(1));
}

#[tokio::test]
async fn keys_of_a_provider_are_fetched_once() {
    let made = pyjwt(&json!({"iss": "https://id.example", "sub": "alice", "exp": in_s(600)})).await;
    let made = made.iter().find(|made| made.name() == "ES256").unwrap();
    let keys = Keys::serve(&made.jwk()).await;
    let file = TempFile::new(&format!(
        "[[issuer]]\njwt-issuer = 'https://id.example'\njwt-jwks-url = '{}'\n\n\
         [[issuer]]\njwt-issuer = 'https://other.example'\njwt-jwks-url = 'http://127.0.0.1:1/keys'\n",
        keys.url
    ));
    let config = format!("--config={}", file.path().display());
    let [token] = made.tokens();
    let output = checked(token.as_bytes(), &[&config], None).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), output.stderr.len()),
        (Some(0), 0),
        "{text}"
    );
    for line in [
        format!("ok     keys        fetched from {}", keys.url),
        "ok     signature   ES256, by a fetched key (kid \"ES256\") of the issuer \"https://id.example\"".into(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    let mut other = claims("alice");
    other["iss"] = "https://other.example".into();
    let output = checked(sign(&other).as_bytes(), &[&config], None).await;
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for start in [
        "wrong  token       refused: the keys of its issuer have not been fetched",
        "wrong  keys        http://127.0.0.1:1/keys: cannot connect",
    ] {
        assert!(has_line(&text, start), "{start} in {text}");
    }
}
