//! The parts of a heartbeat that are not the socket's (gate, codec, pending buffer) allocate nothing:
//! counted, not believed. The worker's own code around them is private and not counted here.

use presenced::limits::MESSAGE_BYTES_MAX;
use presenced::presence::{Pending, Slot};
use presenced::session::codec::Codec;
use presenced::session::gate::{self, Gate};

#[test]
fn gate_codec_and_pending_record_a_pong_without_an_allocation() {
    let pending = Pending::new();
    let slot = Slot::new(5, 12_345);
    pending.reserve(slot);
    let mut codec = Codec::new(MESSAGE_BYTES_MAX);
    let pong = [
        0x8a, 0x88, 1, 2, 3, 4, b'p', b'i', b'n', b'g', b'p', b'i', b'n', b'g',
    ];
    let mut heartbeat = || {
        let Gate::Frame { length, .. } = gate::admit(&pong, MESSAGE_BYTES_MAX) else {
            panic!("a pong passes the gate");
        };
        assert_eq!(codec.decode(&pong[..length], <[u8]>::len), Ok(8));
        pending.record(slot);
    };
    // The codec's buffers are made with the first frame.
    heartbeat();
    let counted = allocation_counter::measure(|| (0..100_000).for_each(|_| heartbeat()));
    assert_eq!(counted.count_total, 0);
    assert!(pending.contains(slot));
}
