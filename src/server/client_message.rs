//! What a client may say: `{"pull":7,"users":["123","456"]}`.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use serde::Deserialize;

use crate::gateway::response::pull_error_json;
use crate::pull::{Asked, Names, PullError, object};

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

/// Reads a text message.
///
/// # Errors
///
/// What is wrong with it, with the number of the question if that could be read.
pub fn parse(text: &[u8]) -> Result<Pull, Fault> {
    #[derive(Deserialize)]
    struct Message<'a> {
        pull: u64,
        #[serde(borrow)]
        users: Names<'a>,
    }
    #[derive(Deserialize)]
    struct Number {
        pull: u64,
    }
    let Some(message) = object::<Message<'_>>(text) else {
        return Err(Fault {
            number: object(text).map(|number: Number| number.pull),
            error: PullError::Malformed(r#"{"pull":NUMBER,"users":["…"]}"#),
        });
    };
    match message.users.asked() {
        Ok(asked) => Ok(Pull {
            number: message.pull,
            asked,
        }),
        Err(error) => Err(Fault {
            number: Some(message.pull),
            error,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_is_read() {
        let pull = parse(br#"{"pull":7,"users":["123","4\u0035"],"later":{"x":[1]}}"#).unwrap();
        assert_eq!(pull.number, 7);
        let users: Vec<_> = pull.asked.users.iter().map(ToString::to_string).collect();
        assert_eq!(users, ["123", "45"]);
        let none = parse(br#"{"pull":0,"users":[]}"#).unwrap();
        assert_eq!(none.asked, Asked::default());
        let one_bad = parse(br#"{"pull":7,"users":[1,"a b"]}"#).unwrap().asked;
        assert_eq!(one_bad.users.len(), 1);
        assert_eq!(one_bad.invalid, ["a b"]);
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
