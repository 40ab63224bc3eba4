//! Questions as HTTP requests carry them: `GET /v1/presence?user=1&user=2` and
//! `POST /v1/presence {"users":["1","2"]}`.

use presenced_presence::UserId;
use serde::Deserialize;

use super::query::values;
use crate::pull::{Names, PullError, object, users};

/// The users that a query string asks for; other parameters are ignored.
///
/// # Errors
///
/// If a parameter is not UTF-8, if there are too many users, or if a name can't be a user's.
pub fn users_of_query(query: &str) -> Result<Vec<UserId>, PullError> {
    let mut names = Vec::new();
    for value in values(query, "user") {
        names.push(value.ok_or(PullError::Malformed("user ids in UTF-8"))?);
    }
    users(names)
}

/// The users that a body asks for.
///
/// # Errors
///
/// If it is no such JSON object, if there are too many users, or if a name can't be a user's.
pub fn users_of_body(body: &[u8]) -> Result<Vec<UserId>, PullError> {
    #[derive(Deserialize)]
    struct Question<'a> {
        #[serde(borrow)]
        users: Names<'a>,
    }
    let question: Question<'_> = object(body).ok_or(PullError::Malformed(r#"{"users":["…"]}"#))?;
    question.users.users()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(users: Result<Vec<UserId>, PullError>) -> Result<Vec<String>, &'static str> {
        let users = users.map_err(|error| error.code())?;
        Ok(users.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn queries() {
        let of = |query| names(users_of_query(query));
        assert_eq!(
            of("user=123&user=4%3A5&x=y"),
            Ok(vec!["123".into(), "4:5".into()])
        );
        assert_eq!(of("user=J%C3%BCrgen%2B"), Ok(vec!["Jürgen+".into()]));
        assert_eq!(of(""), Ok(vec![]));
        assert_eq!(of("user="), Err("bad_user"));
        assert_eq!(of("user=a+b"), Err("bad_user"));
        assert_eq!(of("user=a%0d%0aflush_all"), Err("bad_user"));
        assert_eq!(of("user=%ff"), Err("malformed"));
        assert_eq!(of(&"user=1&".repeat(501)), Err("too_many_users"));
    }

    #[test]
    fn bodies() {
        let of = |body: &str| names(users_of_body(body.as_bytes()));
        assert_eq!(
            of(r#"{"users":["1","\u0061"],"x":[]}"#),
            Ok(vec!["1".into(), "a".into()])
        );
        for body in [
            "",
            "[]",
            r#"[["1"]]"#,
            "{}",
            r#"{"users":"1"}"#,
            r#"{"users":[1]}"#,
            "{\"users\":[\"1\"]}x",
        ] {
            assert_eq!(of(body), Err("malformed"), "{body}");
        }
        assert_eq!(of(r#"{"users":["a b"]}"#), Err("bad_user"));
    }
}
