//! A panic costs the session or connection that it befell, and nothing else. Each callback of a service and
//! of a dialect fails in turn, for one session among others. The server's tasks: `tests/alone/panics.rs`.

use std::net::{TcpListener, TcpStream};
use std::task::{Context, Poll};
use std::time::Duration;

use presenced_session::close_reason::CloseReason;
use presenced_session::dialect::{Dialect, Meaning, Nonce, Plain};
use presenced_session::limits::{CLOSE_TIMEOUT, WHEEL_TICK};
use presenced_session::service::{Message, Opened, Replies, Service, Then};
use presenced_session::slab::SessionKey;
use presenced_session::worker::{NewSession, Worker, WorkerCommand, WorkerConfig};
use presenced_session::{Config, Seat, SessionId};
use presenced_testkit::frame::{PING, TEXT, closed, frame, pong_of, sent};
use presenced_testkit::lone_worker::{Client, LoneWorker};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::channel;

use super::OVER;

const INTERVAL: Duration = Duration::from_secs(25);
const TIMEOUT: Duration = Duration::from_secs(20);

const PLAIN: Plain<false> = Plain;

/// Where a session fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    Opened,
    Heard,
    Message,
    Closed,
    TryClose,
    PollAnswer,
    Ping,
    IsPong,
    Write,
    Close,
}

impl Fault {
    fn strikes(self, here: Fault) {
        assert!(self != here, "a fault of the test's: {here:?}");
    }
}

impl Dialect for Fault {
    type Ping = <Plain<false> as Dialect>::Ping;

    fn ping(self, nonce: Nonce) -> <Self as Dialect>::Ping {
        self.strikes(Fault::Ping);
        PLAIN.ping(nonce)
    }

    fn is_pong(self, payload: &[u8], nonce: Nonce) -> bool {
        self.strikes(Fault::IsPong);
        PLAIN.is_pong(payload, nonce)
    }

    fn takes_binary(self) -> bool {
        false
    }

    fn read(self, message: Message<'_>) -> Result<Meaning<'_>, CloseReason> {
        PLAIN.read(message)
    }

    fn write(self, out: &mut Vec<u8>, message: Message<'_>) {
        out.extend_from_slice(b"half of it");
        self.strikes(Fault::Write);
        out.clear();
        PLAIN.write(out, message);
    }

    fn close(self, out: &mut Vec<u8>, reason: CloseReason) {
        self.strikes(Fault::Close);
        PLAIN.close(out, reason);
    }
}

/// Says what it hears.
#[derive(Default)]
struct Faulty {
    closed: Vec<SessionId>,
    /// An answer that is to come, and whether that fails.
    answer: Option<(SessionKey, Fault)>,
}

impl Service for Faulty {
    type Peer = Fault;
    type Handle = Fault;
    type Dialect = Fault;
    type Answer = ();

    fn opened(&mut self, peer: Fault, _: SessionId, _: &mut Replies<'_, Fault>) -> Opened<Fault> {
        peer.strikes(Fault::Opened);
        peer.into()
    }

    fn heard(&mut self, fault: Fault) {
        fault.strikes(Fault::Heard);
    }

    fn message(
        &mut self,
        key: SessionKey,
        fault: Fault,
        message: Message<'_>,
        replies: &mut Replies<'_, Fault>,
    ) {
        fault.strikes(Fault::Message);
        match message {
            Message::Text(b"later") => self.answer = Some((key, fault)),
            Message::Text(text) => replies.text(text),
            Message::Binary(_) => {}
        }
    }

    fn closed(&mut self, fault: Fault, session: SessionId) {
        self.closed.push(session);
        fault.strikes(Fault::Closed);
    }

    fn try_close(&mut self, fault: Fault, session: SessionId) -> bool {
        self.closed.push(session);
        fault.strikes(Fault::TryClose);
        true
    }

    fn poll_answer(&mut self, _: &mut Context<'_>) -> Poll<(SessionKey, ())> {
        let Some((key, fault)) = self.answer.take() else {
            return Poll::Pending;
        };
        fault.strikes(Fault::PollAnswer);
        Poll::Ready((key, ()))
    }

    fn answer(
        &mut self,
        _: SessionId,
        _: &mut Fault,
        (): (),
        replies: &mut Replies<'_, Fault>,
    ) -> Result<Then, CloseReason> {
        replies.text(b"answer");
        Ok(Then::Nothing)
    }
}

fn tried() -> LoneWorker<Faulty> {
    let config = Config {
        ping_interval: INTERVAL,
        ping_timeout: TIMEOUT,
        ..Config::default()
    };
    LoneWorker::new(Faulty::default(), config, OVER)
}

/// Lets a round of the wheel pass, in which the clients answer their pings. Says how many were
/// pinged.
fn round(tried: &mut LoneWorker<Faulty>, clients: &[Client]) -> usize {
    let mut pinged = 0;
    for _ in 0..10 {
        tried.pass(INTERVAL / 10);
        for client in clients {
            let said = client.1.take();
            if said.first() == Some(&PING) {
                pinged += 1;
                assert_eq!(tried.says(client, &pong_of(&said)), b"");
            }
        }
    }
    pinged
}

#[test]
fn a_fault_of_one_session_anywhere_ends_that_session_alone() {
    let internal = closed(1011, "internal");
    for fault in [
        Fault::None,
        Fault::Opened,
        Fault::Heard,
        Fault::Message,
        Fault::Closed,
        Fault::Ping,
        Fault::IsPong,
        Fault::Write,
        Fault::Close,
    ] {
        let mut tried = tried();
        // All in one group of the wheel, on both sides of the one that fails.
        let mut others: Vec<_> = (0..3)
            .map(|_| tried.open(Fault::None, Fault::None))
            .collect();
        let faulty = tried.open(fault, fault);
        others.extend((0..3).map(|_| tried.open(Fault::None, Fault::None)));
        let mut said = faulty.1.take();
        if fault != Fault::Opened {
            // A message, a round of pings with its pong, the end.
            said.extend(tried.says(&faulty, &frame(TEXT, b"hello")));
            for _ in 0..10 {
                tried.pass(INTERVAL / 10);
                for client in others.iter().chain([&faulty]) {
                    let ping = client.1.take();
                    match ping.first() {
                        Some(&PING) => {
                            let answered = tried.says(client, &pong_of(&ping));
                            if std::ptr::eq(client, &raw const faulty) {
                                said.extend(answered);
                            }
                        }
                        _ => said.extend(ping),
                    }
                }
            }
            tried.worker.end(faulty.0, CloseReason::TokenExpired);
            said.extend(faulty.1.take());
        }
        // What it was told is whole frames, and the end of it where there can be one.
        let expired = closed(4401, "token_expired");
        let hello = sent(TEXT, b"hello");
        let expected = match fault {
            Fault::None | Fault::Closed => [hello, expired].concat(),
            Fault::Close => hello,
            Fault::IsPong | Fault::Ping => [hello, internal.clone()].concat(),
            _ => internal.clone(),
        };
        assert_eq!(said, expected, "{fault:?}");
        tried.pass(CLOSE_TIMEOUT + WHEEL_TICK);
        assert!(faulty.1.is_dropped(), "{fault:?}");
        let closed = &tried.worker.service().closed;
        assert_eq!(
            closed.len(),
            usize::from(fault != Fault::Opened),
            "{fault:?}"
        );

        // The others are where they were, and newcomers get the place.
        assert_eq!((tried.worker.len(), tried.worker.seats().taken()), (6, 6));
        others.push(tried.open(Fault::None, Fault::None));
        let mut its_place = others.iter().filter(|(key, _)| key.index == faulty.0.index);
        assert!(its_place.next().is_some_and(|(key, _)| *key != faulty.0));
        assert!(round(&mut tried, &others) >= 6, "{fault:?}");
        for client in &others {
            assert_eq!(tried.says(client, &frame(TEXT, b"x")), sent(TEXT, b"x"));
        }
        assert_eq!((tried.worker.len(), tried.worker.seats().taken()), (7, 7));
    }
}

#[test]
fn a_drain_ends_though_a_session_fails_at_it() {
    let mut tried = tried();
    let clients = [Fault::None, Fault::TryClose, Fault::Close, Fault::None];
    let clients = clients.map(|fault| tried.open(fault, fault));
    tried.worker.order(WorkerCommand::Drain {
        over: Duration::from_secs(1),
        grace: Duration::ZERO,
    });
    tried.pass(Duration::from_secs(1) + CLOSE_TIMEOUT + 2 * WHEEL_TICK);
    assert!(clients.iter().all(|(_, socket)| socket.is_dropped()));
    assert_eq!(tried.worker.service().closed.len(), clients.len());
    assert_eq!((tried.worker.len(), tried.worker.seats().taken()), (0, 0));
}

/// The loop itself, over sockets.
#[tokio::test]
async fn a_worker_goes_on_when_an_answer_fails_that_was_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let parts = WorkerConfig::alone();
    let (seats, clock) = (parts.seats.clone(), parts.clock);
    let worker: Worker<_, _> = Worker::new(Faulty::default(), parts).unwrap();
    let (opening, incoming) = channel(8);
    let (_ordering, orders) = channel(1);
    let talking = async {
        let mut clients = Vec::new();
        for fault in [Fault::PollAnswer, Fault::None, Fault::Write] {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (socket, _) = listener.accept().unwrap();
            for stream in [&socket, &client] {
                stream.set_nonblocking(true).unwrap();
            }
            let new = NewSession {
                socket: socket.into(),
                read_ahead: Default::default(),
                peer: fault,
                dialect: fault,
                expires_at: clock.now() + INTERVAL,
                seat: Seat::take(&seats).unwrap(),
            };
            opening.send(new).await.unwrap();
            clients.push(tokio::net::TcpStream::from_std(client).unwrap());
        }
        // The first gets no answer, but lives; the second gets its own; the last one's cannot be spelled.
        clients[0].write_all(&frame(TEXT, b"later")).await.unwrap();
        clients[0].write_all(&frame(TEXT, b"x")).await.unwrap();
        hears(&mut clients[0], &sent(TEXT, b"x")).await;
        clients[1].write_all(&frame(TEXT, b"later")).await.unwrap();
        hears(&mut clients[1], &sent(TEXT, b"answer")).await;
        clients[2].write_all(&frame(TEXT, b"later")).await.unwrap();
        hears(&mut clients[2], &closed(1011, "internal")).await;
        clients[1].write_all(&frame(TEXT, b"later")).await.unwrap();
        hears(&mut clients[1], &sent(TEXT, b"answer")).await;
    };
    tokio::select! {
        ended = worker.run(incoming, orders) => panic!("{ended:?}"),
        () = talking => {}
    }
}

/// What comes next but for pings.
async fn hears(client: &mut tokio::net::TcpStream, expected: &[u8]) {
    let mut said = vec![0; 2];
    loop {
        client.read_exact(&mut said[..2]).await.unwrap();
        said.resize(2 + usize::from(said[1]), 0);
        client.read_exact(&mut said[2..]).await.unwrap();
        if said[0] != PING {
            break;
        }
    }
    assert_eq!(said, expected);
}

/// With it a panic could not be caught.
#[test]
fn no_profile_aborts_on_a_panic() {
    let manifest = include_str!("../../Cargo.toml");
    let compact = manifest.replace(' ', "");
    assert!(!compact.contains(r#"panic="abort""#));
}
