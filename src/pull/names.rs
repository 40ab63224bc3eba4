//! The users of a question, as it names them: `"users":["alice",42]`.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use presenced_presence::UserId;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

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
    let (mut asked, mut users, mut others) = (Asked::default(), HashSet::new(), HashSet::new());
    for (count, name) in names.into_iter().enumerate() {
        if count == PULL_USERS_MAX {
            return Err(PullError::TooManyUsers);
        }
        match name.user() {
            Ok(user) => {
                if users.insert(user.clone()) {
                    asked.users.push(user);
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
#[derive(Debug, serde::Deserialize)]
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
    /// Something else, for people.
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
        deserializer.deserialize_any(NameVisitor)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = Name<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a user's id")
    }

    fn visit_borrowed_str<E>(self, id: &'de str) -> Result<Name<'de>, E> {
        Ok(Name::Id(id.into()))
    }

    fn visit_str<E>(self, id: &str) -> Result<Name<'de>, E> {
        Ok(Name::Id(id.to_owned().into()))
    }

    fn visit_u64<E>(self, id: u64) -> Result<Name<'de>, E> {
        Ok(Name::Id(id.to_string().into()))
    }

    fn visit_i64<E>(self, id: i64) -> Result<Name<'de>, E> {
        Ok(Name::Id(id.to_string().into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Name<'de>, E> {
        Ok(Name::NoId(serde_json::Value::from(number).to_string()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Name<'de>, E> {
        Ok(Name::NoId(value.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Name<'de>, E> {
        Ok(Name::NoId("null".into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Name<'de>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Name::NoId("[…]".into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Name<'de>, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Name::NoId("{…}".into()))
    }
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

    #[test]
    fn anything_of_json_is_a_name() {
        let json = r#"["a","\u0062",3,-4,18446744073709551615,"3",1.0,1.5,1e400,null,true,[1,[2]],{"x":1},""]"#;
        // Out of the range of numbers is no JSON to serde_json.
        assert!(serde_json::from_str::<Names<'_>>(json).is_err());
        let json = json.replace("1e400,", "");
        let names: Names<'_> = serde_json::from_str(&json).unwrap();
        let Asked { users, invalid } = names.asked().unwrap();
        let users: Vec<_> = users.iter().map(UserId::as_str).collect();
        assert_eq!(users, ["a", "b", "3", "-4", "18446744073709551615"]);
        let others = ["1.0", "1.5", "null", "true", "[…]", "{…}", ""];
        assert_eq!(invalid, strings(&others));
    }
}
