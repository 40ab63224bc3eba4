//! What a client sends: the gate, the codec and the assembly of messages, driven as a worker drives
//! them, against RFC 6455 read a second time in the plainest way.

use std::time::Duration;

use fastwebsockets::OpCode;
use presenced::end::End;
use presenced::limits::{FRAGMENTS_MAX, MESSAGE_BYTES_MAX};
use presenced::session::assembly::{self, Assembly};
use presenced::session::codec::{self, Codec};
use presenced::session::gate::{Gate, Opcode, admit};

use super::frames::{put_frame, sent_by, xored};
use super::pieces;

/// Bytes as a client's frames. The first byte says whether the others are what it sends or a script
/// that makes mostly legal frames (see [`sent_by`]), and how small the small limit is. Read whole, in
/// pieces and byte by byte, beside the frames of another session, it is what the plain reading says.
pub fn gate(data: &[u8]) {
    let Some((&mode, data)) = data.split_first() else {
        return;
    };
    let input = match mode & 1 {
        0 => data.to_vec(),
        _ => sent_by(data),
    };
    let small = OTHERS_TEXT.len() + usize::from(mode >> 1);
    for payload_bytes_max in [MESSAGE_BYTES_MAX, small] {
        let expected = read_plainly(&input, payload_bytes_max);
        let mut worker = Worker {
            codec: Codec::new(payload_bytes_max),
            payload_bytes_max,
        };
        assert_eq!(worker.session([&input[..]].into_iter()), expected);
        assert_eq!(worker.session(pieces(&input)), expected);
        if input.len() <= 256 {
            assert_eq!(worker.session(input.chunks(1)), expected);
        }
    }
}

/// What a session has seen, and how it ended or how many bytes wait for more.
type Seen = (Vec<Event>, Result<usize, End>);

#[derive(Debug, PartialEq)]
enum Event {
    /// A frame of a message, unmasked: the opcode's bits, whether it is the last, the payload.
    Data(u8, bool, Vec<u8>),
    /// A message is whole.
    Message(Vec<u8>),
    /// The payload of a pong.
    Pong(Vec<u8>),
    /// Bytes that are sent back.
    Answer(Vec<u8>),
}

/// The parts of a worker that all its sessions share.
struct Worker {
    codec: Codec,
    payload_bytes_max: usize,
}

impl Worker {
    fn session<'a>(&mut self, pieces: impl Iterator<Item = &'a [u8]>) -> Seen {
        let mut events = Vec::new();
        let mut assembly = None;
        let mut partial = Vec::new();
        for piece in pieces {
            partial.extend_from_slice(piece);
            let taken = self.frames(&partial, &mut assembly, &mut events);
            if taken != Ok(0) {
                self.another_session();
            }
            match taken {
                Ok(taken) => drop(partial.drain(..taken)),
                Err(end) => {
                    assert_ne!(end, End::Internal);
                    return (events, Err(end));
                }
            }
        }
        (events, Ok(partial.len()))
    }

    /// Nothing of one session may reach the next, whatever became of it.
    fn another_session(&mut self) {
        let mut frame = Vec::new();
        put_frame(&mut frame, 0x81, OTHERS_TEXT);
        let decoded = self.codec.decode(&frame, <[u8]>::to_vec);
        assert_eq!(decoded.as_deref(), Ok(OTHERS_TEXT));
    }

    /// The whole frames at the start of `input`; returns the bytes they took.
    fn frames(
        &mut self,
        input: &[u8],
        assembly: &mut Option<Box<Assembly>>,
        events: &mut Vec<Event>,
    ) -> Result<usize, End> {
        let mut taken = 0;
        loop {
            match admit(&input[taken..], self.payload_bytes_max) {
                Gate::Partial => return Ok(taken),
                Gate::Refused(end) => return Err(end),
                Gate::Frame {
                    opcode,
                    fin,
                    length,
                } => {
                    assert!(length >= 6 && length <= input.len() - taken);
                    let frame = &input[taken..taken + length];
                    taken += length;
                    self.frame(opcode, fin, frame, assembly, events)?;
                }
            }
        }
    }

    fn frame(
        &mut self,
        opcode: Opcode,
        fin: bool,
        frame: &[u8],
        assembly: &mut Option<Box<Assembly>>,
        events: &mut Vec<Event>,
    ) -> Result<(), End> {
        let mut answer = Vec::new();
        let bits = match opcode {
            Opcode::Pong => {
                events.push(Event::Pong(self.codec.decode(frame, <[u8]>::to_vec)?));
                return Ok(());
            }
            Opcode::Ping => {
                let ping = self.codec.decode(frame, <[u8]>::to_vec)?;
                codec::encode(&mut answer, OpCode::Pong, &ping);
                events.push(Event::Answer(answer));
                return Ok(());
            }
            Opcode::Close => {
                let code = self.codec.decode(frame, codec::close_code)??;
                codec::encode_close_echo(&mut answer, code);
                events.push(Event::Answer(answer));
                return Err(End::Closed);
            }
            Opcode::Continuation => 0,
            Opcode::Text => 1,
            Opcode::Binary => 2,
        };
        let message = self.codec.decode(frame, |payload| {
            assert!(payload.len() <= self.payload_bytes_max);
            events.push(Event::Data(bits, fin, payload.to_vec()));
            let whole = |message: &[u8]| String::from_utf8(message.to_vec()).unwrap();
            assembly::take(assembly, opcode, fin, payload, Duration::ZERO, whole)
        })??;
        events.extend(message.map(|text| Event::Message(text.into_bytes())));
        Ok(())
    }
}

const OTHERS_TEXT: &[u8] = b"still up";

/// What a session should see of `input`.
fn read_plainly(input: &[u8], payload_bytes_max: usize) -> Seen {
    let mut plain = Plain::default();
    let mut rest = input;
    loop {
        match plain_frame(rest, payload_bytes_max) {
            Ok(None) => return (plain.events, Ok(rest.len())),
            Ok(Some((first, payload, after))) => {
                rest = after;
                if let Err(end) = plain.react(first & 0x0f, first & 0x80 != 0, payload) {
                    return (plain.events, Err(end));
                }
            }
            Err(end) => return (plain.events, Err(end)),
        }
    }
}

/// The first byte, the unmasked payload, and what comes after the frame; nothing if it isn't whole.
type PlainFrame<'a> = Option<(u8, Vec<u8>, &'a [u8])>;

fn plain_frame(input: &[u8], payload_bytes_max: usize) -> Result<PlainFrame<'_>, End> {
    let [first, second, after @ ..] = input else {
        return Ok(None);
    };
    let (opcode, short) = (first & 0x0f, second & 0x7f);
    let reserved = first & 0x70 != 0 || ![0, 1, 2, 8, 9, 10].contains(&opcode); // §5.2
    let masked = second & 0x80 != 0; // §5.1
    let bad_control = opcode >= 8 && (first & 0x80 == 0 || short > 125); // §5.5
    if reserved || !masked || bad_control {
        return Err(End::Protocol);
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
        return Err(End::Protocol);
    }
    if length > payload_bytes_max as u64 {
        return Err(End::TooBig);
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
struct Plain {
    events: Vec<Event>,
    /// Fragments so far, and their payloads.
    message: Option<(u32, Vec<u8>)>,
}

impl Plain {
    fn react(&mut self, opcode: u8, fin: bool, payload: Vec<u8>) -> Result<(), End> {
        match opcode {
            8 => {
                let code = plain_close_code(&payload)?;
                let answer = [&[0x88, code.len() as u8], code].concat();
                self.events.push(Event::Answer(answer));
                Err(End::Closed)
            }
            9 => {
                let answer = [&[0x8a, payload.len() as u8], &payload[..]].concat();
                self.events.push(Event::Answer(answer));
                Ok(())
            }
            10 => {
                self.events.push(Event::Pong(payload));
                Ok(())
            }
            // The codec looks at text before anyone asks whether it stands where it may.
            1 if fin && str::from_utf8(&payload).is_err() => Err(End::Text),
            _ => self.data(opcode, fin, payload),
        }
    }

    /// §5.4, §8.1.
    fn data(&mut self, opcode: u8, fin: bool, payload: Vec<u8>) -> Result<(), End> {
        let (fragments, mut message) = match (opcode, self.message.take()) {
            (1, None) => (1, Vec::new()),
            (0, Some((fragments, message))) => (fragments + 1, message),
            (2, None) => {
                self.events.push(Event::Data(opcode, fin, payload));
                return Err(End::Binary);
            }
            _ => {
                self.events.push(Event::Data(opcode, fin, payload));
                return Err(End::Protocol);
            }
        };
        message.extend_from_slice(&payload);
        self.events.push(Event::Data(opcode, fin, payload));
        if fragments > FRAGMENTS_MAX {
            return Err(End::Flood);
        }
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(End::TooBig);
        }
        match str::from_utf8(&message) {
            Ok(_) if fin => self.events.push(Event::Message(message)),
            Err(error) if fin || error.error_len().is_some() => return Err(End::Text),
            _ => self.message = Some((fragments, message)),
        }
        Ok(())
    }
}

/// The bytes of the code, if there is one (§5.5.1, §7.4, IANA's registry).
fn plain_close_code(payload: &[u8]) -> Result<&[u8], End> {
    if payload.is_empty() {
        return Ok(payload);
    }
    let Some((code, reason)) = payload.split_at_checked(2) else {
        return Err(End::Protocol);
    };
    match u16::from(code[0]) * 256 + u16::from(code[1]) {
        1000..=1003 | 1007..=1014 | 3000..=4999 => {}
        _ => return Err(End::Protocol),
    }
    match str::from_utf8(reason) {
        Ok(_) => Ok(code),
        Err(_) => Err(End::Text),
    }
}
