//! Messages out of fragments (RFC 6455 §5.4), bounded in bytes, count and time.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use super::frame_header::Opcode;
use super::message::Message;
use crate::close_reason::CloseReason;
use crate::limits::{FRAGMENT_BYTES_MIN, FRAGMENTS_MAX};

/// A message that has begun.
#[derive(Debug)]
pub struct Assembly {
    is_text: bool,
    bytes: Vec<u8>,
    /// Leading bytes of a text known to be whole UTF-8 characters.
    valid: usize,
    fragments: u32,
    since: Duration,
}

/// Takes one data frame of a session whose message under way is in `assembly`, and hands a message
/// that it completes, of at most `bytes_max`, to `with`. A text frame that is a message of its own
/// was found to be UTF-8 by the codec.
///
/// # Errors
///
/// Why the session must end: fragments out of order, too many of them, a message over the limit, or
/// text that is not UTF-8.
pub fn take<R>(
    assembly: &mut Option<Assembly>,
    (opcode, fin): (Opcode, bool),
    payload: &[u8],
    now: Duration,
    bytes_max: usize,
    with: impl FnOnce(Message<'_>) -> R,
) -> Result<Option<R>, CloseReason> {
    match (opcode, &mut *assembly) {
        (Opcode::Text, None) if fin => return Ok(Some(with(Message::Text(payload)))),
        (Opcode::Binary, None) if fin => return Ok(Some(with(Message::Binary(payload)))),
        (Opcode::Text | Opcode::Binary, None) => {
            *assembly = Some(Assembly {
                is_text: opcode == Opcode::Text,
                bytes: Vec::new(),
                valid: 0,
                fragments: 0,
                since: now,
            });
        }
        (Opcode::Continuation, Some(_)) => {}
        // A message inside a message, or more of none.
        _ => return Err(CloseReason::Protocol),
    }
    let Some(begun) = assembly else {
        return Err(CloseReason::Internal);
    };
    begun.append(payload, bytes_max)?;
    if !fin {
        return Ok(None);
    }
    let message = match (begun.is_text, begun.valid == begun.bytes.len()) {
        (true, true) => Message::Text(&begun.bytes),
        (true, false) => return Err(CloseReason::InvalidUtf8),
        (false, _) => Message::Binary(&begun.bytes),
    };
    let done = with(message);
    *assembly = None;
    Ok(Some(done))
}

impl Assembly {
    /// When it began.
    pub fn since(&self) -> Duration {
        self.since
    }

    /// Memory that it holds.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    fn append(&mut self, payload: &[u8], bytes_max: usize) -> Result<(), CloseReason> {
        self.fragments += 1;
        if self.fragments as usize > FRAGMENTS_MAX.max(bytes_max / FRAGMENT_BYTES_MIN) {
            return Err(CloseReason::RateLimited);
        }
        if self.bytes.len() + payload.len() > bytes_max {
            return Err(CloseReason::TooBig);
        }
        self.bytes.extend_from_slice(payload);
        if !self.is_text {
            return Ok(());
        }
        // §8.1: fails with the byte that is wrong, not with the end of the message.
        match std::str::from_utf8(&self.bytes[self.valid..]) {
            Ok(_) => self.valid = self.bytes.len(),
            Err(error) if error.error_len().is_none() => self.valid += error.valid_up_to(),
            Err(_) => return Err(CloseReason::InvalidUtf8),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 64 * 1024;

    fn feed(frames: &[(Opcode, bool, &[u8])]) -> Result<Vec<Vec<u8>>, CloseReason> {
        let mut assembly = None;
        let mut messages = Vec::new();
        for &(opcode, fin, payload) in frames {
            let (now, keep) = (Duration::ZERO, |message: Message<'_>| match message {
                Message::Text(bytes) | Message::Binary(bytes) => bytes.to_vec(),
            });
            messages.extend(take(&mut assembly, (opcode, fin), payload, now, MAX, keep)?);
        }
        Ok(messages)
    }

    use Opcode::{Binary, Continuation, Text};

    #[test]
    fn fragments_make_a_message_and_wrong_order_is_an_error() {
        let parts: &[(Opcode, bool, &[u8])] = &[
            (Text, false, b"a"),
            (Continuation, false, b""),
            (Continuation, true, b"b"),
        ];
        assert_eq!(feed(parts), Ok(vec![b"ab".to_vec()]));
        assert_eq!(
            feed(&[(Text, true, b"x"), (Text, true, b"y")])
                .unwrap()
                .len(),
            2
        );
        assert_eq!(
            feed(&[(Continuation, true, b"")]),
            Err(CloseReason::Protocol)
        );
        assert_eq!(
            feed(&[(Text, false, b"a"), (Text, true, b"b")]),
            Err(CloseReason::Protocol)
        );
        let parts: &[(Opcode, bool, &[u8])] =
            &[(Binary, false, b"\xff"), (Continuation, true, b"\xfe")];
        assert_eq!(feed(parts), Ok(vec![b"\xff\xfe".to_vec()]));
    }

    #[test]
    fn bounds() {
        let half = vec![b'x'; MAX / 2];
        let fits: &[(Opcode, bool, &[u8])] = &[(Text, false, &half), (Continuation, true, &half)];
        assert_eq!(feed(fits).unwrap()[0].len(), MAX);
        let over: &[(Opcode, bool, &[u8])] = &[
            (Text, false, &half),
            (Continuation, false, &half),
            (Continuation, true, b"x"),
        ];
        assert_eq!(feed(over), Err(CloseReason::TooBig));
        let mut endless = vec![(Text, false, &b""[..])];
        endless.resize(FRAGMENTS_MAX + 1, (Continuation, false, b""));
        assert_eq!(feed(&endless), Err(CloseReason::RateLimited));
    }

    #[test]
    fn text_fails_with_the_byte_that_is_wrong() {
        assert_eq!(
            feed(&[(Text, false, b"\xff")]),
            Err(CloseReason::InvalidUtf8)
        );
        assert_eq!(
            feed(&[(Text, false, b"\xc3"), (Continuation, false, b"x")]),
            Err(CloseReason::InvalidUtf8)
        );
        assert_eq!(
            feed(&[(Text, false, b"\xc3"), (Continuation, true, b"")]),
            Err(CloseReason::InvalidUtf8)
        );
    }

    proptest! {
        #[test]
        fn any_cut_of_a_text_gives_the_text(text in "\\PC{0,40}", cut in 1..7usize) {
            let mut frames: Vec<(Opcode, bool, &[u8])> = text.as_bytes().chunks(cut)
                .map(|part| (Continuation, false, part)).collect();
            frames.push((Continuation, true, b""));
            frames[0].0 = Text;
            prop_assert_eq!(feed(&frames), Ok(vec![text.as_bytes().to_vec()]));
        }
    }
}
