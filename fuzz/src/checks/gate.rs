//! Frames of a client, handled by a worker whose sessions are in memory, or while a token is awaited, and
//! compared with a naive second implementation of RFC 6455.

use std::time::Duration;

use presenced::gateway::first_message::{FirstMessage, Step};
use presenced::gateway::refusal::MessageFault;
use presenced::limits::{FIRST_MESSAGE_OTHER_BYTES, TOKEN_BYTES_MAX};
use presenced::server::client_message::{self, ClientMessage};
use presenced_presence::SessionId;
use presenced_session::close_reason::CloseReason;
use presenced_session::limits::{FRAGMENT_BYTES_MIN, FRAGMENTS_MAX, MESSAGE_BYTES_MAX};
use presenced_session::memory::Memory;
use presenced_session::service::{Message, Opened, Replies, Service};
use presenced_session::slab::SessionKey;
use presenced_session::worker::{NewSession, Worker, WorkerConfig};
use presenced_session::{Seat, dialect};

use super::frames::{put_frame, sent_by, xored};
use super::pieces::pieces;

/// Takes the bytes as a client's frames. The first byte says whether the others are sent as they
/// are or are a script for mostly legal frames (see [`sent_by`]), and how small the small limit is.
/// Received whole, in pieces and byte by byte, interleaved with the frames of another session, the
/// result must be that of the naive implementation. So must what comes of them as a first message.
pub fn gate(data: &[u8]) {
    let Some((&mode, data)) = data.split_first() else {
        return;
    };
    let input = match mode & 1 {
        0 => data.to_vec(),
        _ => sent_by(data),
    };
    let small = OTHERS_TEXT.len() + usize::from(mode >> 1);
    for bytes_max in [MESSAGE_BYTES_MAX, small] {
        all_ways::<false>(&input, bytes_max);
        all_ways::<true>(&input, bytes_max);
    }
    for token_bytes_max in [TOKEN_BYTES_MAX, usize::from(mode >> 1)] {
        let expected = naive_first_message(&input, token_bytes_max);
        let first = |pieces| first_message(pieces, token_bytes_max);
        assert_eq!(first(vec![&input[..]]), expected);
        assert_eq!(first(pieces(&input).collect()), expected);
        if input.len() <= 256 {
            assert_eq!(first(input.chunks(1).collect()), expected);
        }
    }
}

/// What a first message comes to, the bytes sent back, and how many bytes are left for the session.
type First = (Result<Step, MessageFault>, Vec<u8>, usize);

fn first_message(pieces: Vec<&[u8]>, token_bytes_max: usize) -> First {
    let mut message = FirstMessage::new(token_bytes_max);
    let (mut input, mut out) = (Vec::new(), Vec::new());
    let mut to_come: usize = pieces.iter().map(|piece| piece.len()).sum();
    let mut result = Ok(Step::Wait);
    for piece in pieces {
        input.extend_from_slice(piece);
        to_come -= piece.len();
        result = message.read(&mut input, &mut out);
        if result != Ok(Step::Wait) {
            break;
        }
        // Not even the longest frame's head beyond it.
        assert!(input.len() < token_bytes_max + FIRST_MESSAGE_OTHER_BYTES + 14);
    }
    let left = match result {
        Ok(Step::Token(_)) => input.len() + to_come,
        _ => 0,
    };
    (result, out, left)
}

/// What a first message should come to. A message shows a token if it does so in a session.
fn naive_first_message(input: &[u8], token_bytes_max: usize) -> First {
    let bytes_max = token_bytes_max + FIRST_MESSAGE_OTHER_BYTES;
    let mut naive = Naive {
        bytes_max,
        ..Naive::default()
    };
    let (mut rest, mut bytes_left) = (input, bytes_max);
    let result = loop {
        let (first, payload, after) = match naive_frame(rest, bytes_left) {
            Ok(Some(frame)) => frame,
            Ok(None) => break Ok(Step::Wait),
            Err(end) => break Err(end.into()),
        };
        let bytes = rest.len() - after.len();
        if bytes > bytes_left {
            break Err(CloseReason::TooBig.into());
        }
        (rest, bytes_left) = (after, bytes_left - bytes);
        match naive.react(first & 0x0f, first & 0x80 != 0, payload) {
            Err(CloseReason::Closed) => break Ok(Step::Left),
            Err(end) => break Err(end.into()),
            Ok(()) => {}
        }
        if let Some((_, text)) = naive.messages.first() {
            break match client_message::parse(text) {
                Ok(ClientMessage::Token(token)) => Ok(Step::Token(token.into_owned())),
                _ => Err(MessageFault::NotAToken),
            };
        }
    };
    let left = match result {
        Ok(Step::Token(_)) => rest.len(),
        _ => 0,
    };
    (result, naive.answers, left)
}

fn all_ways<const BINARY: bool>(input: &[u8], bytes_max: usize) {
    let expected = naive_session(input, bytes_max, BINARY);
    let mut parts = WorkerConfig::alone();
    parts.config.message_bytes_max = bytes_max;
    parts.config.frames_per_second_max = u32::MAX;
    let mut worker = Worker::new(Listener::<BINARY>::default(), parts).unwrap();
    let other = open(&mut worker, &Memory::default());
    assert_eq!(session(&mut worker, other, [input].into_iter()), expected);
    assert_eq!(session(&mut worker, other, pieces(input)), expected);
    if input.len() <= 256 {
        assert_eq!(session(&mut worker, other, input.chunks(1)), expected);
    }
}

/// Messages and whether they are text, the bytes sent back, and how the session ended.
type Seen = (Vec<(bool, Vec<u8>)>, Vec<u8>, Result<(), CloseReason>);

/// Collects messages.
#[derive(Default)]
struct Listener<const BINARY: bool> {
    messages: Vec<(bool, Vec<u8>)>,
}

impl<const BINARY: bool> Service for Listener<BINARY> {
    type Peer = ();
    type Handle = ();

    type Dialect = dialect::Plain<BINARY>;
    type Answer = ();

    fn opened(&mut self, _: (), _: SessionId, _: &mut Replies<'_, Self::Dialect>) -> Opened<()> {
        Opened {
            handle: (),
            replaced: None,
        }
    }

    fn heard(&mut self, _: ()) {}

    fn message(
        &mut self,
        _: SessionKey,
        _: (),
        message: Message<'_>,
        _: &mut Replies<'_, Self::Dialect>,
    ) {
        self.messages.push(match message {
            Message::Text(text) => (true, text.to_vec()),
            Message::Binary(data) => (false, data.to_vec()),
        });
    }

    fn closed(&mut self, _: (), _: SessionId) {}
}

type Tried<const BINARY: bool> = Worker<Listener<BINARY>, Memory>;

fn open<const BINARY: bool>(worker: &mut Tried<BINARY>, socket: &Memory) -> SessionKey {
    let new = NewSession {
        socket: socket.clone().into(),
        read_ahead: Default::default(),
        peer: (),
        dialect: dialect::Plain,
        expires_at: Duration::from_secs(3600),
        seat: Seat::take(worker.seats()).unwrap(),
    };
    worker.open(new, Duration::ZERO)
}

fn session<'a, const BINARY: bool>(
    worker: &mut Tried<BINARY>,
    other: SessionKey,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> Seen {
    let socket = Memory::default();
    let key = open(worker, &socket);
    let (mut messages, mut result) = (Vec::new(), Ok(()));
    for piece in pieces {
        result = worker.receive(key, &mut piece.to_vec(), Duration::ZERO);
        messages.append(&mut worker.service().messages);
        // Nothing of one session may affect another, whatever happened to it.
        let mut frame = Vec::new();
        put_frame(&mut frame, 0x81, OTHERS_TEXT);
        assert_eq!(worker.receive(other, &mut frame, Duration::ZERO), Ok(()));
        let heard = std::mem::take(&mut worker.service().messages);
        assert_eq!(heard, [(true, OTHERS_TEXT.to_vec())]);
        if let Err(end) = result {
            assert_ne!(end, CloseReason::Internal);
            break;
        }
    }
    let answers = socket.take();
    worker.end(key, CloseReason::Disconnected);
    (messages, answers, result)
}

const OTHERS_TEXT: &[u8] = b"still up";

/// What a session should make of `input`.
fn naive_session(input: &[u8], bytes_max: usize, takes_binary: bool) -> Seen {
    let mut naive = Naive {
        bytes_max,
        takes_binary,
        ..Naive::default()
    };
    let mut rest = input;
    let result = loop {
        match naive_frame(rest, bytes_max) {
            Ok(None) => break Ok(()),
            Ok(Some((first, payload, after))) => {
                rest = after;
                if let Err(end) = naive.react(first & 0x0f, first & 0x80 != 0, payload) {
                    break Err(end);
                }
            }
            Err(end) => break Err(end),
        }
    };
    (naive.messages, naive.answers, result)
}

/// The first byte, the unmasked payload, and the input after the frame; `None` if it is incomplete.
type NaiveFrame<'a> = Option<(u8, Vec<u8>, &'a [u8])>;

fn naive_frame(input: &[u8], payload_bytes_max: usize) -> Result<NaiveFrame<'_>, CloseReason> {
    let [first, second, after @ ..] = input else {
        return Ok(None);
    };
    let (opcode, short) = (first & 0x0f, second & 0x7f);
    let reserved = first & 0x70 != 0 || ![0, 1, 2, 8, 9, 10].contains(&opcode); // §5.2
    let masked = second & 0x80 != 0; // §5.1
    let bad_control = opcode >= 8 && (first & 0x80 == 0 || short > 125); // §5.5
    if reserved || !masked || bad_control {
        return Err(CloseReason::Protocol);
    }
    let (wide, least) = match short {
        126 => (2, 126),
        127 => (8, 65536),
        _ => (0, 0),
    };
    let Some((length, after)) = after.split_at_checked(wide) else {
        return Ok(None);
    };
    let length = match wide {
        0 => u64::from(short),
        _ => length
            .iter()
            .fold(0, |number, &byte| number * 256 + u64::from(byte)),
    };
    // §5.2: minimal, and without the highest bit.
    if length < least || length.leading_zeros() == 0 {
        return Err(CloseReason::Protocol);
    }
    if length > payload_bytes_max as u64 {
        return Err(CloseReason::TooBig);
    }
    let Some((mask, after)) = after.split_at_checked(4) else {
        return Ok(None);
    };
    let Some((payload, after)) = after.split_at_checked(length as usize) else {
        return Ok(None);
    };
    Ok(Some((*first, xored(payload, mask), after)))
}

#[derive(Default)]
struct Naive {
    bytes_max: usize,
    takes_binary: bool,
    messages: Vec<(bool, Vec<u8>)>,
    answers: Vec<u8>,
    /// The message that has begun: whether it is text, its number of fragments, and their payloads.
    message: Option<(bool, usize, Vec<u8>)>,
}

impl Naive {
    fn react(&mut self, opcode: u8, fin: bool, payload: Vec<u8>) -> Result<(), CloseReason> {
        match opcode {
            8 => {
                let code = naive_close_code(&payload)?;
                // What has a code has a reason, too.
                let reason = if code.is_empty() { "" } else { "closed" };
                let payload = [code, reason.as_bytes()].concat();
                self.answers.extend([0x88, payload.len() as u8]);
                self.answers.extend(payload);
                Err(CloseReason::Closed)
            }
            9 => {
                self.answers.extend([0x8a, payload.len() as u8]);
                self.answers.extend(payload);
                Ok(())
            }
            10 => Ok(()),
            // Text is validated before checking whether it is allowed here.
            1 if fin && str::from_utf8(&payload).is_err() => Err(CloseReason::InvalidUtf8),
            2 if !self.takes_binary && self.message.is_none() => Err(CloseReason::UnsupportedData),
            _ => self.data(opcode, fin, &payload),
        }
    }

    /// Messages and fragments (§5.4), and their UTF-8 (§8.1).
    fn data(&mut self, opcode: u8, fin: bool, payload: &[u8]) -> Result<(), CloseReason> {
        let (is_text, fragments, mut message) = match (opcode, self.message.take()) {
            (1 | 2, None) if fin => {
                self.messages.push((opcode == 1, payload.to_vec()));
                return Ok(());
            }
            (1 | 2, None) => (opcode == 1, 1, Vec::new()),
            (0, Some((is_text, fragments, message))) => (is_text, fragments + 1, message),
            _ => return Err(CloseReason::Protocol),
        };
        message.extend_from_slice(payload);
        if fragments > FRAGMENTS_MAX.max(self.bytes_max / FRAGMENT_BYTES_MIN) {
            return Err(CloseReason::RateLimited);
        }
        if message.len() > self.bytes_max {
            return Err(CloseReason::TooBig);
        }
        if is_text
            && let Err(error) = str::from_utf8(&message)
            && (fin || error.error_len().is_some())
        {
            return Err(CloseReason::InvalidUtf8);
        }
        match fin {
            true => self.messages.push((is_text, message)),
            false => self.message = Some((is_text, fragments, message)),
        }
        Ok(())
    }
}

/// The bytes of the close code, if there is one (§5.5.1, §7.4, IANA's registry).
fn naive_close_code(payload: &[u8]) -> Result<&[u8], CloseReason> {
    if payload.is_empty() {
        return Ok(payload);
    }
    let Some((code, reason)) = payload.split_at_checked(2) else {
        return Err(CloseReason::Protocol);
    };
    match u16::from(code[0]) * 256 + u16::from(code[1]) {
        1000..=1003 | 1007..=1014 | 3000..=4999 => {}
        _ => return Err(CloseReason::Protocol),
    }
    match str::from_utf8(reason) {
        Ok(_) => Ok(code),
        Err(_) => Err(CloseReason::InvalidUtf8),
    }
}
