//! Sessions that begin on a relay, and get a connection over TLS later, be it for their last words.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use presenced_session::Seat;
use presenced_session::close_reason::CloseReason;
use presenced_session::dialect::Plain;
use presenced_session::limits::{CLOSE_TIMEOUT, WHEEL_TICK};
use presenced_session::memory::Memory;
use presenced_session::relay::{Carrier, Relay, Settled};
use presenced_session::slab::SessionKey;
use presenced_session::worker::{NewSession, Worker, WorkerConfig};
use presenced_testkit::client_end::{ClientEnd, SUITES};
use presenced_testkit::frame::{PING, TEXT, closed, frame, pong_of, sent};
use presenced_tls::End;
use presenced_tls::rustls::SupportedCipherSuite;

use super::worker::Echo;

/// Both ends of a relay.
#[derive(Clone, Default)]
struct Pipe(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    to_worker: VecDeque<u8>,
    from_worker: Vec<u8>,
    connection: Option<Settled<Memory>>,
    ended: Option<CloseReason>,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.borrow_mut();
        match state.to_worker.is_empty() {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => state.to_worker.read(buffer),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().from_worker.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Relay<Memory> for Pipe {
    fn finish(&mut self, end: CloseReason) {
        self.0.borrow_mut().ended = Some(end);
    }

    fn settled(&mut self) -> Option<Settled<Memory>> {
        self.0.borrow_mut().connection.take()
    }
}

struct Tried {
    worker: Worker<Echo, Memory, Pipe>,
    now: Duration,
    key: SessionKey,
    pipe: Pipe,
}

impl Tried {
    /// A worker with a session on a relay, in the place of one that was over TLS.
    fn new(suite: SupportedCipherSuite) -> Tried {
        let parts = WorkerConfig::alone();
        let now = parts.clock.now();
        let pipe = Pipe::default();
        let mut tried = Tried {
            worker: Worker::with_relays(Echo::default(), parts).unwrap(),
            now,
            key: SessionKey {
                index: 0,
                generation: 0,
            },
            pipe: pipe.clone(),
        };
        let (client, connection) = ClientEnd::pair(Some(suite));
        let before = tried.open(connection.into());
        tried.worker.end(before, CloseReason::Disconnected);
        assert!(client.is_dropped());
        tried.key = tried.open(Carrier::Relay(pipe));
        assert_eq!(tried.key.index, before.index);
        tried
    }

    fn open(&mut self, socket: Carrier<Memory, Pipe>) -> SessionKey {
        let new = NewSession {
            socket,
            read_ahead: Default::default(),
            peer: (),
            dialect: Plain,
            expires_at: Duration::MAX,
            seat: Seat::take(self.worker.seats()).unwrap(),
        };
        self.worker.open(new, self.now)
    }

    /// What the server says to a frame on the relay.
    fn relay_says(&mut self, frame: &[u8]) -> Vec<u8> {
        self.pipe.0.borrow_mut().to_worker.extend(frame);
        self.read();
        self.relayed()
    }

    fn relayed(&self) -> Vec<u8> {
        std::mem::take(&mut self.pipe.0.borrow_mut().from_worker)
    }

    fn read(&mut self) {
        while self.worker.readable(self.key, self.now) {}
    }

    /// The session gets a connection, of which `partial` has come of a record if it is over TLS.
    fn settle(
        &mut self,
        suite: Option<SupportedCipherSuite>,
        unsent: Vec<u8>,
        read_ahead: Vec<u8>,
        partial: impl FnOnce(&ClientEnd) -> Vec<u8>,
    ) -> ClientEnd {
        let (client, mut connection) = ClientEnd::pair(suite);
        if let Some(tls) = &mut connection.tls {
            tls.partial = partial(&client);
        }
        self.pipe.0.borrow_mut().connection = Some(Settled {
            connection,
            read_ahead,
            unsent,
        });
        client
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += WHEEL_TICK;
            self.worker.tick(self.now).unwrap();
        }
    }
}

#[test]
fn a_session_goes_over_to_a_connection_over_tls() {
    for &suite in SUITES.iter() {
        for room in [0, 1, 25, usize::MAX] {
            let mut tried = Tried::new(suite);
            let hello = tried.relay_says(&frame(TEXT, b"relay"));
            assert_eq!(hello, sent(TEXT, b"relay"));
            let mut last = Vec::new();
            let client = tried.settle(
                Some(suite),
                sent(TEXT, b"unsent"),
                frame(TEXT, b"ahead"),
                |client| {
                    let record = client.seal(&frame(TEXT, b"in parts"));
                    last = record[9..].to_vec();
                    record[..9].to_vec()
                },
            );
            client.set_room(room);
            // What the relay has is read before.
            assert_eq!(tried.relay_says(&frame(TEXT, b"last")), sent(TEXT, b"last"));
            client.send_bytes(&last);
            tried.read();
            let mut heard = client.take();
            loop {
                let taken = client.taken();
                client.set_room(1);
                tried.read();
                heard.extend(client.take());
                if client.taken() == taken {
                    break;
                }
            }
            let texts = [&b"unsent"[..], b"ahead", b"in parts"].map(|text| sent(TEXT, text));
            assert_eq!(heard, texts.concat(), "{suite:?} {room}");
            assert_eq!(tried.relayed(), b"");
            // It is pinged there.
            client.set_room(usize::MAX);
            while tried.worker.metrics().pings.value() == 0 {
                tried.pass(WHEEL_TICK);
            }
            let ping = client.take();
            assert_eq!(ping[..2], [PING, 8]);
            client.send(&pong_of(&ping));
            tried.read();
            assert_eq!(tried.worker.metrics().pongs.value(), 1);
        }
    }
}

#[test]
fn a_session_that_is_closing_says_its_last_words_on_a_connection_over_tls() {
    let close = closed(4401, "token_expired");
    for &suite in SUITES.iter() {
        for room in [0, 1, 25, usize::MAX] {
            let mut tried = Tried::new(suite);
            tried.worker.end(tried.key, CloseReason::TokenExpired);
            assert_eq!(tried.relayed(), close);
            let ended = tried.pipe.0.borrow().ended;
            assert_eq!(ended, Some(CloseReason::TokenExpired));
            let client = tried.settle(
                Some(suite),
                close.clone(),
                frame(TEXT, b"unheard"),
                |client| client.seal(&frame(TEXT, b"unheard"))[..9].to_vec(),
            );
            client.set_room(room);
            tried.read();
            let mut heard = client.take();
            for _ in 0..200 {
                client.set_room(1);
                tried.read();
                heard.extend(client.take());
            }
            assert_eq!(heard, close, "{suite:?} {room}");
            assert_eq!(client.end(), Some(End::Closed));
            assert!(client.is_finished() && !client.is_dropped());
            assert_eq!(tried.worker.service().heard, 0);
            tried.pass(CLOSE_TIMEOUT + WHEEL_TICK);
            assert!(client.is_dropped());
            assert_eq!((tried.worker.len(), tried.worker.seats().taken()), (0, 0));
        }
    }
}

/// What was not sent waits for the socket when the service fails at what was read ahead.
#[test]
fn a_fault_of_the_service_loses_nothing_that_waits_for_the_connection() {
    for suite in SUITES.iter().copied().map(Some).chain([None]) {
        let mut tried = Tried::new(SUITES[0]);
        let unsent = sent(TEXT, b"unsent");
        let fault = frame(TEXT, b"fault");
        let client = tried.settle(suite, unsent.clone(), fault, |_| Vec::new());
        client.set_room(3);
        tried.read();
        let mut heard = client.take();
        for _ in 0..200 {
            client.set_room(1);
            tried.read();
            heard.extend(client.take());
        }
        let said = [unsent, closed(1011, "internal")].concat();
        assert_eq!(heard, said, "{suite:?}");
        assert!(client.is_finished());
    }
}

#[test]
fn what_tls_forbids_ends_a_session_that_has_gone_over() {
    for &suite in SUITES.iter() {
        let mut tried = Tried::new(suite);
        let client = tried.settle(Some(suite), Vec::new(), Vec::new(), |_| Vec::new());
        tried.read();
        assert_eq!(client.take(), b"");
        client.send_bytes(b"not a record");
        tried.read();
        assert_eq!(client.take(), b"");
        assert!(matches!(client.end(), Some(End::Alert(_))));
        let ends = &tried.worker.metrics().ends;
        assert_eq!(ends[CloseReason::Tls as usize].value(), 1);
        client.hang_up();
        tried.read();
        assert!(client.is_dropped());
    }
}
