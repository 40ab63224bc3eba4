//! A ping and its pong, from the socket to the pending buffer, allocate nothing and take one write and one read, in either
//! protocol and with every suite of TLS: counted, not believed.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use presenced::gateway::client_dialect::ClientDialect;
use presenced_presence::{Pending, SessionId, Slot};
use presenced_session::connection::Connection;
use presenced_session::memory::Memory;
use presenced_session::service::{Message, Opened, Replies, Service};
use presenced_session::slab::SessionKey;
use presenced_session::transport::Transport;
use presenced_session::worker::{NewSession, Worker, WorkerConfig};
use presenced_session::{Config, Seat};
use presenced_testkit::alone;
use presenced_testkit::client_end::{ClientEnd, SUITES};
use presenced_testkit::frame::pong_of;
use presenced_tls::rustls::SupportedCipherSuite;

const PINGS: u32 = 10_000;

/// With each suite of TLS.
const PINGS_OVER_TLS: u32 = 1000;

/// A socket that counts how often it is read from and written to.
struct Counted {
    wire: Memory,
    calls: Rc<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    reads: Cell<u32>,
    writes: Cell<u32>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.calls.reads.set(self.calls.reads.get() + 1);
        self.wire.read(buffer)
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.calls.writes.set(self.calls.writes.get() + 1);
        self.wire.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for Counted {
    fn descriptor(&self) -> Option<RawFd> {
        None
    }

    fn finish(&self) {
        self.wire.finish();
    }
}

/// What [`presenced::server::presence_service::PresenceService`] does with a heartbeat.
struct Heartbeats {
    pending: Arc<Pending>,
    slot: Slot,
}

impl Service for Heartbeats {
    type Peer = ();
    type Handle = Option<Slot>;

    type Dialect = ClientDialect;
    type Answer = ();

    fn opened(
        &mut self,
        (): (),
        _: SessionId,
        _: &mut Replies<'_, Self::Dialect>,
    ) -> Opened<Option<Slot>> {
        Some(self.slot).into()
    }

    fn heard(&mut self, slot: Option<Slot>) {
        if let Some(slot) = slot {
            self.pending.record(slot);
        }
    }

    fn message(
        &mut self,
        _: SessionKey,
        _: Option<Slot>,
        _: Message<'_>,
        _: &mut Replies<'_, Self::Dialect>,
    ) {
    }

    fn closed(&mut self, _: Option<Slot>, _: SessionId) {}
}

#[test]
fn a_ping_and_its_pong_allocate_nothing() {
    let _alone = alone();
    allocates_nothing(None, ClientDialect::Plain, pong_of);
}

/// Packets in text frames, of which the pong is `3`.
#[test]
fn a_ping_of_engine_io_and_its_pong_allocate_nothing() {
    let _alone = alone();
    allocates_nothing(None, ClientDialect::SocketIo, pong_of_engine_io);
}

#[test]
fn a_ping_and_its_pong_over_tls_allocate_nothing() {
    let _alone = alone();
    for &suite in SUITES.iter() {
        allocates_nothing(Some(suite), ClientDialect::Plain, pong_of);
        allocates_nothing(Some(suite), ClientDialect::SocketIo, pong_of_engine_io);
    }
}

fn pong_of_engine_io(ping: &[u8]) -> Vec<u8> {
    assert_eq!(ping, b"\x81\x012");
    b"\x81\x81\0\0\0\x003".into()
}

fn allocates_nothing(
    suite: Option<SupportedCipherSuite>,
    dialect: ClientDialect,
    pong_of: impl Fn(&[u8]) -> Vec<u8>,
) {
    let pending = Arc::new(Pending::new());
    let slot = Slot::new(5, 12_345);
    pending.reserve(slot);
    let service = Heartbeats {
        pending: pending.clone(),
        slot,
    };
    let parts = WorkerConfig {
        config: Config {
            frames_per_second_max: 1_000_000,
            ..Config::default()
        },
        ..WorkerConfig::alone()
    };
    let (interval, metrics) = (parts.config.ping_interval, parts.metrics.clone());
    let mut worker: Worker<_, Counted> = Worker::new(service, parts).unwrap();
    let (client, Connection { transport, tls }) = ClientEnd::pair(suite);
    let calls = Rc::new(Calls::default());
    let transport = Counted {
        wire: transport,
        calls: calls.clone(),
    };
    let new = NewSession {
        socket: Connection { transport, tls }.into(),
        read_ahead: Default::default(),
        peer: (),
        dialect,
        expires_at: Duration::MAX,
        seat: Seat::take(worker.seats()).unwrap(),
    };
    let key = worker.open(new, Duration::ZERO);

    let pings = if suite.is_some() {
        PINGS_OVER_TLS
    } else {
        PINGS
    };
    let (mut now, mut allocated) = (Duration::ZERO, 0);
    for number in 0..pings {
        let mut count = allocation_counter::measure(|| {
            let pinged = metrics.pings.value();
            while metrics.pings.value() == pinged {
                now += interval / 100;
                worker.tick(now).unwrap();
            }
        });
        client.send(&pong_of(&client.take()));
        count.count_total += allocation_counter::measure(|| {
            assert!(!worker.readable(key, now), "there is nothing more");
        })
        .count_total;
        assert!(pending.contains(slot));
        pending.forget(slot);
        // The first round makes the buffers; the socket in memory grows by itself each time.
        let of_the_socket = 1;
        if number > 0 {
            allocated += count.count_total - of_the_socket;
        }
    }
    assert_eq!(
        metrics.pongs.value(),
        u64::from(pings),
        "each answers its ping"
    );
    assert_eq!(allocated, 0, "{suite:?}");
    assert_eq!((calls.writes.get(), calls.reads.get()), (pings, pings));
}
