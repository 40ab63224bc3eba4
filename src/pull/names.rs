//! The users of a question, as it names them: `"users":["alice",42]`.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::BuildHasher;

use hashbrown::HashTable;
use presenced_presence::UserId;
use presenced_presence::users::Hasher;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::value::RawValue;

use super::PullError;
use crate::limits::PULL_USERS_MAX;

/// Who a question asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Each once, in the order of the question.
    pub users: Vec<UserId>,
    /// What can't be a user's id, likewise. It is told in the answer, and costs the others nothing.
    pub invalid: Vec<String>,
}

/// Checks the names of a question; what is asked for twice is answered once.
///
/// # Errors
///
/// If there are too many.
pub fn asked<'a>(names: impl IntoIterator<Item = Name<'a>>) -> Result<Asked, PullError> {
    let names = names.into_iter();
    let likely = names.size_hint().0.min(PULL_USERS_MAX);
    let (mut asked, mut others) = (Asked::default(), HashSet::new());
    asked.users.reserve(likely);
    // The places of the users, by the hash of their ids.
    let (mut places, hasher) = (HashTable::with_capacity(likely), Hasher::default());
    for (count, name) in names.enumerate() {
        if count == PULL_USERS_MAX {
            return Err(PullError::TooManyUsers);
        }
        match name.user() {
            Ok(user) => {
                let users = &mut asked.users;
                let hash = hasher.hash_one(&user);
                let is_there = |&place: &usize| users[place] == user;
                if places.find(hash, is_there).is_none() {
                    places
                        .insert_unique(hash, users.len(), |&place| hasher.hash_one(&users[place]));
                    users.push(user);
                }
            }
            Err(other) => {
                if others.insert(other.clone()) {
                    asked.invalid.push(other);
                }
            }
        }
    }
    Ok(asked)
}

/// `"users": ["…"]`, wherever a question comes from.
#[derive(Debug, Deserialize)]
pub struct Names<'a>(#[serde(borrow)] Vec<Name<'a>>);

impl Names<'_> {
    /// Checks them.
    ///
    /// # Errors
    ///
    /// If there are too many.
    pub fn asked(self) -> Result<Asked, PullError> {
        asked(self.0)
    }
}

/// What a question names as a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name<'a> {
    /// A text, or an integer, as tokens may have it for their `sub`.
    Id(Cow<'a, str>),
    /// Something else, as it is written; of lists and objects, what they are.
    NoId(String),
}

impl Name<'_> {
    /// The user, or what it is instead.
    fn user(self) -> Result<UserId, String> {
        match self {
            Name::Id(id) => UserId::new(&id).map_err(|_| id.into_owned()),
            Name::NoId(other) => Err(other),
        }
    }
}

/// Borrows where JSON has no escapes. Anything of JSON is a name, so that one that is wrong costs
/// the others nothing.
impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name<'a>, D::Error> {
        let written = <&RawValue>::deserialize(deserializer)?.get();
        match written.as_bytes().first() {
            // What is skipped has its quotes, and no control characters. Most ids have no escapes.
            Some(b'"') if !written.contains('\\') => {
                Ok(Name::Id(written[1..written.len() - 1].into()))
            }
            Some(b'"') => match serde_json::from_str(written) {
                Ok(Text(id)) => Ok(Name::Id(id)),
                // What is skipped is read less strictly than what is kept: half of a surrogate pair, say.
                Err(_) => Err(D::Error::custom("no text")),
            },
            Some(b'[') => Ok(Name::NoId("[…]".into())),
            Some(b'{') => Ok(Name::NoId("{…}".into())),
            _ if is_integer(written) => Ok(Name::Id(written.into())),
            _ => Ok(Name::NoId(written.into())),
        }
    }
}

/// A JSON string without its quotes and escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Whether a JSON value is an integer as tokens may have it: of 64 bits, and in its only form, which `-0`
/// and `1e2` are not.
fn is_integer(written: &str) -> bool {
    (written.parse::<u64>().is_ok() || written.parse::<i64>().is_ok()) && written != "-0"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Result<(Vec<String>, Vec<String>), PullError> {
        let names = names.iter().map(|name| Name::Id((*name).into()));
        let Asked { users, invalid } = asked(names)?;
        Ok((users.iter().map(ToString::to_string).collect(), invalid))
    }

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_are_counted_and_each_is_answered_once() {
        let names: Vec<_> = (0..501).map(|number| number.to_string()).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        assert_eq!(of(&names[..500]).unwrap().0.len(), 500);
        assert_eq!(of(&names), Err(PullError::TooManyUsers));
        assert_eq!(of(&["a"; 500]).unwrap().0, ["a"]);
        assert_eq!(of(&["a"; 501]), Err(PullError::TooManyUsers));
        assert_eq!(of(&[""; 501]), Err(PullError::TooManyUsers));
        let twice = of(&["b", "a", "b", "c", "a"]).unwrap();
        assert_eq!(twice.0, ["b", "a", "c"]);
    }

    #[test]
    fn what_can_not_be_an_id_costs_the_others_nothing() {
        let long = "x".repeat(201);
        assert_eq!(
            of(&["a", "b c", "", "d", &long, "b c"]).unwrap(),
            (strings(&["a", "d"]), strings(&["b c", "", &long]))
        );
    }

    fn of_json(json: &str) -> Option<(Vec<String>, Vec<String>)> {
        let names: Names<'_> = serde_json::from_str(json).ok()?;
        let Asked { users, invalid } = names.asked().unwrap();
        Some((users.iter().map(ToString::to_string).collect(), invalid))
    }

    #[test]
    fn anything_of_json_is_a_name() {
        let json =
            r#"["a","\u0062",3,-4,18446744073709551615,"3",1.0,null,true,[1,[2]],{"x":1},""]"#;
        let (users, invalid) = of_json(json).unwrap();
        assert_eq!(users, ["a", "b", "3", "-4", "18446744073709551615"]);
        assert_eq!(invalid, ["1.0", "null", "true", "[…]", "{…}", ""]);
    }

    #[test]
    fn numbers_that_are_no_ids_are_named_as_they_are_written() {
        let numbers = [
            "1e2",
            "100.0",
            "1E+2",
            "1.50",
            "-0",
            "-0.0",
            "0e0",
            "1e400",
            "18446744073709551616",
            "-9223372036854775809",
            "0.1000000000000000055511151231257827",
        ];
        let json = format!("[ {} ,\n7 ,\t-9223372036854775808]", numbers.join(" , "));
        let (users, invalid) = of_json(&json).unwrap();
        assert_eq!(invalid, numbers);
        assert_eq!(users, ["7", "-9223372036854775808"]);
        // A text is one, whatever it looks like.
        assert_eq!(of_json(r#"["1e2"]"#).unwrap().0, ["1e2"]);
    }

    #[test]
    fn what_is_no_json_is_no_list_of_names() {
        for json in [
            "[01]",
            "[+1]",
            "[1.]",
            "[.5]",
            "[1e]",
            "[0x1]",
            "[NaN]",
            "[-]",
            "[1 2]",
            "[1,]",
            "[nul]",
            "[\"a]",
            "[\"\n\"]",
            r#"["\x"]"#,
            r#"["\ud800"]"#,
            "{}",
            "1",
        ] {
            assert_eq!(of_json(json), None, "{json}");
        }
        assert!(serde_json::from_slice::<Names<'_>>(b"[\"\xff\"]").is_err());
    }
}
