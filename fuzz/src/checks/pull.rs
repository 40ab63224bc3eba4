//! Pulls: a message of a session, the query and the body of an HTTP request.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use arbitrary::Unstructured;
use presenced::gateway::http_pull;
use presenced::gateway::response::error_json;
use presenced::limits::PULL_USERS_MAX;
use presenced::pull::{Answer, Asked, PullError};
use presenced::server::client_message::{self, ClientMessage};
use presenced_presence::limits::USER_ID_BYTES_MAX;
use presenced_presence::users::Live;
use presenced_presence::{Record, SessionId, UserId};
use presenced_protocol::request::Parser;
use presenced_protocol::{Parsed, Request};
use presenced_session::limits::OUTBOX_BYTES_MAX;
use presenced_session::slab::SessionKey;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::questions;

/// Takes the bytes as a message, as a body and as a query, and as choices of their parts. The users
/// asked for are those that a naive reading of the JSON or the query finds. Each of them makes one
/// memcached request. Answers and errors are JSON with the same content.
pub fn pull(data: &[u8]) {
    as_message(data);
    as_body(data);
    if let Ok(query) = str::from_utf8(data) {
        as_query(query);
    }
    let mut input = Unstructured::new(data);
    if let Ok(json) = questions::json(&mut input) {
        as_message(json.as_bytes());
        as_body(json.as_bytes());
    }
    if let Ok(query) = questions::query(&mut input) {
        as_query(&query);
    }
}

fn as_message(data: &[u8]) {
    let (number, asked) = match client_message::parse(data) {
        Ok(ClientMessage::Pull(pull)) => (Some(pull.number), Ok(pull.asked)),
        Ok(ClientMessage::Token(token)) => return is_token(data, &token),
        Err(fault) => {
            is_error(&fault.json(), &fault.error, fault.number);
            (fault.number, Err(fault.error))
        }
    };
    is_sound(&asked, number);
    // serde_json validates skipped values less strictly than those it keeps, so a message may be
    // accepted although the naive reading finds no JSON.
    if serde_json::from_slice::<Value>(data).is_err() {
        return;
    }
    let members = Members::of(data);
    let expected_number = members
        .only("pull")
        .and_then(|number| serde_json::from_str::<u64>(number.get()).ok());
    let has_token = members.has("token");
    let expected = members.users();
    let expected = expected.filter(|_| expected_number.is_some() && !has_token);
    assert_eq!(number, expected_number);
    is_as_expected(&asked, expected.as_deref());
}

/// The message has a token, and is no question.
fn is_token(data: &[u8], token: &str) {
    if serde_json::from_slice::<Value>(data).is_err() {
        return;
    }
    let members = Members::of(data);
    let text = members.only("token").expect("one token");
    assert_eq!(serde_json::from_str::<String>(text.get()).unwrap(), token);
    assert!(!members.has("pull"));
}

fn as_body(data: &[u8]) {
    let asked = http_pull::users_of_body(data);
    is_sound(&asked, None);
    if serde_json::from_slice::<Value>(data).is_ok() {
        is_as_expected(&asked, Members::of(data).users().as_deref());
    }
}

fn as_query(query: &str) {
    let asked = http_pull::users_of_query(query);
    is_sound(&asked, None);
    let values = query.split('&').filter_map(|pair| match pair {
        "user" => Some(""),
        _ => pair.strip_prefix("user="),
    });
    let names: Vec<Named> = values
        .map(|value| plain_decode(value).ok_or(value.to_owned()))
        .collect();
    // A query asks for somebody.
    is_as_expected(&asked, Some(&names[..]).filter(|names| !names.is_empty()));
}

/// The result of parsing a pull is within its limits, and so is the answer.
fn is_sound(asked: &Result<Asked, PullError>, number: Option<u64>) {
    let Asked { users, invalid } = match asked {
        Ok(asked) => asked,
        Err(error) => {
            return is_error(
                &error_json(error.code(), &error.to_string(), number),
                error,
                number,
            );
        }
    };
    assert!(users.len() + invalid.len() <= PULL_USERS_MAX);
    let record = Record::new("user:{userId}:online", "edge \"1\"\r\n", 1, 7).unwrap();
    for user in users {
        assert_eq!(UserId::new(user.as_str()).as_ref(), Ok(user));
        assert!(is_user(user.as_str()));
    }
    // A sample only, as inputs with many users would dominate the run time.
    for user in users.iter().step_by(users.len() / 16 + 1) {
        is_one_request(&record, user);
    }
    is_answer(users, invalid, number);
}

/// The key of a look-up and the `set` of a heartbeat are always exactly one command of that kind.
fn is_one_request(record: &Record, user: &UserId) {
    let key = format!("user:{user}:online");
    let mut rendered = Vec::new();
    record.key(&mut rendered, user);
    assert_eq!(rendered, key.as_bytes());
    let get = [b"get ", &rendered[..], b"\r\n"].concat();
    match Parser::default().parse(&get) {
        Parsed::Request {
            request: Request::Get { keys, .. },
            consumed,
        } => {
            let keys: Vec<&[u8]> = keys.map(|key| key.as_bytes()).collect();
            assert_eq!((keys, consumed), (vec![key.as_bytes()], get.len()));
        }
        other => panic!("{other:?}"),
    }
    let live = Live {
        connected_at_ms: 1_700_000_000_000,
        session: SessionId {
            worker: 1,
            key: SessionKey {
                index: 2,
                generation: 3,
            },
        },
    };
    let mut set = Vec::new();
    record.set(&mut set, user, live, 60);
    match Parser::default().parse(&set) {
        Parsed::Request {
            request: Request::Store { key: set_key, .. },
            consumed,
        } => assert_eq!((set_key.as_bytes(), consumed), (key.as_bytes(), set.len())),
        other => panic!("{other:?}"),
    }
}

fn is_answer(users: &[UserId], invalid: &[String], number: Option<u64>) {
    let (online, unknown) = users.split_at(users.len() / 2);
    let online: Vec<(UserId, u64)> = online.iter().cloned().zip(u64::MAX - 500..).collect();
    let unknown = unknown.to_vec();
    let invalid = invalid.to_vec();
    let answer = Answer {
        online,
        unknown,
        invalid,
    };
    let json = answer.json(number);
    assert!(json.len() <= OUTBOX_BYTES_MAX);
    let json: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json.get("pull").map(Value::as_u64), number.map(Some));
    let online: BTreeMap<&str, u64> = answer
        .online
        .iter()
        .map(|(user, since)| (user.as_str(), *since))
        .collect();
    let found = json["online"].as_object().unwrap();
    let found: BTreeMap<&str, u64> = found
        .iter()
        .map(|(user, entry)| (user.as_str(), entry["connectedAt"].as_u64().unwrap()))
        .collect();
    assert_eq!(found, online);
    assert_eq!(
        found.len(),
        answer.online.len(),
        "each user is in the answer once"
    );
    let found = json.get("unknown").map(|list| list.as_array().unwrap());
    let found: Vec<&str> = found.map_or_else(Vec::new, |list| {
        list.iter().map(|user| user.as_str().unwrap()).collect()
    });
    let unknown: Vec<&str> = answer.unknown.iter().map(UserId::as_str).collect();
    assert_eq!(found, unknown);
    let found = json.get("invalid").cloned().unwrap_or_default();
    let found: Option<Vec<String>> = serde_json::from_value(found).unwrap();
    assert_eq!(found.unwrap_or_default(), answer.invalid);
}

fn is_error(json: &[u8], error: &PullError, number: Option<u64>) {
    let json: Value = serde_json::from_slice(json).unwrap();
    assert_eq!(json.get("pull").map(Value::as_u64), number.map(Some));
    assert_eq!(json["error"]["code"], error.code());
    assert_eq!(json["error"]["message"], error.to_string());
}

/// What may be a user's id, or what it is shown as otherwise.
type Named = Result<String, String>;

/// `names` is `None` if they can't be parsed.
fn is_as_expected(asked: &Result<Asked, PullError>, names: Option<&[Named]>) {
    let expected = match names {
        None => Err("malformed"),
        Some(names) if names.len() > PULL_USERS_MAX => Err("too_many_users"),
        Some(names) => {
            let users = names.iter().flatten().filter(|name| is_user(name));
            let others = names.iter().filter_map(|name| match name {
                Ok(name) => Some(name).filter(|name| !is_user(name)),
                Err(other) => Some(other),
            });
            Ok((each_once(users), each_once(others)))
        }
    };
    let found = match asked {
        Ok(Asked { users, invalid }) => Ok((
            users.iter().map(UserId::as_str).collect(),
            invalid.iter().map(String::as_str).collect(),
        )),
        Err(error) => Err(error.code()),
    };
    assert_eq!(found, expected);
}

/// Removes duplicates and keeps the order.
fn each_once<'n>(names: impl Iterator<Item = &'n String>) -> Vec<&'n str> {
    let mut seen = BTreeSet::new();
    let names = names.map(String::as_str);
    names.filter(|name| seen.insert(*name)).collect()
}

fn is_user(name: &str) -> bool {
    let bytes = 1..=USER_ID_BYTES_MAX;
    bytes.contains(&name.len()) && !name.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// Decodes application/x-www-form-urlencoded; `None` if the result is not UTF-8.
fn plain_decode(value: &str) -> Option<String> {
    let mut decoded = Vec::new();
    let mut rest = value.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = |digit: u8| (digit as char).to_digit(16);
        rest = after;
        match (first, after) {
            (b'+', _) => decoded.push(b' '),
            (b'%', &[high, low, ref after @ ..]) if hex(high).is_some() && hex(low).is_some() => {
                let byte = hex(high).unwrap() * 16 + hex(low).unwrap();
                decoded.push(u8::try_from(byte).unwrap());
                rest = after;
            }
            _ => decoded.push(*first),
        }
    }
    String::from_utf8(decoded).ok()
}

/// The members of a JSON object, duplicates included; empty if the JSON is not an object.
#[derive(Default)]
struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    fn of(json: &[u8]) -> Members {
        serde_json::from_slice(json).unwrap_or_default()
    }

    /// The value of a member, if exactly one has that name.
    fn only(&self, name: &str) -> Option<&RawValue> {
        let mut values = self.0.iter().filter(|member| member.0 == name);
        let value = values.next().filter(|_| values.next().is_none())?;
        Some(&value.1)
    }

    /// Whether it is there, and no single `null`.
    fn has(&self, name: &str) -> bool {
        let is_null = self.only(name).is_some_and(|value| value.get() == "null");
        !is_null && self.0.iter().any(|member| member.0 == name)
    }

    fn users(&self) -> Option<Vec<Named>> {
        let names = serde_json::from_str::<Vec<Box<RawValue>>>(self.only("users")?.get());
        let names = names.ok()?.into_iter();
        let named = names.map(|name| match serde_json::from_str(name.get()) {
            // First, as serde_json reads some objects as what one of their texts says.
            _ if name.get().starts_with('[') => Err("[…]".into()),
            _ if name.get().starts_with('{') => Err("{…}".into()),
            Ok(Value::String(id)) => Ok(id),
            Ok(Value::Number(id)) if id.is_i64() || id.is_u64() => Ok(id.to_string()),
            // As it is written.
            _ => Err(name.get().into()),
        });
        Some(named.collect())
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Members::default();
                while let Some(member) = map.next_entry()? {
                    members.0.push(member);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Collect)
    }
}
