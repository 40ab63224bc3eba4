//! What a client may say: `{"pull":7,"users":["123","456"]}` asks who is online, and
//! `{"token":"…"}` renews the session.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::gateway::response::pull_error_json;
use crate::gateway::token;
use crate::pull::{Asked, Names, PullError, object};

/// A message of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage<'a> {
    /// It asks who is online.
    Pull(Pull),
    /// It shows another token, with which the session goes on.
    Token(Cow<'a, str>),
}

/// A question of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pull {
    /// The client's own number of the question; the answer bears it.
    pub number: u64,
    /// Whom it asks for.
    pub asked: Asked,
}

/// A message that can't be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The number of the question, if it could be read.
    pub number: Option<u64>,
    /// What is wrong with it.
    pub error: PullError,
}

impl Fault {
    /// As JSON.
    pub fn json(&self) -> Vec<u8> {
        pull_error_json(&self.error, self.number)
    }
}

/// What is expected.
const EXPECTED: &str = r#"{"pull":NUMBER,"users":["…"]} or {"token":"…"}"#;

/// Reads a text message. One that is both a question and a token is neither: whoever sends it
/// expects one answer, and there would be two.
///
/// # Errors
///
/// What is wrong with it, with the number of the question if that could be read.
pub fn parse(text: &[u8]) -> Result<ClientMessage<'_>, Fault> {
    #[derive(Deserialize)]
    struct Question {
        pull: u64,
        users: Names,
        token: Option<IgnoredAny>,
    }
    if let Some(question) = object::<Question>(text)
        && question.token.is_none()
    {
        let number = question.pull;
        return match question.users.asked() {
            Ok(asked) => Ok(ClientMessage::Pull(Pull { number, asked })),
            Err(error) => Err(Fault {
                number: Some(number),
                error,
            }),
        };
    }
    if let Some(token) = token::in_message(text) {
        return Ok(ClientMessage::Token(token));
    }
    Err(Fault {
        number: pull_number(text),
        error: PullError::Malformed(EXPECTED),
    })
}

/// The number of a pull, whatever else there is in it: its users are not read.
pub fn pull_number(text: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Number {
        pull: u64,
    }
    object(text).map(|number: Number| number.pull)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_is_read() {
        let pull = |text: &str| match parse(text.as_bytes()) {
            Ok(ClientMessage::Pull(pull)) => pull,
            other => panic!("{other:?}"),
        };
        let text = r#"{"pull":7,"users":["123","4\u0035"],"later":{"x":[1]},"token":null}"#;
        let none = pull(r#"{"pull":0,"users":[]}"#);
        let one_bad = pull(r#"{"pull":7,"users":[1,"a b"]}"#).asked;
        let pull = pull(text);
        assert_eq!(pull.number, 7);
        let users: Vec<_> = pull.asked.users.iter().map(ToString::to_string).collect();
        assert_eq!(users, ["123", "45"]);
        assert_eq!(none.asked, Asked::default());
        assert_eq!(one_bad.users.len(), 1);
        assert_eq!(one_bad.invalid, ["a b"]);
    }

    #[test]
    fn a_token_is_read_and_never_beside_a_question() {
        let token = |text: &'static str| match parse(text.as_bytes()) {
            Ok(ClientMessage::Token(token)) => token,
            other => panic!("{other:?}"),
        };
        assert_eq!(token(r#"{"token":"a.b.c"}"#), "a.b.c");
        assert_eq!(
            token(r#" {"later":[1],"token":"a\u002eb","pull":null}"#),
            "a.b"
        );
        assert_eq!(token(r#"{"token":"","users":[]}"#), "");
        for (text, number) in [
            (r#"{"token":"a","pull":7,"users":["1"]}"#, Some(7)),
            (r#"{"token":"a","pull":7}"#, Some(7)),
            (r#"{"token":"a","pull":"7"}"#, None),
            (r#"{"token":7}"#, None),
            (r#"{"token":["a"]}"#, None),
            (r#"{"token":{"pull":7,"users":[]}}"#, None),
            (r#"{"token":"a","token":"b"}"#, None),
            (r#"["a"]"#, None),
        ] {
            let fault = parse(text.as_bytes()).unwrap_err();
            assert_eq!(fault.number, number, "{text}");
            assert_eq!(fault.error, PullError::Malformed(EXPECTED), "{text}");
        }
    }

    #[test]
    fn what_can_not_be_read_is_named_with_its_number_if_it_has_one() {
        let fault = |text: &str| {
            let fault = parse(text.as_bytes()).unwrap_err();
            (fault.number, fault.error.code())
        };
        for text in [
            "",
            "x",
            "[]",
            "[7]",
            r#"[7,["1"]]"#,
            "{}",
            r#"{"pull":"7","users":[]}"#,
            r#"{"users":[]}"#,
        ] {
            assert_eq!(fault(text), (None, "malformed"), "{text}");
        }
        assert_eq!(fault(r#"{"pull":7,"users":"1"}"#), (Some(7), "malformed"));
        let many = format!(r#"{{"pull":7,"users":[{}"1"]}}"#, r#""1","#.repeat(500));
        assert_eq!(fault(&many), (Some(7), "too_many_users"));
        let deep = format!(r#"{{"pull":7,"x":{}"#, "[".repeat(100_000));
        assert_eq!(fault(&deep), (None, "malformed"));
    }
}
