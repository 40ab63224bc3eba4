//! The users of a question, as it names them: `"users":["alice",42]`.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::hash::BuildHasher;

use hashbrown::HashTable;
use presenced_presence::UserId;
use presenced_presence::users::Hasher;
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
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

impl Asked {
    /// Whether there is nothing to be told.
    pub fn is_of_nobody(&self) -> bool {
        self.users.is_empty() && self.invalid.is_empty()
    }
}

/// Checks the names of a question; what is asked for twice is answered once.
///
/// # Errors
///
/// If there are too many.
pub fn asked<'a>(names: impl IntoIterator<Item = Name<'a>>) -> Result<Asked, PullError> {
    let mut reading = Reading::new();
    for name in names {
        reading.add(name)?;
    }
    Ok(reading.end())
}

/// The users of a question that names an array of them, or one alone.
///
/// # Errors
///
/// If it names none, or too many.
pub fn one_or_more(users: Option<&RawValue>) -> Result<Asked, PullError> {
    const EXPECTED: &str = "an array of user ids, or one";
    let written = users.map(RawValue::get).unwrap_or_default();
    let malformed = |_| PullError::Malformed(EXPECTED);
    match written.as_bytes().first() {
        Some(b'[') => {
            let names: Names = serde_json::from_str(written).map_err(malformed)?;
            names.asked()
        }
        Some(b'"' | b'-' | b'0'..=b'9') => {
            let name: Name<'_> = serde_json::from_str(written).map_err(malformed)?;
            asked([name])
        }
        _ => Err(PullError::Malformed(EXPECTED)),
    }
}

/// `"users": ["…"]`, wherever a question comes from.
#[derive(Debug)]
pub struct Names(Result<Asked, PullError>);

impl Names {
    /// Who they are.
    ///
    /// # Errors
    ///
    /// If there are too many.
    pub fn asked(self) -> Result<Asked, PullError> {
        self.0
    }
}

/// Checks each name as it is read, so there is no list of them beside that of the users.
impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Names, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Names, A::Error> {
                let (mut reading, mut is_ok) = (Reading::new(), Ok(()));
                // If there are too many, the rest must be JSON all the same.
                while let Some(name) = list.next_element()? {
                    is_ok = is_ok.and_then(|()| reading.add(name));
                }
                Ok(Names(is_ok.map(|()| reading.end())))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// The names of a question, as far as they have been read.
struct Reading {
    asked: Asked,
    /// All names, those that were there before, too.
    count: usize,
    /// The places of the users, by the hash of their ids.
    places: HashTable<u16>,
    hasher: Hasher,
    others: HashSet<String>,
}

/// Users of a question for whom there is room at first: a screen of them.
const USERS_LIKELY: usize = 56;

impl Reading {
    fn new() -> Reading {
        Reading {
            asked: Asked {
                users: Vec::with_capacity(USERS_LIKELY),
                invalid: Vec::new(),
            },
            count: 0,
            places: HashTable::with_capacity(USERS_LIKELY),
            hasher: Hasher::default(),
            others: HashSet::new(),
        }
    }

    fn add(&mut self, name: Name<'_>) -> Result<(), PullError> {
        if self.count == PULL_USERS_MAX {
            return Err(PullError::TooManyUsers);
        }
        self.count += 1;
        let Reading { hasher, others, .. } = self;
        let Asked { users, invalid } = &mut self.asked;
        match name.user() {
            Ok(user) => {
                let hash = hasher.hash_one(&user);
                let place = |place: u16| &users[usize::from(place)];
                let is_there = self.places.find(hash, |&known| *place(known) == user);
                if is_there.is_none() {
                    let new = users.len() as u16;
                    self.places
                        .insert_unique(hash, new, |&known| hasher.hash_one(place(known)));
                    users.push(user);
                }
            }
            Err(other) => {
                if others.insert(other.clone()) {
                    invalid.push(other);
                }
            }
        }
        Ok(())
    }

    fn end(mut self) -> Asked {
        // Those of many small questions may wait at once.
        let users = &mut self.asked.users;
        if users.len() < users.capacity() / 2 {
            users.shrink_to_fit();
        }
        self.asked
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
        let names: Names = serde_json::from_str(json).ok()?;
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
        assert!(serde_json::from_slice::<Names>(b"[\"\xff\"]").is_err());
    }
}
