//! Which bytes of a client's requests are values, found by a second, naive reading.

use presenced_protocol::{BadRequestKind, Next, Parsed, Request};

/// Finds the values in a client's requests, to check that no part of one is parsed as a request.
#[derive(Default)]
pub(super) struct ValueOracle {
    /// Bytes still to come of a refused value, its line end included.
    pub(super) refused: Option<usize>,
}

impl ValueOracle {
    /// Checks what the parser made of `input`.
    pub(super) fn check(&mut self, input: &[u8], parsed: &Parsed<'_>) {
        match self.refused {
            Some(left) => self.check_refused(input, parsed, left),
            None => match value_after(input) {
                None => check_without_value(parsed),
                Some(value) => self.check_with_value(input, parsed, value),
            },
        }
    }

    /// The rest of a refused value is swallowed, or the connection closed if its end is wrong.
    fn check_refused(&mut self, input: &[u8], parsed: &Parsed<'_>, left: usize) {
        match *parsed {
            Parsed::Incomplete => assert!(input.is_empty() || input == b"\r"),
            Parsed::Swallowed {
                consumed,
                ended: told,
            } => {
                // The line end is swallowed as a whole.
                let ends = consumed == left && input[..consumed].ends_with(b"\r\n");
                assert!(ends || consumed + 2 <= left);
                self.refused = Some(left - consumed).filter(|&left| left > 0);
                assert_eq!(told, self.refused.is_none());
            }
            Parsed::Bad { noreply, next, .. } => {
                assert!(noreply && next == Next::Close);
                assert!(!input[left - 2..].starts_with(b"\r\n"));
            }
            Parsed::Request { .. } => panic!("a value is no request: {parsed:?}"),
        }
    }

    fn check_with_value(
        &mut self,
        input: &[u8],
        parsed: &Parsed<'_>,
        value: Option<(usize, usize)>,
    ) {
        match (*parsed, value) {
            (Parsed::Incomplete, _) => {}
            (Parsed::Request { consumed, .. }, Some((line, bytes))) => {
                assert_eq!(consumed, line + bytes + 2);
            }
            (
                Parsed::Bad {
                    answer,
                    next: Next::Close,
                    ..
                },
                value,
            ) => {
                let too_long = answer.kind == BadRequestKind::LineTooLong;
                let ends = |(line, bytes)| input[line + bytes..].starts_with(b"\r\n");
                assert!(too_long || value.is_none_or(|value| !ends(value)));
            }
            (Parsed::Bad { consumed, next, .. }, Some((line, bytes))) => {
                assert_eq!((consumed, next), (line, Next::Swallow));
                self.refused = Some(bytes + 2);
            }
            (parsed, value) => panic!("{value:?} and {parsed:?}"),
        }
    }
}

fn check_without_value(parsed: &Parsed<'_>) {
    match *parsed {
        Parsed::Request { request, .. } => assert!(!matches!(
            request,
            Request::Store { .. } | Request::MetaSet { .. }
        )),
        Parsed::Bad { answer, next, .. } => assert!(
            next == Next::Continue
                || matches!(
                    answer.kind,
                    BadRequestKind::Http | BadRequestKind::LineTooLong
                )
        ),
        Parsed::Incomplete => {}
        Parsed::Swallowed { .. } => panic!("there is no value: {parsed:?}"),
    }
}

/// The lengths of the first line of `input` and of the value that follows it. The outer `None`
/// means that no value belongs to the line, the inner one that the line does not say how long it
/// is.
fn value_after(input: &[u8]) -> Option<Option<(usize, usize)>> {
    let line = input.iter().position(|&byte| byte == b'\n')? + 1;
    let text = &input[..line - 1];
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let words = text.split(|&byte| byte == b' ');
    let words: Vec<&[u8]> = words.filter(|word| !word.is_empty()).collect();
    let length = match *words {
        [
            b"set" | b"add" | b"replace" | b"append" | b"prepend",
            _,
            _,
            _,
            length,
        ]
        | [
            b"set" | b"add" | b"replace" | b"append" | b"prepend",
            _,
            _,
            _,
            length,
            b"noreply",
        ]
        | [b"cas", _, _, _, length, _, b"noreply"] => Some(length),
        [b"cas", _, _, _, length, unique] if unique != b"noreply" => Some(length),
        [b"ms", _, length, ref flags @ ..] => {
            let is_number = |flag: &&[u8]| flag[0].is_ascii_digit();
            (!flags.iter().any(is_number)).then_some(length)
        }
        [
            b"set" | b"add" | b"replace" | b"append" | b"prepend" | b"cas" | b"ms",
            ..,
        ] => None,
        _ => return None,
    };
    let length = length.and_then(|length| str::from_utf8(length).ok()?.parse().ok());
    let length = length.filter(|&length: &i32| (0..=i32::MAX - 2).contains(&length));
    Some(length.map(|length| (line, usize::try_from(length).unwrap())))
}
