//! The admin address, whoever else is connected to it.

use presenced::limits::{ADMIN_CONNECTIONS_MAX, HANDSHAKE_TIMEOUT};
use presenced_testkit::raw::{Raw, get};
use presenced_testkit::server::TestServer;
use tokio::time::Instant;

#[tokio::test]
async fn connections_that_say_nothing_or_half_hold_up_no_probe() {
    let server = TestServer::start(&[]).await;
    for begun in ["", "GET /healthz HTTP/1.1\r\n"] {
        let mut others = Vec::new();
        for _ in 0..2 * ADMIN_CONNECTIONS_MAX {
            let mut raw = Raw::connect(server.admin).await;
            raw.try_send(begun).await;
            others.push(raw);
        }
        for path in ["/healthz", "/metrics"] {
            let asked = Instant::now();
            assert_eq!(get(server.admin, path).await.status, 200);
            assert!(
                asked.elapsed() < HANDSHAKE_TIMEOUT / 2,
                "{:?}",
                asked.elapsed()
            );
        }
        // The first ones have made room.
        others[0].hung_up().await;
    }
}
