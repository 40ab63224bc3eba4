//! A pong, from the worker's hands to the pending buffer, allocates nothing, in either protocol: counted, not believed.

use std::sync::Arc;
use std::time::Duration;

use presenced::gateway::client_dialect::ClientDialect;
use presenced_presence::{Pending, SessionId, Slot};
use presenced_session::memory::Memory;
use presenced_session::service::{Message, Opened, Replies, Service};
use presenced_session::slab::SessionKey;
use presenced_session::worker::{NewSession, Worker, WorkerConfig};
use presenced_session::{Config, Seat};
use presenced_testkit::alone;
use presenced_testkit::frame::pong_of;

const PINGS: u32 = 10_000;

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
    allocates_nothing(ClientDialect::Plain, pong_of);
}

/// Packets in text frames, of which the pong is `3`.
#[test]
fn a_ping_of_engine_io_and_its_pong_allocate_nothing() {
    let _alone = alone();
    allocates_nothing(ClientDialect::SocketIo, |ping| {
        assert_eq!(ping, b"\x81\x012");
        b"\x81\x81\0\0\0\x003".into()
    });
}

fn allocates_nothing(dialect: ClientDialect, pong_of: impl Fn(&[u8]) -> Vec<u8>) {
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
    let mut worker: Worker<_, _> = Worker::new(service, parts).unwrap();
    let socket = Memory::default();
    let new = NewSession {
        socket: socket.clone().into(),
        read_ahead: Default::default(),
        peer: (),
        dialect,
        expires_at: Duration::MAX,
        seat: Seat::take(worker.seats()).unwrap(),
    };
    let key = worker.open(new, Duration::ZERO);

    let (mut now, mut allocated) = (Duration::ZERO, 0);
    for number in 0..PINGS {
        let mut count = allocation_counter::measure(|| {
            let pinged = metrics.pings.value();
            while metrics.pings.value() == pinged {
                now += interval / 100;
                worker.tick(now).unwrap();
            }
        });
        let mut pong = pong_of(&socket.take());
        count.count_total += allocation_counter::measure(|| {
            worker.receive(key, &mut pong, now).unwrap();
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
        u64::from(PINGS),
        "each answers its ping"
    );
    assert_eq!(allocated, 0);
}
