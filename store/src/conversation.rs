//! A client's requests answered in order: bytes in, bytes out, no IO.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::sync::atomic::Ordering;

use presenced_protocol::limits::{GET_LINE_BYTES_MAX, VALUE_BYTES_MAX};
use presenced_protocol::request::Received;
use presenced_protocol::{Limits, Next, Parsed, Reply, encode, request};

use super::clock::Now;
use super::execute::{self, After, ManyKeys};
use super::replies::OUT_OF_MEMORY_READING;
use super::store::Store;
use crate::limits::{LINE_BYTES_MAX, WRITE_BYTES};

/// The first byte of every request of memcached's binary protocol.
const BINARY: u8 = 0x80;

/// The length of such a request's, and its answer's, header.
const BINARY_HEADER_BYTES: usize = 24;

/// What a client of the binary protocol is told, before the connection closes.
const NOT_BINARY: &[u8] = b"Not supported: text protocol only";

// A value that arrives in pieces, or a long `get`, is all that the input can hold back.
const _: () = assert!(GET_LINE_BYTES_MAX < VALUE_BYTES_MAX);

/// Where a client is in what it says.
#[derive(Debug)]
pub(super) struct Conversation {
    parser: request::Parser,
    /// Keys answered of the request for many that stands at the start of the input.
    keys_done: usize,
    /// What is answered once the value of a refused request has come whole.
    due: Option<Reply<&'static [u8]>>,
    /// Whether anything has been said.
    begun: bool,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    /// Send what is there of the answers, and read more.
    Read,
    /// Send what is there of the answers, and go on with what is left of the input.
    Write,
    /// Send the answers and close.
    Close,
}

impl Conversation {
    /// At the start of a connection.
    pub(super) fn new(value_bytes_max: usize) -> Conversation {
        Conversation {
            parser: request::Parser::new(Limits {
                line_bytes_max: LINE_BYTES_MAX,
                value_bytes_max: VALUE_BYTES_MAX.min(value_bytes_max),
                ..Limits::default()
            }),
            keys_done: 0,
            due: None,
            begun: false,
        }
    }

    /// Appends the answers to all whole requests in `input`, as far as there is room. Returns how
    /// many bytes of the input are done with, and how to go on.
    pub(super) fn answer(
        &mut self,
        store: &Store,
        input: &[u8],
        now: Now,
        out: &mut Vec<u8>,
    ) -> (usize, NextStep) {
        if let Some(refused) = self.begin(input, out) {
            return refused;
        }
        let mut start = 0;
        loop {
            if start == input.len() {
                return (start, NextStep::Read);
            }
            if out.len() >= WRITE_BYTES {
                return (start, NextStep::Write);
            }
            let (consumed, after) = match self.parser.parse(&input[start..]) {
                Parsed::Incomplete => return (start, NextStep::Read),
                Parsed::Request { request, consumed } => {
                    match self.execute(store, &request, now, out) {
                        Some(after) => (consumed, after),
                        None => return (start, NextStep::Write),
                    }
                }
                Parsed::Swallowed { consumed, ended } => {
                    if let Some(answer) = self.due.take_if(|_| ended) {
                        encode::reply(out, &answer);
                    }
                    (consumed, After::Continue)
                }
                Parsed::Bad {
                    answer,
                    noreply,
                    consumed,
                    next,
                } => {
                    let answer = execute::refuse(store, &answer, noreply, now);
                    (consumed, self.refuse(answer, next, out))
                }
            };
            start += consumed;
            if after == After::Close {
                return (start, NextStep::Close);
            }
        }
    }

    /// Looks at the first byte that a client sends: a client of the binary protocol is refused.
    /// Returns what [`Conversation::answer`] is to return, if it is one.
    fn begin(&mut self, input: &[u8], out: &mut Vec<u8>) -> Option<(usize, NextStep)> {
        if self.begun || input.is_empty() {
            return None;
        }
        if input[0] != BINARY {
            self.begun = true;
            return None;
        }
        let Some(header) = input.first_chunk() else {
            return Some((0, NextStep::Read));
        };
        refuse_binary(header, out);
        Some((input.len(), NextStep::Close))
    }

    /// Carries out a request. `None` if there is no room for all of its answer: then the same
    /// request is to be carried out again, and goes on where it has stopped.
    fn execute(
        &mut self,
        store: &Store,
        request: &Received<'_>,
        now: Now,
        out: &mut Vec<u8>,
    ) -> Option<After> {
        let Some(asked) = ManyKeys::by(request) else {
            return Some(execute::execute(store, request, now, out));
        };
        let done = execute::get(store, &asked, self.keys_done, now, out, WRITE_BYTES);
        self.keys_done = done.unwrap_or(0);
        match done {
            Some(_) => None,
            None => Some(After::Continue),
        }
    }

    /// Answers a request that was refused: now or, if its value is to be swallowed, after that.
    fn refuse(
        &mut self,
        answer: Option<Reply<&'static [u8]>>,
        next: Next,
        out: &mut Vec<u8>,
    ) -> After {
        if next == Next::Swallow {
            self.due = answer;
            return After::Continue;
        }
        if let Some(answer) = self.due.take().or(answer) {
            encode::reply(out, &answer);
        }
        match next {
            Next::Close => After::Close,
            _ => After::Continue,
        }
    }

    /// The length of the request that has begun at the start of the input, if its line is whole,
    /// and 0 otherwise.
    pub(super) fn need(&self) -> usize {
        self.parser.need()
    }

    /// Refuses the request that has begun in `input`, as there is no memory for all of it; a value
    /// is swallowed from now on. Returns what [`Conversation::answer`] does.
    pub(super) fn refuse_begun(
        &mut self,
        store: &Store,
        input: &[u8],
        now: Now,
        out: &mut Vec<u8>,
    ) -> (usize, NextStep) {
        let Some(Parsed::Bad {
            answer,
            noreply,
            consumed,
            ..
        }) = self.parser.out_of_memory(input)
        else {
            store.traffic().unended.fetch_add(1, Ordering::Relaxed);
            encode::reply(out, &OUT_OF_MEMORY_READING);
            return (input.len(), NextStep::Close);
        };
        self.due = execute::refuse(store, &answer, noreply, now);
        let (swallowed, next_step) = self.answer(store, &input[consumed..], now, out);
        (consumed + swallowed, next_step)
    }
}

/// Answers in the binary protocol that it is not spoken here ("Not supported", 0x83): its clients
/// would wait for ever otherwise, some even when the connection closes.
fn refuse_binary(request: &[u8; BINARY_HEADER_BYTES], out: &mut Vec<u8>) {
    let mut header = [0; BINARY_HEADER_BYTES];
    header[0] = 0x81;
    header[1] = request[1];
    header[7] = 0x83;
    header[11] = NOT_BINARY.len() as u8;
    // The client's own number for the request.
    header[12..16].copy_from_slice(&request[12..16]);
    out.extend_from_slice(&header);
    out.extend_from_slice(NOT_BINARY);
}
