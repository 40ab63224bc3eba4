//! Back ends of the operator: service tokens.

use presenced::gateway::auth::READ_ALL_SCOPE;
use presenced_testkit::process::Process;
use presenced_testkit::raw::{Raw, Response, get_with, handshake, upgrade_with};
use presenced_testkit::server::TestServer;
use presenced_testkit::tokens::{claims, sign, token};

/// A token of a back end with this claim `scope`.
fn scoped(scope: &str) -> String {
    let mut claims = claims("push-service");
    claims["scope"] = scope.into();
    sign(&claims)
}

async fn pull(server: &TestServer, token: &str) -> Response {
    get_with(server.edge, "/v1/presence?user=alice", token).await
}

#[tokio::test]
async fn a_service_token_pulls_over_http_whatever_scope_sessions_need() {
    let any = TestServer::start(&[]).await;
    let scope = TestServer::start(&["--jwt-scope=presence"]).await;
    for server in [&any, &scope] {
        for words in [READ_ALL_SCOPE, "openid presence:read-all"] {
            let answer = pull(server, &scoped(words)).await;
            assert_eq!(answer.status, 200, "{words}: {answer:?}");
            assert!(answer.json()["online"].is_object(), "{answer:?}");
        }
    }
    for other in [token("alice"), scoped("presence:read")] {
        assert_eq!(pull(&any, &other).await.status, 200);
        let refused = pull(&scope, &other).await;
        let refused = (refused.status, refused.error_code());
        assert_eq!(refused, (403, "insufficient_scope".into()));
    }
}

#[tokio::test]
async fn a_service_token_is_a_session_only_with_the_scope_that_sessions_need() {
    let any = TestServer::start(&[]).await;
    let scope = TestServer::start(&["--jwt-scope=presence"]).await;
    let shake =
        async |server: &TestServer, token| handshake(server.edge, &upgrade_with(token)).await;
    let service = scoped(READ_ALL_SCOPE);
    assert_eq!(shake(&any, &service).await.status, 101);
    let refused = shake(&scope, &service).await;
    let refused = (refused.status, refused.error_code());
    assert_eq!(refused, (403, "insufficient_scope".into()));
    assert_eq!(scope.handshakes("insufficient_scope").await, 1);
    let both = shake(&scope, &scoped("presence presence:read-all")).await;
    assert_eq!(both.status, 101, "{both:?}");
}

#[tokio::test]
async fn dev_mode_gives_service_tokens_out() {
    let process = Process::start_dev(&["--jwt-scope=presence"]).await;
    let dev = async |query: &str| {
        let mut raw = Raw::connect(process.edge()).await;
        let target = format!("/dev/token?user=push-service{query}");
        raw.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await;
        raw.response().await
    };
    let token = async |query: &str| {
        let json = dev(query).await.json();
        json["token"].as_str().unwrap().to_owned()
    };
    // A session, and a pull.
    for (query, session, pulled) in [
        ("", 101, 200),
        ("&scope=presence:read-all", 403, 200),
        ("&scope=presence+presence%3Aread-all", 101, 200),
        ("&scope=email", 403, 403),
    ] {
        let token = token(query).await;
        let handshake = handshake(process.edge(), &upgrade_with(&token)).await;
        let pull = get_with(process.edge(), "/v1/presence?user=alice", &token).await;
        assert_eq!(
            (handshake.status, pull.status),
            (session, pulled),
            "{query}"
        );
    }
    assert_eq!(dev("&scope=%ff").await.status, 400);
}
