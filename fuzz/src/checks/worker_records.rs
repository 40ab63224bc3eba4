//! A worker whose client speaks TLS: the frames in its records are those of a plain client.

use std::sync::LazyLock;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use presenced_presence::SessionId;
use presenced_session::close_reason::CloseReason;
use presenced_session::connection::{Connection, Tls};
use presenced_session::memory::Memory;
use presenced_session::service::{Message, Opened, Replies, Service};
use presenced_session::slab::SessionKey;
use presenced_session::worker::{NewSession, Worker, WorkerConfig};
use presenced_session::{Seat, dialect};
use presenced_tls::rustls::SupportedCipherSuite;
use presenced_tls::testing::{craft, ends, go_on_to_next_write_key, suites};
use presenced_tls::{End, RecordLayer};

use super::frames::{put_frame, sent_by};
use super::pieces::pieces;

static SUITES: LazyLock<Vec<SupportedCipherSuite>> = LazyLock::new(suites);

const ACTS_MAX: usize = 24;

/// Records without data that come in a row: fewer than end a connection.
const IDLE_MAX: usize = 16;

const DATA: u8 = 23;
const HANDSHAKE: u8 = 22;

const OTHERS_TEXT: &[u8] = b"still up";

/// What a client does, or somebody between it and the server.
enum Act {
    /// Sends frames, in records that are cut as the frames say.
    Frames(Vec<u8>),
    /// Goes on to its next key, and perhaps wants the server to.
    Update { is_wanted: bool },
    /// Sends a record without data.
    Nothing,
    /// Takes so many bytes more.
    Room(u8),
    /// Ends TLS.
    Close,
    /// Sends what is no record of its own.
    Insert(Vec<u8>),
    /// Changes a bit of a record.
    Change { place: u16, bit: u8 },
}

impl Act {
    /// Whether no frame behind it is heard.
    fn is_last(&self) -> bool {
        match self {
            Act::Frames(_) | Act::Update { .. } | Act::Nothing | Act::Room(_) => false,
            Act::Insert(bytes) => !bytes.is_empty(),
            Act::Close | Act::Change { .. } => true,
        }
    }
}

/// Takes the bytes as a suite and acts. Messages, answers and the reason of the end are those of a plain session with the
/// same frames, however the records are cut, and nothing is heard behind what is forbidden; all that the worker writes the
/// client can open; and other sessions are not affected.
pub fn worker_records(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok((suite, acts)) = read(&mut input) else {
        return;
    };
    let last = acts.iter().position(Act::is_last);
    let heard = acts[..last.unwrap_or(acts.len())].iter();
    let frames: Vec<u8> = heard
        .filter_map(|act| match act {
            Act::Frames(frames) => Some(&frames[..]),
            _ => None,
        })
        .collect::<Vec<_>>()
        .concat();
    let plain = play(None, &[Act::Frames(frames)], &[]);
    for cuts in [data, &[]] {
        let seen = play(Some(suite), &acts, cuts);
        assert_eq!(seen.messages, plain.messages);
        match (last.map(|last| &acts[last]), plain.end) {
            (_, Some(_)) | (None, None) => assert_eq!(seen.end, plain.end),
            (Some(Act::Close), None) => assert_eq!(seen.end, Some(CloseReason::Disconnected)),
            // Of a record that is too long more may be to come.
            (Some(_), None) => assert!(matches!(seen.end, None | Some(CloseReason::Tls))),
        }
        // What comes with a forbidden record can't be answered, and what a client that is gone does not take is lost.
        match last.is_some() {
            true => assert!(plain.answers.starts_with(&seen.answers)),
            false => assert_eq!(seen.answers, plain.answers),
        }
    }
}

fn read(input: &mut Unstructured<'_>) -> Result<(SupportedCipherSuite, Vec<Act>)> {
    let suite = *input.choose(&SUITES)?;
    let (mut acts, mut idle) = (Vec::new(), 0);
    while !input.is_empty() && acts.len() < ACTS_MAX {
        let act = act(input)?;
        let may_come = match &act {
            Act::Frames(frames) if !frames.is_empty() => {
                idle = 0;
                true
            }
            // With TLS 1.2 there are no key updates.
            Act::Update { .. } => suite.tls13().is_some() && idle < IDLE_MAX,
            Act::Nothing => idle < IDLE_MAX,
            _ => true,
        };
        if may_come {
            idle += 1;
            acts.push(act);
        }
    }
    Ok((suite, acts))
}

fn act(input: &mut Unstructured<'_>) -> Result<Act> {
    Ok(match input.int_in_range(0..=15)? {
        0..=6 => Act::Frames(sent_by(some_bytes(input)?)),
        7 => Act::Frames(some_bytes(input)?.to_vec()),
        8 | 9 => Act::Update {
            is_wanted: input.arbitrary()?,
        },
        10 => Act::Nothing,
        11 | 12 => Act::Room(input.arbitrary()?),
        13 => Act::Close,
        14 => Act::Insert(some_bytes(input)?.to_vec()),
        _ => Act::Change {
            place: input.arbitrary()?,
            bit: input.arbitrary()?,
        },
    })
}

fn some_bytes<'a>(input: &mut Unstructured<'a>) -> Result<&'a [u8]> {
    let count = input.int_in_range(0..=60)?.min(input.len());
    input.bytes(count)
}

/// Messages and whether they are text, the frames sent back, and how the session ended.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    messages: Vec<(bool, Vec<u8>)>,
    answers: Vec<u8>,
    end: Option<CloseReason>,
}

/// What comes of a session over TLS with this suite if there is one. What is sent at once is cut as `cuts` says.
fn play(suite: Option<SupportedCipherSuite>, acts: &[Act], cuts: &[u8]) -> Seen {
    let mut parts = WorkerConfig::alone();
    parts.config.frames_per_second_max = u32::MAX;
    let mut worker = Worker::new(Listener::default(), parts).unwrap();
    let mut others = [None, Some(SUITES[0])].map(|suite| Client::open(&mut worker, suite));
    let mut client = Client::open(&mut worker, suite);
    for act in acts {
        let bytes = client.bytes_of(act);
        for piece in cut(&bytes, cuts) {
            client.socket.send(&piece);
            client.read(&mut worker);
        }
    }
    client.socket.set_room(usize::MAX);
    client.read(&mut worker);
    let messages = std::mem::take(&mut worker.service().messages);
    for other in &mut others {
        let mut frame = Vec::new();
        put_frame(&mut frame, 0x81, OTHERS_TEXT);
        let bytes = other.bytes_of(&Act::Frames(frame));
        other.socket.send(&bytes);
        other.read(&mut worker);
        let heard = std::mem::take(&mut worker.service().messages);
        assert_eq!(heard, [(true, OTHERS_TEXT.to_vec())]);
        assert_eq!(other.answers, b"");
    }
    let metrics = worker.metrics().clone();
    let has_ended = |reason: &CloseReason| metrics.ends[*reason as usize].value() > 0;
    let mut reasons = CloseReason::ALL.into_iter().filter(has_ended);
    let end = reasons.next();
    assert_eq!(reasons.next(), None, "only one session has ended");
    assert_ne!(end, Some(CloseReason::Internal));
    client.check_end(end);
    Seen {
        messages,
        answers: client.answers,
        end,
    }
}

fn cut(bytes: &[u8], cuts: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = bytes;
    let mut cut: Vec<Vec<u8>> = pieces(cuts)
        .map_while(|piece| {
            let (first, left) = rest.split_at_checked(piece.len())?;
            rest = left;
            Some(first.to_vec())
        })
        .collect();
    cut.push(rest.to_vec());
    cut
}

struct Client {
    key: SessionKey,
    socket: Memory,
    records: Option<Box<RecordLayer>>,
    /// What has come of a record.
    inbox: Vec<u8>,
    answers: Vec<u8>,
    told: Option<End>,
}

impl Client {
    fn open(worker: &mut Worker<Listener, Memory>, suite: Option<SupportedCipherSuite>) -> Client {
        let socket = Memory::default();
        let (records, theirs) = suite.map(ends).unzip();
        let connection = Connection {
            transport: socket.clone(),
            tls: theirs.map(|records| Tls {
                records,
                partial: Vec::new(),
            }),
        };
        let new = NewSession {
            socket: connection.into(),
            read_ahead: Default::default(),
            peer: (),
            dialect: dialect::Plain,
            expires_at: Duration::from_secs(3600),
            seat: Seat::take(worker.seats()).unwrap(),
        };
        Client {
            key: worker.open(new, Duration::ZERO),
            socket,
            records,
            inbox: Vec::new(),
            answers: Vec::new(),
            told: None,
        }
    }

    /// What goes over the wire.
    fn bytes_of(&mut self, act: &Act) -> Vec<u8> {
        if let Act::Room(bytes) = act {
            self.socket.set_room(usize::from(*bytes));
            return Vec::new();
        }
        let Some(records) = &mut self.records else {
            return match act {
                Act::Frames(frames) => frames.clone(),
                _ => Vec::new(),
            };
        };
        let mut wire = Vec::new();
        match act {
            Act::Frames(frames) => {
                for piece in pieces(frames) {
                    wire.extend(craft(records, DATA, piece, piece.len() % 3));
                }
            }
            Act::Update { is_wanted } => {
                let update = [24, 0, 0, 1, u8::from(*is_wanted)];
                wire = craft(records, HANDSHAKE, &update, 0);
                go_on_to_next_write_key(records);
            }
            Act::Nothing => wire = craft(records, DATA, b"", 0),
            Act::Close => records.close(&mut wire),
            Act::Insert(bytes) => wire.clone_from(bytes),
            Act::Change { place, bit } => {
                wire = craft(records, DATA, b"changed", 0);
                let place = usize::from(*place) % wire.len();
                wire[place] ^= 1 << (bit % 8);
            }
            Act::Room(_) => {}
        }
        wire
    }

    /// The worker reads what has come, and the client what is said to it.
    fn read(&mut self, worker: &mut Worker<Listener, Memory>) {
        loop {
            let has_more = worker.readable(self.key, Duration::ZERO);
            let said = self.socket.take();
            if !has_more && said.is_empty() {
                return;
            }
            self.hear(said);
        }
    }

    fn hear(&mut self, said: Vec<u8>) {
        let Some(records) = &mut self.records else {
            return self.answers.extend(said);
        };
        self.inbox.extend(said);
        // One after another, so that what comes behind the end is seen.
        while let Some(&[_, _, _, high, low]) = self.inbox.first_chunk() {
            let whole = 5 + usize::from(u16::from_be_bytes([high, low]));
            if self.inbox.len() < whole {
                break;
            }
            assert_eq!(self.told, None, "a record behind the end");
            let mut record: Vec<u8> = self.inbox.drain(..whole).collect();
            let opened = records.open(&mut record, &mut Vec::new());
            assert!(!matches!(opened.end, Some(End::Fault(_))), "{opened:?}");
            self.answers.extend_from_slice(&record[..opened.data]);
            self.told = opened.end;
        }
    }

    /// TLS ends before the stream does, by an alert where something was forbidden.
    fn check_end(&self, end: Option<CloseReason>) {
        if self.records.is_none() || end == Some(CloseReason::Disconnected) {
            return;
        }
        assert_eq!(self.inbox, b"", "part of a record");
        match end {
            None => assert_eq!(self.told, None),
            Some(CloseReason::Tls) => assert!(matches!(self.told, Some(End::Alert(_)))),
            // A forbidden record may come with the end of the frames.
            Some(_) => assert!(self.told.is_some()),
        }
    }
}

/// Collects messages.
#[derive(Default)]
struct Listener {
    messages: Vec<(bool, Vec<u8>)>,
}

impl Service for Listener {
    type Peer = ();
    type Handle = ();
    type Dialect = dialect::Plain<true>;
    type Answer = ();

    fn opened(&mut self, (): (), _: SessionId, _: &mut Replies<'_, Self::Dialect>) -> Opened<()> {
        ().into()
    }

    fn message(
        &mut self,
        _: SessionKey,
        (): (),
        message: Message<'_>,
        _: &mut Replies<'_, Self::Dialect>,
    ) {
        self.messages.push(match message {
            Message::Text(text) => (true, text.to_vec()),
            Message::Binary(data) => (false, data.to_vec()),
        });
    }
}
