//! Echoes Engine.IO messages, text and binary, through the code that presenced's sessions run: polling, WebSocket, and
//! the way from one to the other. For the protocol's conformance suite:
//!
//! ```sh
//! cargo run --release --example engine_io_echo -- 127.0.0.1:3000 --ping-interval 300 --ping-timeout 200
//! ```
//!
//! It is at `/engine.io/`.

#![allow(clippy::print_stdout, reason = "it says where it listens")]

mod edge;

use std::error::Error;
use std::task::{Context, Poll};

use clap::Parser;
use presenced::gateway::arrival::Arrival;
use presenced::gateway::client_dialect::ClientDialect;
use presenced::gateway::pipe::PipeEvent;
use presenced::gateway::socketio::SocketIoWorker;
use presenced_session::close_reason::CloseReason;
use presenced_session::service::{Message, Opened, Replies, Service, Then};
use presenced_session::slab::SessionKey;
use presenced_session::{Config, SessionId};

use self::edge::EchoFlags;

/// Says what it hears.
#[derive(Debug)]
struct Echo {
    worker: SocketIoWorker,
    config: Config,
}

impl Service for Echo {
    type Peer = Arrival;
    type Handle = ();
    type Dialect = ClientDialect;
    type Answer = PipeEvent;

    fn opened(
        &mut self,
        arrival: Arrival,
        session: SessionId,
        replies: &mut Replies<'_, ClientDialect>,
    ) -> Opened<()> {
        if let Arrival::SocketIo(newcomer) = arrival {
            replies.text(&self.worker.open(session, &newcomer, &self.config));
        }
        ().into()
    }

    fn message(
        &mut self,
        _: SessionKey,
        (): (),
        message: Message<'_>,
        replies: &mut Replies<'_, ClientDialect>,
    ) {
        match message {
            Message::Text(text) => replies.text(&[b"4", text].concat()),
            Message::Binary(data) => replies.binary(data),
        }
    }

    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<(SessionKey, PipeEvent)> {
        self.worker
            .poll_event(context)
            .map(|event| (event.key(), event))
    }

    fn answer(
        &mut self,
        _: SessionId,
        (): &mut (),
        event: PipeEvent,
        _: &mut Replies<'_, ClientDialect>,
    ) -> Result<Then, CloseReason> {
        Ok(event.then())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let flags = EchoFlags::parse();
    let echo = |worker, config, _: &_| Echo { worker, config };
    edge::serve(&flags, ("/engine.io/", ""), echo).await
}
