//! Questions as HTTP requests carry them: `GET /v1/presence?user=1&user=2` and
//! `POST /v1/presence {"users":["1","2"]}`.

use serde::Deserialize;

use super::query::{decode, pairs};
use crate::pull::names::Name;
use crate::pull::{Asked, Names, PullError, asked, object};

/// The users that a query string asks for; other parameters are ignored.
///
/// # Errors
///
/// If it asks for no user, or for too many.
pub fn users_of_query(query: &str) -> Result<Asked, PullError> {
    let of_user = pairs(query).filter(|(key, _)| *key == "user");
    let asked = asked(of_user.map(|(_, value)| match decode(value) {
        Some(id) => Name::Id(id),
        None => Name::NoId(value.to_owned()),
    }))?;
    if asked == Asked::default() {
        let others = pairs(query).filter(|(key, _)| !["", "token"].contains(key));
        return Err(PullError::NoUser(
            others.map(|(key, _)| key.to_owned()).collect(),
        ));
    }
    Ok(asked)
}

/// The users that a body asks for.
///
/// # Errors
///
/// If it is no such JSON object, or if there are too many users.
pub fn users_of_body(body: &[u8]) -> Result<Asked, PullError> {
    #[derive(Deserialize)]
    struct Question {
        users: Names,
    }
    let question: Question = object(body).ok_or(PullError::Malformed(r#"{"users":["…"]}"#))?;
    question.users.asked()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = Result<(Vec<String>, Vec<String>), &'static str>;

    fn names(asked: Result<Asked, PullError>) -> Read {
        let Asked { users, invalid } = asked.map_err(|error| error.code())?;
        Ok((users.iter().map(ToString::to_string).collect(), invalid))
    }

    fn read(users: &[&str], invalid: &[&str]) -> Read {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        Ok((owned(users), owned(invalid)))
    }

    #[test]
    fn queries() {
        let of = |query| names(users_of_query(query));
        assert_eq!(of("user=123&user=4%3A5&x=y"), read(&["123", "4:5"], &[]));
        assert_eq!(of("user=J%C3%BCrgen%2B"), read(&["Jürgen+"], &[]));
        assert_eq!(
            of("user=a&user=&user=a+b&user=a%0d%0aflush_all&user=%ff&user=b"),
            read(&["a", "b"], &["", "a b", "a\r\nflush_all", "%ff"])
        );
        assert_eq!(of("user="), read(&[], &[""]));
        assert_eq!(of(&"user=1&".repeat(501)), Err("too_many_users"));
    }

    #[test]
    fn a_query_without_users_names_what_it_has_instead() {
        for (query, named) in [
            ("", vec![]),
            ("token=x", vec![]),
            ("&&", vec![]),
            ("users=1,2", vec!["users"]),
            ("users=1&id=2&token=x", vec!["users", "id"]),
            ("user[]=1", vec!["user[]"]),
            ("User", vec!["User"]),
        ] {
            let error = users_of_query(query).unwrap_err();
            assert_eq!(error.code(), "malformed");
            let message = error.to_string();
            assert!(message.contains("user=ID"), "{query}: {message}");
            for name in &named {
                assert!(message.contains(name), "{query}: {message}");
            }
            let named = named.iter().map(ToString::to_string).collect();
            assert_eq!(error, PullError::NoUser(named), "{query}");
        }
    }

    #[test]
    fn bodies() {
        let of = |body: &str| names(users_of_body(body.as_bytes()));
        assert_eq!(
            of(r#"{"users":["1","\u0061",2,"a b",null],"x":[]}"#),
            read(&["1", "a", "2"], &["a b", "null"])
        );
        assert_eq!(of(r#"{"users":[]}"#), read(&[], &[]));
        for body in [
            "",
            "[]",
            r#"[["1"]]"#,
            "{}",
            r#"{"users":"1"}"#,
            r#"{"users":1}"#,
            r#"{"users":null}"#,
            "{\"users\":[\"1\"]}x",
        ] {
            assert_eq!(of(body), Err("malformed"), "{body}");
        }
    }
}
