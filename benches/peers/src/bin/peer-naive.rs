//! The usual design: hyper and fastwebsockets, a task and a timer for each session.

use std::sync::Arc;
use std::{future, io};

use bytes::Bytes;
use clap::Parser;
use fastwebsockets::upgrade::{UpgradeFut, upgrade};
use fastwebsockets::{Frame, OpCode, WebSocketError};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use presenced_peers::{PeerFlags, Presence, PresenceFlags, Session};
use tokio::net::TcpListener;
use tokio::time::Interval;

/// A server with a task and a timer for each session.
#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    peer: PeerFlags,
    #[command(flatten)]
    presence: PresenceFlags,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let Flags { peer, presence } = Flags::parse();
    let presence = Presence::start(&presence).await?;
    let listener = TcpListener::from_std(peer.listener()?)?;
    println!("listening on {}", peer.listen);
    loop {
        let (socket, _) = listener.accept().await?;
        let presence = Arc::clone(&presence);
        let service = service_fn(move |request| future::ready(answer(request, &peer, &presence)));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
        tokio::spawn(connection.with_upgrades());
    }
}

fn answer(
    mut request: Request<Incoming>,
    peer: &PeerFlags,
    presence: &Arc<Presence>,
) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let Some(session) = presence.enter(request.headers()) else {
        let mut refusal = Response::new(Empty::new());
        *refusal.status_mut() = StatusCode::UNAUTHORIZED;
        return Ok(refusal);
    };
    let (response, upgraded) = upgrade(&mut request)?;
    // An error means that the session has ended; there is nothing to clean up.
    tokio::spawn(serve(upgraded, peer.pings(), Arc::clone(presence), session));
    Ok(response)
}

async fn serve(
    upgraded: UpgradeFut,
    mut pings: Interval,
    presence: Arc<Presence>,
    session: Session,
) -> Result<(), WebSocketError> {
    let mut socket = upgraded.await?;
    let mut answered = true;
    loop {
        tokio::select! {
            // If a tick comes between two parts of a frame, the frame is lost, and with it the
            // session. Avoiding that would take a lock for each write, and the load's frames arrive
            // whole.
            frame = socket.read_frame() => match frame?.opcode {
                OpCode::Pong => {
                    answered = true;
                    presence.hear(&session);
                }
                OpCode::Close => return Ok(()),
                _ => {}
            },
            _ = pings.tick() => {
                if !answered {
                    return Ok(());
                }
                answered = false;
                socket.write_frame(Frame::new(true, OpCode::Ping, None, (&[][..]).into())).await?;
            }
        }
    }
}
