//! A WebSocket server of another kind on presenced's sessions: it greets each client, and says its
//! messages in capitals. Sessions sleep in 28 bytes and are pinged, as the server's are.
//!
//! ```sh
//! cargo run --release --example greeter -- 127.0.0.1:9002
//! ```

#![allow(clippy::print_stdout, reason = "it says where it listens")]

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use presenced_session::Seat;
use presenced_session::dialect::Plain;
use presenced_session::handshake::{HandshakeError, check_upgrade, switching_protocols};
use presenced_session::service::{Message, Opened, Replies, Service};
use presenced_session::slab::{SessionId, SessionKey};
use presenced_session::worker::{NewSession, Worker, WorkerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

struct Greeter;

impl Service for Greeter {
    type Peer = String;
    type Handle = ();
    type Dialect = Plain<false>;
    type Answer = ();

    fn opened(
        &mut self,
        peer: String,
        _: SessionId,
        replies: &mut Replies<'_, Self::Dialect>,
    ) -> Opened<()> {
        replies.text(format!("Welcome, {peer}!").as_bytes());
        Opened::from(())
    }

    fn message(
        &mut self,
        _: SessionKey,
        (): (),
        message: Message<'_>,
        replies: &mut Replies<'_, Self::Dialect>,
    ) {
        if let Message::Text(text) = message {
            replies.text(&text.to_ascii_uppercase());
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9002".into());
    let listener = TcpListener::bind(address).await?;
    println!("greeter on ws://{}", listener.local_addr()?);
    let worker = Worker::new(Greeter, WorkerConfig::alone())?;
    let seats = worker.seats().clone();
    let ((sessions, incoming), (_commands, commands)) = (mpsc::channel(64), mpsc::channel(1));
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            let (sessions, seat) = (sessions.clone(), Seat::take(&seats));
            tokio::spawn(async move {
                let session = shake_hands(stream, peer.to_string(), seat?).await?;
                sessions.send(session).await.ok()
            });
        }
    });
    Ok(worker.run(incoming, commands).await?)
}

/// The session that a connection becomes; `None` if the handshake was refused.
async fn shake_hands(stream: TcpStream, peer: String, seat: Seat) -> Option<NewSession<String>> {
    let respond = service_fn(async |request| {
        let accept = check_upgrade(&request)?;
        Ok::<_, HandshakeError>(switching_protocols::<Empty<Bytes>>(accept, None))
    });
    let http = http1::Builder::new().serve_connection(TokioIo::new(stream), respond);
    let parts = http.without_shutdown().await.ok()?;
    Some(NewSession {
        socket: parts.io.into_inner().into_std().ok()?.into(),
        read_ahead: parts.read_buf,
        peer,
        dialect: Plain,
        expires_at: Duration::MAX,
        seat,
    })
}
