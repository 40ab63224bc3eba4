//! What waits for a session. It belongs to the session, not to a transport, so that it is neither
//! lost nor doubled when the transport changes.

use std::collections::VecDeque;

use super::packet::{Kind, Packet};
use super::payload;
use crate::limits::{PACKETS_PER_ANSWER_MAX, QUEUED_PACKET_BYTES};

/// Packets in order, bounded together.
#[derive(Debug, Default)]
pub(super) struct Queue {
    packets: VecDeque<Queued>,
    bytes: usize,
}

#[derive(Debug)]
struct Queued {
    /// `None` of a binary message.
    kind: Option<Kind>,
    data: Box<[u8]>,
}

impl Queued {
    fn packet(&self) -> Packet<'_> {
        match self.kind {
            Some(kind) => Packet::Text(kind, &self.data),
            None => Packet::Binary(&self.data),
        }
    }

    fn bytes(&self) -> usize {
        self.data.len() + QUEUED_PACKET_BYTES
    }
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Whether a ping waits: one is enough.
    pub(super) fn has_ping(&self) -> bool {
        let mut kinds = self.packets.iter().map(|queued| queued.kind);
        kinds.any(|kind| kind == Some(Kind::Ping))
    }

    /// Appends a packet; false if there is no room for it.
    pub(super) fn push(&mut self, packet: Packet<'_>, bytes_max: usize) -> bool {
        let (kind, data) = match packet {
            Packet::Text(kind, data) => (Some(kind), data),
            Packet::Binary(data) => (None, data),
        };
        let queued = Queued {
            kind,
            data: data.into(),
        };
        self.bytes += queued.bytes();
        self.packets.push_back(queued);
        self.bytes <= bytes_max
    }

    /// The first packet as a WebSocket has it, appended to `out`, and whether it is text.
    pub(super) fn pop_message(&mut self, out: &mut Vec<u8>) -> Option<bool> {
        let queued = self.pop()?;
        match queued.packet() {
            Packet::Text(kind, data) => {
                out.push(kind.digit());
                out.extend_from_slice(data);
            }
            Packet::Binary(data) => out.extend_from_slice(data),
        }
        Some(queued.kind.is_some())
    }

    /// Appends the first packets to the answer to a poll, as many as it may have. `spare` places are
    /// left; true if nothing is left in the queue.
    pub(super) fn pop_payload(&mut self, body: &mut Vec<u8>, spare: usize) -> bool {
        for _ in 0..PACKETS_PER_ANSWER_MAX - spare {
            match self.pop() {
                Some(queued) => payload::push(body, queued.packet()),
                None => break,
            }
        }
        self.is_empty()
    }

    fn pop(&mut self) -> Option<Queued> {
        let queued = self.packets.pop_front()?;
        self.bytes -= queued.bytes();
        Some(queued)
    }
}
