//! Socket.IO with socketioxide, which is written in Rust. A user is written when its client connects, and never again, as
//! the server does not say when a pong has come.

use std::io;
use std::sync::Arc;

use clap::Parser;
use futures_util::FutureExt;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use presenced_peers::{PeerFlags, Presence, PresenceFlags};
use serde::Deserialize;
use socketioxide::SocketIo;
use socketioxide::extract::{AckSender, SocketRef, TryData};
use tokio::net::TcpListener;

/// A server of socketioxide.
#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    peer: PeerFlags,
    #[command(flatten)]
    presence: PresenceFlags,
}

/// What a client connects with.
#[derive(Debug, Deserialize)]
struct Auth {
    token: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let Flags { peer, presence } = Flags::parse();
    let presence = Presence::start(&presence).await?;
    let (service, io) = SocketIo::builder()
        .ping_interval(peer.ping_interval)
        .ping_timeout(peer.ping_interval.mul_f64(0.9))
        .build_svc();
    io.ns("/", move |socket: SocketRef, auth: TryData<Auth>| {
        let presence = Arc::clone(&presence);
        async move {
            let session = auth
                .0
                .ok()
                .and_then(|auth| presence.enter_with(&auth.token));
            if session.is_none() {
                // Otherwise it has gone by itself.
                let _ = socket.disconnect();
                return;
            }
            socket.on("presence:pull", async |ack: AckSender| {
                // The client may be gone.
                let _ = ack.send(&[0; 0]);
            });
        }
    });
    let listener = TcpListener::from_std(peer.listener()?)?;
    println!("listening on {}", peer.listen);
    loop {
        let (stream, _) = listener.accept().await?;
        let service = service.clone();
        let serve = http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .map(drop);
        tokio::spawn(serve);
    }
}
