//! The first message of a client that had no token in its handshake: frames, until the token is there. No
//! more of them is taken than the longest token needs.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::borrow::Cow;
use std::time::Duration;

use presenced_session::assembly::{self, Assembly};
use presenced_session::close_reason::CloseReason;
use presenced_session::frame::{close_code, decode, encode_close_echo, encode_pong};
use presenced_session::frame_header::{Header, HeaderCheck, Opcode, check};
use presenced_session::service::Message;

use super::refusal::MessageFault;
use super::token;
use crate::limits::FIRST_MESSAGE_OTHER_BYTES;

/// What has come of a first message.
#[derive(Debug)]
pub struct FirstMessage {
    bytes_max: usize,
    /// What may still come up to its end.
    bytes_left: usize,
    begun: Option<Assembly>,
}

/// What follows from what has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// There must be more of it.
    Wait,
    /// The client shows this token.
    Token(String),
    /// The client has closed the connection.
    Left,
}

impl FirstMessage {
    /// Nothing has come; the token has at most `token_bytes_max`.
    pub fn new(token_bytes_max: usize) -> FirstMessage {
        let bytes_max = token_bytes_max.saturating_add(FIRST_MESSAGE_OTHER_BYTES);
        FirstMessage {
            bytes_max,
            bytes_left: bytes_max,
            begun: None,
        }
    }

    /// Takes whole frames off the start of `input`, up to the end of the message, and appends to `out`
    /// what is to be answered to them. What is left in `input` stands before what comes next.
    ///
    /// # Errors
    ///
    /// Why the connection must end.
    pub fn read(&mut self, input: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<Step, MessageFault> {
        let mut taken = 0;
        let step = loop {
            match check(&input[taken..], self.bytes_left) {
                HeaderCheck::Refused(end) => break Err(end.into()),
                HeaderCheck::Partial => break Ok(Step::Wait),
                HeaderCheck::Frame(header) => {
                    let frame = &mut input[taken..taken + header.frame_bytes];
                    taken += header.frame_bytes;
                    match self.frame(header, frame, out) {
                        Ok(Step::Wait) => {}
                        step => break step,
                    }
                }
            }
        };
        input.drain(..taken);
        step
    }

    fn frame(
        &mut self,
        header: Header,
        frame: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<Step, MessageFault> {
        let bytes_left = self.bytes_left.checked_sub(header.frame_bytes);
        self.bytes_left = bytes_left.ok_or(CloseReason::TooBig)?;
        let payload = decode(header, frame)?;
        match header.opcode {
            Opcode::Pong => Ok(Step::Wait),
            Opcode::Ping => {
                encode_pong(out, payload);
                Ok(Step::Wait)
            }
            Opcode::Close => {
                encode_close_echo(out, close_code(payload)?);
                Ok(Step::Left)
            }
            // As in a session.
            Opcode::Binary if self.begun.is_none() => Err(CloseReason::UnsupportedData.into()),
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                let kind = (header.opcode, header.fin);
                // It has no time of its own: all of it has the same deadline.
                let (began, bytes_max) = (Duration::ZERO, self.bytes_max);
                let token = |message: Message<'_>| {
                    let (Message::Text(text) | Message::Binary(text)) = message;
                    token::in_message(text).map(Cow::into_owned)
                };
                match assembly::take(&mut self.begun, kind, payload, began, bytes_max, token)? {
                    None => Ok(Step::Wait),
                    Some(None) => Err(MessageFault::NotAToken),
                    Some(Some(token)) => Ok(Step::Token(token)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client's frame, masked with zeros.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..126 => frame.push(0x80 | length as u8),
            length => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(payload);
        frame
    }

    const TOKEN: &[u8] = br#"{"token":"a.b.c"}"#;

    #[test]
    fn a_token_is_found_wherever_it_is_cut_and_what_is_behind_it_is_left() {
        let behind = frame(0x81, br#"{"pull":1,"users":[]}"#);
        let parts = [
            frame(0x8a, b""),
            frame(0x01, &TOKEN[..4]),
            frame(0x89, b"x"),
            frame(0x80, &TOKEN[4..]),
        ];
        let all = [parts.concat(), behind.clone()].concat();
        let mut pong = Vec::new();
        encode_pong(&mut pong, b"x");
        for cut in 0..=all.len() {
            let mut message = FirstMessage::new(100);
            let (mut input, mut out) = (all[..cut].to_vec(), Vec::new());
            let mut step = message.read(&mut input, &mut out);
            if step == Ok(Step::Wait) {
                input.extend(&all[cut..]);
                step = message.read(&mut input, &mut out);
            } else {
                input.extend(&all[cut..]);
            }
            assert_eq!(step, Ok(Step::Token("a.b.c".into())), "{cut}");
            assert_eq!((&input, &out), (&behind, &pong), "{cut}");
        }
    }
}
