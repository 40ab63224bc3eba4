//! Echoes Socket.IO events through the code that presenced's sessions run. For the protocol's conformance suite:
//!
//! ```sh
//! cargo run --release --example socket_io_echo -- 127.0.0.1:3000 --ping-interval 300 --ping-timeout 200 \
//!     --connect-timeout 1000
//! ```
//!
//! It is at `/socket.io/`, with the namespaces `/` and `/custom`. Who connects is told an event `auth` with what it has
//! connected with; `message` is answered with `message-back` and `message-with-ack` with an acknowledgement, both with
//! the same arguments, which may be binary.

#![allow(clippy::print_stdout, reason = "it says where it listens")]

mod edge;

use std::collections::HashMap;
use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use clap::Parser;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use presenced::gateway::arrival::Arrival;
use presenced::gateway::client_dialect::ClientDialect;
use presenced::gateway::pipe::PipeEvent;
use presenced::gateway::socketio::SocketIoWorker;
use presenced_session::clock::Clock;
use presenced_session::close_reason::CloseReason;
use presenced_session::service::{Message, Opened, Replies, Service, Then};
use presenced_session::slab::SessionKey;
use presenced_session::{Config, SessionId};
use presenced_socketio::packet::{Body, Event, Id, Name, Packet, encode};
use presenced_socketio::{Connection, Effect, End, Rules};

use self::edge::EchoFlags;

/// Says what it hears.
#[derive(Debug)]
struct Echo {
    worker: SocketIoWorker,
    config: Config,
    rules: Rules,
    clock: Clock,
    clients: HashMap<SessionKey, Client>,
    /// Clients whose time to connect may be over.
    waits: FuturesUnordered<Wait>,
}

type Wait = Pin<Box<dyn Future<Output = SessionKey>>>;

#[derive(Debug)]
struct Client {
    connection: Connection,
    /// An event whose attachments are on their way.
    binary: Option<Binary>,
}

#[derive(Debug)]
struct Binary {
    heard: Heard,
    missing: u8,
    attachments: Vec<Vec<u8>>,
}

/// An event.
#[derive(Debug)]
struct Heard {
    namespace: String,
    name: String,
    args: String,
    id: Option<Id>,
}

/// What a session has had to wait for.
enum Answer {
    PipeEvent(PipeEvent),
    /// Its time to connect may be over.
    Late,
}

impl Echo {
    /// Looks at a client once its time to connect is over.
    fn wait(&self, key: SessionKey, time: Duration) {
        self.waits.push(Box::pin(async move {
            tokio::time::sleep(time).await;
            key
        }));
    }

    fn packet(
        &mut self,
        key: SessionKey,
        message: Message<'_>,
        replies: &mut Replies<'_, ClientDialect>,
    ) -> Result<(), End> {
        let (now, rules) = (self.clock.now(), self.rules.clone());
        let Some(client) = self.clients.get_mut(&key) else {
            return Ok(());
        };
        let text = match message {
            Message::Text(text) => text,
            Message::Binary(data) => {
                client.connection.binary(data)?;
                if let Some(binary) = &mut client.binary {
                    binary.attachments.push(data.to_vec());
                    if binary.attachments.len() == usize::from(binary.missing) {
                        binary.heard.answer(&binary.attachments, replies);
                        client.binary = None;
                    }
                }
                return Ok(());
            }
        };
        match client.connection.text(text, now, &rules)? {
            Effect::Authenticate { namespace, auth } => {
                let number = client.connection.accept(namespace, &rules);
                let sid = format!("{}-{}-{number:?}", key.index, key.generation);
                let mut packet = Vec::new();
                encode::connected(&mut packet, namespace, &sid);
                replies.text(&packet);
                packet.clear();
                let auth = auth.unwrap_or("{}");
                encode::event(&mut packet, namespace, "auth", auth.as_bytes());
                replies.text(&packet);
            }
            Effect::InvalidNamespace { namespace } => {
                let mut packet = Vec::new();
                encode::invalid_namespace(&mut packet, namespace);
                replies.text(&packet);
            }
            Effect::Event { namespace, event } => {
                Heard::new(namespace, &event).answer(&[], replies);
            }
            Effect::Left { .. } => {
                if client.connection.deadline().is_some() {
                    self.wait(key, rules.connect_timeout);
                }
            }
            // A session of presenced would ignore it; here its attachments are kept.
            Effect::Nothing => {
                if let Ok(Packet {
                    namespace,
                    body: Body::Event(event),
                }) = Packet::decode(text)
                {
                    client.binary = Some(Binary {
                        heard: Heard::new(namespace, &event),
                        missing: event.attachments,
                        attachments: Vec::new(),
                    });
                }
            }
        }
        Ok(())
    }
}

impl Heard {
    fn new(namespace: &str, event: &Event<'_>) -> Heard {
        let name = match &event.name {
            Name::Text(name) => name.to_string(),
            Name::Other(_) => String::new(),
        };
        Heard {
            namespace: namespace.to_owned(),
            name,
            args: event.args.to_owned(),
            id: event.id,
        }
    }

    /// Says it back, with its attachments.
    fn answer(&self, attachments: &[Vec<u8>], replies: &mut Replies<'_, ClientDialect>) {
        let mut packet = Vec::new();
        match (&*self.name, &self.id) {
            ("message", _) => {
                let args = self.args.as_bytes();
                encode::event(&mut packet, &self.namespace, "message-back", args);
            }
            ("message-with-ack", Some(id)) => {
                encode::ack(&mut packet, &self.namespace, id, self.args.as_bytes());
            }
            _ => return,
        }
        if !attachments.is_empty() {
            // The types with attachments are three more than those without, and say how many there are.
            packet[1] += 3;
            packet.splice(2..2, format!("{}-", attachments.len()).into_bytes());
        }
        replies.text(&packet);
        for attachment in attachments {
            replies.binary(attachment);
        }
    }
}

impl Service for Echo {
    type Peer = Arrival;
    type Handle = ();
    type Dialect = ClientDialect;
    type Answer = Answer;

    fn opened(
        &mut self,
        arrival: Arrival,
        session: SessionId,
        replies: &mut Replies<'_, ClientDialect>,
    ) -> Opened<()> {
        if let Arrival::SocketIo(newcomer) = arrival {
            replies.text(&self.worker.open(session, &newcomer, &self.config));
            let client = Client {
                connection: Connection::new(self.clock.now(), &self.rules),
                binary: None,
            };
            self.clients.insert(session.key, client);
            self.wait(session.key, self.rules.connect_timeout);
        }
        ().into()
    }

    fn message(
        &mut self,
        key: SessionKey,
        (): (),
        message: Message<'_>,
        replies: &mut Replies<'_, ClientDialect>,
    ) {
        if self.packet(key, message, replies).is_err() {
            replies.end(CloseReason::Protocol);
        }
    }

    fn closed(&mut self, (): (), session: SessionId) {
        self.clients.remove(&session.key);
    }

    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<(SessionKey, Answer)> {
        if let Poll::Ready(event) = self.worker.poll_event(context) {
            return Poll::Ready((event.key(), Answer::PipeEvent(event)));
        }
        match self.waits.poll_next_unpin(context) {
            Poll::Ready(Some(key)) => Poll::Ready((key, Answer::Late)),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn answer(
        &mut self,
        session: SessionId,
        (): &mut (),
        answer: Answer,
        _: &mut Replies<'_, ClientDialect>,
    ) -> Result<Then, CloseReason> {
        match answer {
            Answer::PipeEvent(event) => Ok(event.then()),
            Answer::Late => match self.clients.get(&session.key) {
                Some(client) if client.connection.tick(self.clock.now()).is_err() => {
                    Err(CloseReason::ConnectTimeout)
                }
                _ => Ok(Then::Nothing),
            },
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let flags = EchoFlags::parse();
    let echo = |worker, config, rules: &Rules| Echo {
        worker,
        config,
        rules: rules.clone(),
        clock: Clock::start(),
        clients: HashMap::new(),
        waits: FuturesUnordered::new(),
    };
    edge::serve(&flags, ("/socket.io/", "/custom"), echo).await
}
