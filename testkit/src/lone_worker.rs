//! A worker with its sessions in memory and a time of its own.

use std::cell::Cell;
use std::time::Duration;

use presenced_session::connection::Connection;

use presenced_session::limits::WHEEL_TICK;
use presenced_session::memory::Memory;
use presenced_session::service::Service;
use presenced_session::slab::SessionKey;
use presenced_session::worker::{NewSession, Worker, WorkerConfig};
use presenced_session::{Config, Seat};

use crate::client_end::{ClientEnd, Over};

/// Longer than any test takes.
const NEVER: Duration = Duration::from_secs(1 << 30);

/// By then a client that is quiet has been pinged, and let go of.
const AT_LAST: Duration = Duration::from_secs(3600);

/// A session, and its client's end.
pub type Client = (SessionKey, ClientEnd);

thread_local! {
    /// Workers that this thread has had: a test that opens one session of each has every suite in turn.
    static WORKERS: Cell<usize> = const { Cell::new(0) };
}

pub struct LoneWorker<S: Service> {
    pub worker: Worker<S, Memory>,
    pub now: Duration,
    over: Over,
    /// Counts its sessions.
    number: usize,
}

impl<S: Service> LoneWorker<S> {
    /// One whose sessions are carried so.
    pub fn new(service: S, config: Config, over: Over) -> LoneWorker<S> {
        let parts = WorkerConfig {
            config,
            ..WorkerConfig::alone()
        };
        LoneWorker {
            now: parts.clock.now(),
            worker: Worker::new(service, parts).unwrap(),
            over,
            number: WORKERS.replace(WORKERS.get() + 1),
        }
    }

    pub fn open(&mut self, peer: S::Peer, dialect: S::Dialect) -> Client {
        self.open_with(peer, dialect, Vec::new(), NEVER)
    }

    /// The same where `read_ahead` came with the handshake.
    pub fn open_behind(
        &mut self,
        peer: S::Peer,
        dialect: S::Dialect,
        read_ahead: Vec<u8>,
    ) -> Client {
        self.open_with(peer, dialect, read_ahead, NEVER)
    }

    /// The same with a token that expires.
    pub fn open_until(
        &mut self,
        peer: S::Peer,
        dialect: S::Dialect,
        expires_at: Duration,
    ) -> Client {
        self.open_with(peer, dialect, Vec::new(), expires_at)
    }

    /// The same on a connection of the caller's.
    pub fn open_on(
        &mut self,
        peer: S::Peer,
        dialect: S::Dialect,
        connection: Connection<Memory>,
        read_ahead: Vec<u8>,
    ) -> SessionKey {
        self.begin(peer, dialect, connection, read_ahead, NEVER)
    }

    fn open_with(
        &mut self,
        peer: S::Peer,
        dialect: S::Dialect,
        read_ahead: Vec<u8>,
        expires_at: Duration,
    ) -> Client {
        let (socket, connection) = ClientEnd::pair(self.over.suite(self.number));
        self.number += 1;
        let key = self.begin(peer, dialect, connection, read_ahead, expires_at);
        (key, socket)
    }

    fn begin(
        &mut self,
        peer: S::Peer,
        dialect: S::Dialect,
        connection: Connection<Memory>,
        read_ahead: Vec<u8>,
        expires_at: Duration,
    ) -> SessionKey {
        let new = NewSession {
            socket: connection.into(),
            read_ahead: read_ahead.into(),
            peer,
            dialect,
            expires_at,
            seat: Seat::take(self.worker.seats()).unwrap(),
        };
        self.worker.open(new, self.now)
    }

    /// Reads all that a session's client has sent.
    pub fn read(&mut self, key: SessionKey) {
        while self.worker.readable(key, self.now) {}
    }

    /// Sends `frame`; returns what the server says to it.
    pub fn says(&mut self, (key, socket): &Client, frame: &[u8]) -> Vec<u8> {
        socket.send(frame);
        self.read(*key);
        socket.take()
    }

    /// Lets time pass until the server says something by itself, were it part of a record.
    pub fn next(&mut self, socket: &ClientEnd) -> Vec<u8> {
        let (end, taken) = (self.now + AT_LAST, socket.taken());
        while self.now < end {
            self.pass(WHEEL_TICK);
            let said = socket.take();
            if socket.taken() > taken {
                return said;
            }
        }
        panic!("neither a ping nor an end");
    }

    /// Lets time pass, the wheel turning as it does in the server.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += WHEEL_TICK;
            self.worker.tick(self.now).unwrap();
        }
    }
}
