//! A client's end of a session's connection in memory, plain or over TLS.

use std::cell::{Cell, RefCell};
use std::sync::LazyLock;

use presenced_session::connection::{Connection, Tls};
use presenced_session::memory::Memory;
use presenced_tls::rustls::SupportedCipherSuite;
use presenced_tls::testing::{craft, ends, go_on_to_next_write_key, suites};
use presenced_tls::{End, RecordLayer};

/// Every suite of the server's.
pub static SUITES: LazyLock<Vec<SupportedCipherSuite>> = LazyLock::new(suites);

/// Before each record: its type, a version, and its length in two bytes (RFC 8446 §5.1).
const RECORD_HEADER_BYTES: usize = 5;

/// The type of the records that bear key updates (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;

/// What carries sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Plain,
    /// TLS, with each suite in turn.
    Tls,
    /// TLS with each suite in turn, and a plain connection after each.
    Both,
}

impl Over {
    /// The suite of a session by its number; `None` of a plain one.
    pub fn suite(self, number: usize) -> Option<SupportedCipherSuite> {
        let nth = |number: usize| Some(SUITES[number % SUITES.len()]);
        match self {
            Over::Tls => nth(number),
            Over::Both if number.is_multiple_of(2) => nth(number / 2),
            Over::Plain | Over::Both => None,
        }
    }
}

/// What a client has of its connection. It opens all that the server has written, in order, and panics where that is not
/// what a TLS connection may bear: a record that does not open, something behind the end, or an end of the stream before
/// the end of TLS.
pub struct ClientEnd {
    wire: Memory,
    secured: Option<RefCell<Secured>>,
    /// Bytes that the server had written when they were taken.
    taken: Cell<usize>,
}

struct Secured {
    records: Box<RecordLayer>,
    /// What has come of a record that is not whole.
    partial: Vec<u8>,
    end: Option<End>,
}

impl ClientEnd {
    /// A client's end and the server's, over TLS with this suite if there is one.
    pub fn pair(suite: Option<SupportedCipherSuite>) -> (ClientEnd, Connection<Memory>) {
        let wire = Memory::default();
        let (ours, theirs) = suite.map(ends).unzip();
        let connection = Connection {
            transport: wire.clone(),
            tls: theirs.map(|records| Tls {
                records,
                partial: Vec::new(),
            }),
        };
        let secured = ours.map(|records| {
            RefCell::new(Secured {
                records,
                partial: Vec::new(),
                end: None,
            })
        });
        let taken = Cell::new(0);
        let client = ClientEnd {
            wire,
            secured,
            taken,
        };
        (client, connection)
    }

    /// Whether this is TLS.
    pub fn is_tls(&self) -> bool {
        self.secured.is_some()
    }

    /// The client's records. It must be TLS.
    pub fn with_records<R>(&self, work: impl FnOnce(&mut RecordLayer) -> R) -> R {
        let secured = self.secured.as_ref().expect("the client speaks TLS");
        work(&mut secured.borrow_mut().records)
    }

    /// Frames as they go over the wire.
    pub fn seal(&self, frames: &[u8]) -> Vec<u8> {
        let Some(secured) = &self.secured else {
            return frames.to_vec();
        };
        let mut sealed = Vec::new();
        let records = &mut secured.borrow_mut().records;
        records.seal(frames, &mut sealed).expect("it is open");
        sealed
    }

    /// The client sends `frames`; the worker reads them when it is told that it may.
    pub fn send(&self, frames: &[u8]) {
        self.wire.send(&self.seal(frames));
    }

    /// The client sends bytes as they are.
    pub fn send_bytes(&self, bytes: &[u8]) {
        self.wire.send(bytes);
    }

    /// A record of any type that the client may send, or must not. It must be TLS.
    pub fn craft(&self, kind: u8, text: &[u8]) -> Vec<u8> {
        self.with_records(|records| craft(records, kind, text, 0))
    }

    /// A record that says that the client goes on to its next key, as it then does, and perhaps that the server is to do
    /// so as well. It must be TLS 1.3.
    pub fn key_update(&self, is_wanted: bool) -> Vec<u8> {
        let update = self.craft(HANDSHAKE, &[24, 0, 0, 1, u8::from(is_wanted)]);
        self.with_records(go_on_to_next_write_key);
        update
    }

    /// The record that ends the client's side of TLS.
    pub fn close_notify(&self) -> Vec<u8> {
        let mut sealed = Vec::new();
        self.with_records(|records| records.close(&mut sealed));
        sealed
    }

    /// The client ends its side of the connection.
    pub fn hang_up(&self) {
        self.wire.hang_up();
    }

    /// Takes the frames that the server has written, as far as their records are whole.
    pub fn take(&self) -> Vec<u8> {
        let bytes = self.take_bytes();
        let Some(secured) = &self.secured else {
            return bytes;
        };
        secured.borrow_mut().open(&bytes, self.wire.is_finished())
    }

    /// Takes what the server has written as it is: nothing that comes later can be opened.
    pub fn take_bytes(&self) -> Vec<u8> {
        let bytes = self.wire.take();
        self.taken.set(self.taken.get() + bytes.len());
        bytes
    }

    /// Bytes that were taken of all that the server has written.
    pub fn taken(&self) -> usize {
        self.taken.get()
    }

    /// Why the client will hear nothing more, as TLS has told it.
    pub fn end(&self) -> Option<End> {
        self.secured.as_ref()?.borrow().end
    }

    /// Bounds how many bytes more the server may write; without it, any number.
    pub fn set_room(&self, bytes: usize) {
        self.wire.set_room(bytes);
    }

    /// Whether the server has ended its side of the connection.
    pub fn is_finished(&self) -> bool {
        self.wire.is_finished()
    }

    /// Whether the worker has let go of it.
    pub fn is_dropped(&self) -> bool {
        self.wire.is_dropped()
    }
}

impl Secured {
    /// Opens one record after another, so that nothing behind the end is overlooked.
    fn open(&mut self, bytes: &[u8], is_finished: bool) -> Vec<u8> {
        let (mut frames, mut rest) = (Vec::new(), std::mem::take(&mut self.partial));
        rest.extend_from_slice(bytes);
        while let Some(&[_, _, _, high, low]) = rest.first_chunk() {
            let length = usize::from(u16::from_be_bytes([high, low]));
            if rest.len() < RECORD_HEADER_BYTES + length {
                break;
            }
            assert_eq!(self.end, None, "a record behind the end");
            let after = rest.split_off(RECORD_HEADER_BYTES + length);
            let mut record = std::mem::replace(&mut rest, after);
            let mut answers = Vec::new();
            let opened = self.records.open(&mut record, &mut answers);
            let is_fault = matches!(opened.end, Some(End::Fault(_)));
            assert!(!is_fault, "what the server has sent: {:?}", opened.end);
            assert_eq!(answers, b"", "the server asks for no key update");
            frames.extend_from_slice(&record[..opened.data]);
            self.end = opened.end;
        }
        if is_finished {
            assert_eq!(rest, b"", "part of a record, and then the end");
            assert!(self.end.is_some(), "the stream ends before TLS does");
        }
        self.partial = rest;
        frames
    }
}
