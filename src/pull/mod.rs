//! Pulls: a client asks which of some users are online.
//!
//! - [`names`]: the users of a question, as it names them.
//! - `question`: a pull, and who asks it.
//! - [`puller`]: how they are asked.
//! - [`pulls`]: what those of all workers have in common: counters, the rate of each user.
//! - `batcher`: look-ups for all pulls of a worker.
//! - `near_cache`: what look-ups have said lately.
//! - `fair_queue`: askers take turns.
//! - `round`: what a node is asked in one go.
//! - `node_lookup`: how it is asked, and what is believed of its answer.
//!
//! The answer never has a false "offline": users with a session here are online, those of
//! whom nothing is known are `unknown`, and only users who were looked for, a moment ago at most, and not
//! found are left out.

mod batcher;
mod fair_queue;
pub mod metrics;
pub mod names;
mod near_cache;
mod node_lookup;
pub mod puller;
pub mod pulls;
mod question;
mod round;

use presenced_presence::{UserId, all_bytes};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::names::{Asked, Names, asked, one_or_more};
pub use self::puller::Puller;
pub use self::pulls::{Config, Pulls};
pub use self::question::{Asker, NoAnswer};
use crate::limits::{PULL_USERS_MAX, RETRY_S};

/// What is known of the users asked for. Users in none of the lists are offline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// With the time of connecting, Unix ms.
    pub online: Vec<(UserId, u64)>,
    /// Users of whom nothing is known now: their node did not answer in time, or may not have been
    /// told of them.
    pub unknown: Vec<UserId>,
    /// What can't be a user's id, as it was asked for.
    pub invalid: Vec<String>,
}

impl Answer {
    /// As JSON, with the number of the question where it has one:
    /// `{"pull":7,"online":{"123":{"connectedAt":…}},"unknown":["9"]}`.
    pub fn json(&self, pull: Option<u64>) -> Vec<u8> {
        #[derive(Serialize)]
        struct Rest<'a> {
            #[serde(skip_serializing_if = "Vec::is_empty")]
            unknown: Vec<&'a str>,
            #[serde(skip_serializing_if = "<[String]>::is_empty")]
            invalid: &'a [String],
        }
        let mut json = Vec::with_capacity(64 + self.online.len() * ONLINE_BYTES);
        json.push(b'{');
        if let Some(pull) = pull {
            json.extend_from_slice(b"\"pull\":");
            number(&mut json, pull);
            json.push(b',');
        }
        json.extend_from_slice(b"\"online\":{");
        for (place, (user, connected_at)) in self.online.iter().enumerate() {
            if place > 0 {
                json.push(b',');
            }
            text(&mut json, user.as_str());
            json.extend_from_slice(b":{\"connectedAt\":");
            number(&mut json, *connected_at);
            json.push(b'}');
        }
        json.push(b'}');
        if !(self.unknown.is_empty() && self.invalid.is_empty()) {
            let rest = Rest {
                unknown: self.unknown.iter().map(UserId::as_str).collect(),
                invalid: &self.invalid,
            };
            // Strings always serialize. It is an object, of which the members follow here.
            let rest = serde_json::to_vec(&rest).unwrap_or_default();
            json.push(b',');
            json.extend_from_slice(
                rest.get(1..rest.len().saturating_sub(1))
                    .unwrap_or_default(),
            );
        }
        json.push(b'}');
        json
    }
}

/// What a user who is online takes in an answer, with an id of usual length.
const ONLINE_BYTES: usize = 56;

fn number(json: &mut Vec<u8>, number: u64) {
    json.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Most ids need no escapes.
fn text(json: &mut Vec<u8>, text: &str) {
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if all_bytes(text.as_bytes(), is_plain) {
        json.push(b'"');
        json.extend_from_slice(text.as_bytes());
        json.push(b'"');
    } else {
        // Writing to memory never fails.
        let _ = serde_json::to_writer(json, text);
    }
}

/// Why a question can't be answered. The session, or HTTP connection, lives on.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PullError {
    /// Not the JSON that was expected.
    #[error("expected {0}")]
    Malformed(&'static str),
    /// More users than one pull may ask for.
    #[error("a pull may ask for at most {PULL_USERS_MAX} users")]
    TooManyUsers,
    /// A query that asks for no user, which would be answered as if all were offline. With the
    /// names of its other parameters.
    #[error("no user is asked for{}: expected user=ID, once for each user", without(.0))]
    NoUser(Vec<String>),
    /// The session's token is not for pulls.
    #[error("the token does not have the scope that pulls need")]
    Scope,
    /// The session has too many pulls without an answer.
    #[error("too many pulls at once: wait for an answer")]
    TooManyPulls,
    /// More users than one user may ask for.
    #[error("pulls for too many users: ask again in {retry_s} s")]
    RateLimited {
        /// Seconds until the pull may be asked again.
        retry_s: u32,
    },
    /// Too many users wait for a look-up, and whoever asks has most of them.
    #[error("too many look-ups are waiting: ask again later")]
    Overloaded,
}

impl PullError {
    /// Whether the question could never be answered, whenever it is asked.
    pub fn is_malformed(&self) -> bool {
        match self {
            PullError::Malformed(_) | PullError::TooManyUsers | PullError::NoUser(_) => true,
            PullError::Scope
            | PullError::TooManyPulls
            | PullError::RateLimited { .. }
            | PullError::Overloaded => false,
        }
    }

    /// Stable code for clients.
    pub fn code(&self) -> &'static str {
        match self {
            PullError::Malformed(_) | PullError::NoUser(_) => "malformed",
            PullError::TooManyUsers => "too_many_users",
            PullError::Scope => "insufficient_scope",
            PullError::TooManyPulls => "too_many_pulls",
            PullError::RateLimited { .. } => "rate_limited",
            PullError::Overloaded => "overloaded",
        }
    }

    /// When to ask again, in seconds, where it is for the server to say.
    pub fn retry_s(&self) -> Option<u32> {
        match self {
            PullError::RateLimited { retry_s } => Some(*retry_s),
            PullError::Overloaded => Some(RETRY_S),
            _ => None,
        }
    }
}

/// Reads a JSON object; `None` if it isn't one. serde would take an array for it too, its items for
/// the members in their order.
pub fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    if !json.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    // UTF-8 is checked once, and not again for each name.
    let json = str::from_utf8(json).ok()?;
    serde_json::from_str(json).ok()
}

/// What a query has instead of users, for people.
fn without(unknown: &[String]) -> String {
    match unknown {
        [] => String::new(),
        unknown => format!(", and this means nothing here: {}", unknown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_the_contract_to_the_letter() {
        let user = |id: &str| UserId::new(id).unwrap();
        let mut answer = Answer {
            online: vec![(user("123"), 1_700_000_000_000)],
            unknown: vec![user("9")],
            invalid: vec!["a \"b".into()],
        };
        assert_eq!(
            String::from_utf8(answer.json(Some(7))).unwrap(),
            r#"{"pull":7,"online":{"123":{"connectedAt":1700000000000}},"unknown":["9"],"invalid":["a \"b"]}"#
        );
        answer.unknown.clear();
        answer.invalid.clear();
        answer.online = vec![(user("a\"b"), 1)];
        assert_eq!(
            String::from_utf8(answer.json(None)).unwrap(),
            r#"{"online":{"a\"b":{"connectedAt":1}}}"#
        );
    }

    proptest! {
        /// Any answer is JSON, and says what it is made of.
        #[test]
        fn answers_are_json(
            online in prop::collection::vec(("[^\\s\\pC]{1,30}", any::<u64>()), 0..5),
            unknown in prop::collection::vec("[^\\s\\pC]{1,30}", 0..3),
            invalid in prop::collection::vec(any::<String>(), 0..3),
            pull in any::<Option<u64>>(),
        ) {
            let user = |id: &String| UserId::new(id).unwrap();
            let online: BTreeMap<_, _> = online.into_iter().collect();
            let answer = Answer {
                online: online.iter().map(|(id, since)| (user(id), *since)).collect(),
                unknown: unknown.iter().map(user).collect(),
                invalid: invalid.clone(),
            };
            let online = online.into_iter().map(|(id, since)| (id, json!({"connectedAt": since})));
            let mut expected = json!({"online": online.collect::<serde_json::Map<_, _>>()});
            if let Some(pull) = pull {
                expected["pull"] = pull.into();
            }
            if !unknown.is_empty() {
                expected["unknown"] = unknown.into();
            }
            if !invalid.is_empty() {
                expected["invalid"] = invalid.into();
            }
            let json: serde_json::Value = serde_json::from_slice(&answer.json(pull)).unwrap();
            prop_assert_eq!(json, expected);
        }
    }
}
