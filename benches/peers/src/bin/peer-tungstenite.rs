//! The usual design with tokio-tungstenite, whose buffers can be small: a task and a timer for each
//! session. Over TLS, tokio-rustls is in between.

use std::future::{Future, ready};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use presenced_peers::{PeerFlags, Presence, PresenceFlags, Session, TlsFlags};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::Interval;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

/// A server with a task, a timer and small buffers for each session.
#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    peer: PeerFlags,
    #[command(flatten)]
    presence: PresenceFlags,
    #[command(flatten)]
    tls: TlsFlags,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let Flags {
        peer,
        presence,
        tls,
    } = Flags::parse();
    let tls = tls.acceptor()?;
    let presence = Presence::start(&presence).await?;
    let listener = TcpListener::from_std(peer.listener()?)?;
    println!("listening on {}", peer.listen);
    loop {
        let (socket, _) = listener.accept().await?;
        let (pings, presence) = (peer.pings(), Arc::clone(&presence));
        match &tls {
            Some(tls) => drop(tokio::spawn(begin(tls.accept(socket), pings, presence))),
            None => drop(tokio::spawn(begin(ready(Ok(socket)), pings, presence))),
        }
    }
}

/// Serves what `opening` leads to.
async fn begin<S>(
    opening: impl Future<Output = io::Result<S>>,
    pings: Interval,
    presence: Arc<Presence>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    if let Ok(stream) = opening.await
        && let Ok((socket, session)) = accept(stream, &presence).await
    {
        // A new task, so that the memory of the handshake is freed.
        tokio::spawn(serve(socket, pings, presence, session));
    }
}

async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    presence: &Presence,
) -> Result<(WebSocketStream<S>, Session), Error> {
    // Larger than a pong, as a read that fills its buffer is followed by one that finds nothing.
    let config = WebSocketConfig::default()
        .read_buffer_size(64)
        .write_buffer_size(0);
    let mut session = None;
    #[expect(
        clippy::result_large_err,
        reason = "the callback's type is the library's"
    )]
    let check = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        session = presence.enter(request.headers());
        if session.is_some() {
            return Ok(response);
        }
        let mut refusal = ErrorResponse::new(None);
        *refusal.status_mut() = hyper::StatusCode::UNAUTHORIZED;
        Err(refusal)
    };
    let socket = accept_hdr_async_with_config(stream, check, Some(config)).await?;
    Ok((socket, session.ok_or(Error::ConnectionClosed)?))
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: WebSocketStream<S>,
    mut pings: Interval,
    presence: Arc<Presence>,
    session: Session,
) -> Result<(), Error> {
    let mut answered = true;
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Pong(_))) => {
                    answered = true;
                    presence.hear(&session);
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
            _ = pings.tick() => {
                if !answered {
                    return Ok(());
                }
                answered = false;
                socket.send(Message::Ping(Bytes::new())).await?;
            }
        }
    }
}
