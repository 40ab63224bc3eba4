//! Messages out of fragments (RFC 6455 §5.4), bounded in bytes, count and time.

use std::time::Duration;

use super::gate::Opcode;
use crate::end::End;
use crate::limits::{FRAGMENTS_MAX, MESSAGE_BYTES_MAX, MESSAGE_TIME_MAX};

/// A text message that has begun.
#[derive(Debug, Default)]
pub struct Assembly {
    bytes: Vec<u8>,
    /// Leading bytes known to be whole UTF-8 characters.
    valid: usize,
    fragments: u32,
    since: Duration,
}

/// Takes one data frame of a session whose message under way is in `assembly`, and hands a
/// message that it completes to `with`. The codec has checked the UTF-8 of a text frame that is a
/// message of its own.
pub fn take<R>(
    assembly: &mut Option<Box<Assembly>>,
    opcode: Opcode,
    fin: bool,
    payload: &[u8],
    now: Duration,
    with: impl FnOnce(&[u8]) -> R,
) -> Result<Option<R>, End> {
    match (opcode, &mut *assembly) {
        (Opcode::Binary, None) => return Err(End::Binary),
        (Opcode::Text, None) if fin => return Ok(Some(with(payload))),
        (Opcode::Text, None) => {
            *assembly = Some(Box::new(Assembly {
                since: now,
                ..Assembly::default()
            }));
        }
        (Opcode::Continuation, Some(_)) => {}
        // A message inside a message, or more of none.
        _ => return Err(End::Protocol),
    }
    let Some(message) = assembly else {
        return Err(End::Internal);
    };
    message.append(payload)?;
    if !fin {
        return Ok(None);
    }
    let whole = message.valid == message.bytes.len();
    let message = assembly.take().filter(|_| whole).ok_or(End::Text)?;
    Ok(Some(with(&message.bytes)))
}

impl Assembly {
    /// Whether it should have been whole by `now`.
    pub fn is_overdue(&self, now: Duration) -> bool {
        now.saturating_sub(self.since) > MESSAGE_TIME_MAX
    }

    fn append(&mut self, payload: &[u8]) -> Result<(), End> {
        self.fragments += 1;
        if self.fragments > FRAGMENTS_MAX {
            return Err(End::Flood);
        }
        if self.bytes.len() + payload.len() > MESSAGE_BYTES_MAX {
            return Err(End::TooBig);
        }
        self.bytes.extend_from_slice(payload);
        // §8.1: fails with the byte that is wrong, not with the end of the message.
        match std::str::from_utf8(&self.bytes[self.valid..]) {
            Ok(_) => self.valid = self.bytes.len(),
            Err(error) if error.error_len().is_none() => self.valid += error.valid_up_to(),
            Err(_) => return Err(End::Text),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn feed(frames: &[(Opcode, bool, &[u8])]) -> Result<Vec<Vec<u8>>, End> {
        let mut assembly = None;
        let mut messages = Vec::new();
        for &(opcode, fin, payload) in frames {
            let now = Duration::ZERO;
            messages.extend(take(
                &mut assembly,
                opcode,
                fin,
                payload,
                now,
                <[u8]>::to_vec,
            )?);
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
        assert_eq!(feed(&[(Continuation, true, b"")]), Err(End::Protocol));
        assert_eq!(
            feed(&[(Text, false, b"a"), (Text, true, b"b")]),
            Err(End::Protocol)
        );
        assert_eq!(feed(&[(Binary, true, b"a")]), Err(End::Binary));
    }

    #[test]
    fn bounds() {
        let half = vec![b'x'; MESSAGE_BYTES_MAX / 2];
        let fits: &[(Opcode, bool, &[u8])] = &[(Text, false, &half), (Continuation, true, &half)];
        assert_eq!(feed(fits).unwrap()[0].len(), MESSAGE_BYTES_MAX);
        let over: &[(Opcode, bool, &[u8])] = &[
            (Text, false, &half),
            (Continuation, false, &half),
            (Continuation, true, b"x"),
        ];
        assert_eq!(feed(over), Err(End::TooBig));
        let mut endless = vec![(Text, false, &b""[..])];
        endless.resize(FRAGMENTS_MAX as usize + 1, (Continuation, false, b""));
        assert_eq!(feed(&endless), Err(End::Flood));
        let begun = Assembly {
            since: Duration::from_secs(5),
            ..Assembly::default()
        };
        assert!(!begun.is_overdue(Duration::from_secs(5) + MESSAGE_TIME_MAX));
        assert!(begun.is_overdue(Duration::from_secs(6) + MESSAGE_TIME_MAX));
    }

    #[test]
    fn text_fails_with_the_byte_that_is_wrong() {
        assert_eq!(feed(&[(Text, false, b"\xff")]), Err(End::Text));
        assert_eq!(
            feed(&[(Text, false, b"\xc3"), (Continuation, false, b"x")]),
            Err(End::Text)
        );
        assert_eq!(
            feed(&[(Text, false, b"\xc3"), (Continuation, true, b"")]),
            Err(End::Text)
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
