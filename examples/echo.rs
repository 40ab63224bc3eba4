//! Echoes text and binary messages through the code that presenced's sessions run: worker, table,
//! gate, codec, reassembly, outbox. For conformance suites, and as an example of a
//! [`Service`] of one's own.
//!
//! ```sh
//! cargo run --release --example echo -- 127.0.0.1:9001 --max-message 16MiB
//! ```
//!
//! There is no token, and any path will do.

#![allow(clippy::print_stdout, reason = "it says where it listens")]

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Parser;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use presenced::gateway::response::refused;
use presenced::limits::{HANDSHAKE_TIMEOUT, HTTP_CONNECTIONS_MAX};
use presenced_session::dialect::Plain;
use presenced_session::handshake::{check_upgrade, switching_protocols};
use presenced_session::limits::{MESSAGE_BYTES_CEILING, PING_INTERVAL_MAX, WORKER_QUEUE};
use presenced_session::service::{Message, Opened, Replies, Service};
use presenced_session::slab::SessionKey;
use presenced_session::worker::{NewSession, Worker, WorkerConfig};
use presenced_session::{Config, Seat, SessionId};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

/// Echoes WebSocket messages.
#[derive(Debug, Parser)]
struct Flags {
    /// Where to listen
    address: SocketAddr,
    /// Longest message, at most 16MiB
    #[arg(long, default_value = "64KiB", value_name = "BYTES", value_parser = max_message)]
    max_message: ByteSize,
}

fn max_message(text: &str) -> Result<ByteSize, String> {
    let bytes: ByteSize = text.parse()?;
    let ceiling = ByteSize(MESSAGE_BYTES_CEILING as u64);
    match bytes <= ceiling {
        true => Ok(bytes),
        false => Err(format!("at most {ceiling}")),
    }
}

/// Says what it hears.
#[derive(Debug)]
struct Echo;

impl Service for Echo {
    type Peer = ();
    type Handle = ();

    type Dialect = Plain<true>;
    type Answer = ();

    fn opened(&mut self, (): (), _: SessionId, _: &mut Replies<'_, Self::Dialect>) -> Opened<()> {
        Opened::from(())
    }

    fn message(
        &mut self,
        _: SessionKey,
        (): (),
        message: Message<'_>,
        replies: &mut Replies<'_, Self::Dialect>,
    ) {
        match message {
            Message::Text(text) => replies.text(text),
            Message::Binary(data) => replies.binary(data),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::parse();
    // At most 16 MiB.
    let message_bytes_max = flags.max_message.as_u64() as usize;
    let parts = WorkerConfig {
        config: Config {
            // A suite that counts frames is not to meet our pings.
            ping_interval: PING_INTERVAL_MAX,
            ping_timeout: PING_INTERVAL_MAX / 2,
            coalesce: Duration::ZERO,
            message_bytes_max,
            frames_per_second_max: u32::MAX,
            // What one wake may echo: a message that it completes, and a buffer full of small ones.
            outbox_bytes_max: 2 * message_bytes_max + 1024 * 1024,
        },
        ..WorkerConfig::alone()
    };
    let (clock, seats) = (parts.clock, parts.seats.clone());
    let worker = Worker::new(Echo, parts)?;
    let (sessions, incoming) = mpsc::channel(WORKER_QUEUE);
    // Nobody orders anything, but a worker without a line to it would end.
    let (_orders, orders) = mpsc::channel(1);
    let listener = TcpListener::bind(flags.address).await?;
    println!("echo on ws://{}", listener.local_addr()?);

    let accepting = async {
        let places = Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX));
        loop {
            let place = places.clone().acquire_owned().await?;
            let (stream, _) = listener.accept().await?;
            let (sessions, seats) = (sessions.clone(), seats.clone());
            tokio::spawn(async move {
                let upgraded = timeout(HANDSHAKE_TIMEOUT, upgrade(stream)).await;
                if let Ok(Some((socket, read_ahead))) = upgraded
                    && let Some(seat) = Seat::take(&seats)
                {
                    let new = NewSession {
                        socket: socket.into(),
                        read_ahead,
                        peer: (),
                        dialect: Plain,
                        expires_at: clock.now() + Duration::from_secs(365 * 86_400),
                        seat,
                    };
                    // Without a worker the process ends.
                    let _ = sessions.send(new).await;
                }
                drop(place);
            });
        }
    };
    tokio::select! {
        ended = accepting => ended,
        ended = worker.run(incoming, orders) => Ok(ended?),
    }
}

/// The connection after the 101, and what came behind the handshake; `None` if it was refused.
async fn upgrade(stream: TcpStream) -> Option<(std::net::TcpStream, bytes::Bytes)> {
    let respond = service_fn(|request| async move {
        let answer = match check_upgrade(&request) {
            Ok(accept) => switching_protocols(accept, None),
            Err(error) => refused(error.into()),
        };
        Ok::<_, Infallible>(answer)
    });
    let serving = http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), respond)
        .without_shutdown();
    let parts = serving.await.ok()?;
    let socket = parts.io.into_inner().into_std().ok()?;
    socket.set_nodelay(true).ok()?;
    Some((socket, parts.read_buf))
}
