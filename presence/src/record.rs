//! What is written about a user: key `user:{userId}:online`, value
//! `{"serverId":"…","connectedAt":…,"socketId":"…"}`.
//!
//! This is the contract with every reader in every language; [`Record`] is the one place that
//! renders it and [`connected_at`] the one that reads it back.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::borrow::Cow;
use std::num::NonZeroU64;
use std::ops::RangeInclusive;

use presenced_memcached::pipeline::WriteCommand;
use presenced_protocol::meta::Flag;
use presenced_protocol::{Key, encode};
use presenced_session::slab::SessionKey;
use serde::Deserialize;
use thiserror::Error;

use crate::limits::{RECORD_BYTES_MAX, USER_ID_BYTES_MAX};
use crate::render::{Fixed, Number, Out};
use crate::user_id::UserId;
use crate::users::{Live, SessionId};

/// What stands for the user's id in a key template.
pub const PLACEHOLDER: &str = "{userId}";

/// Why a key template can't be used.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TemplateError {
    /// The id must be in the key once: without it all users share one, twice it may not fit.
    #[error("it must contain {PLACEHOLDER} exactly once")]
    Placeholder,
    /// Room for the longest user id is needed.
    #[error(
        "without {PLACEHOLDER} it may have at most {} bytes: keys have at most {} and user ids {USER_ID_BYTES_MAX}",
        presenced_protocol::key::KEY_BYTES_MAX - USER_ID_BYTES_MAX,
        presenced_protocol::key::KEY_BYTES_MAX
    )]
    TooLong,
    /// As for user ids.
    #[error("it must not contain a space or a control character")]
    Character,
}

/// Renders keys and values, and the `set` commands made of them.
#[derive(Clone, Debug)]
pub struct Record {
    prefix: String,
    suffix: String,
    /// `{"serverId":"…","connectedAt":`.
    value_head: String,
    command: WriteCommand,
    /// The command's name and the prefix.
    before_user: Fixed,
    /// The suffix, and of a `set` memcached's flags between spaces.
    after_user: Fixed,
    /// What is left of the line, its end, and the head of the value.
    head: Fixed,
    /// `,"socketId":"…-`, which names this run of the process: else ids would repeat after a
    /// restart.
    socket: Fixed,
    /// Bytes of a value that are not digits of its numbers.
    value_fixed: usize,
    /// Bytes that a command without a user's id may write over.
    room: usize,
    flags: u32,
    boot: u32,
}

impl Record {
    /// For keys made after `template`, values that name `server_id`, stored with memcached
    /// `flags`. `boot` should differ from one run of the process to the next.
    ///
    /// # Errors
    ///
    /// If the template can't make keys that are both distinct and short enough.
    pub fn new(
        template: &str,
        server_id: &str,
        flags: u32,
        boot: u32,
    ) -> Result<Record, TemplateError> {
        let (prefix, suffix) = template
            .split_once(PLACEHOLDER)
            .filter(|(_, rest)| !rest.contains(PLACEHOLDER))
            .ok_or(TemplateError::Placeholder)?;
        let fixed = [prefix, suffix];
        if fixed
            .iter()
            .any(|part| part.chars().any(|c| c.is_whitespace() || c.is_control()))
        {
            return Err(TemplateError::Character);
        }
        if prefix.len() + suffix.len() + USER_ID_BYTES_MAX > presenced_protocol::key::KEY_BYTES_MAX
        {
            return Err(TemplateError::TooLong);
        }
        let server_id = serde_json::Value::from(server_id).to_string();
        let value_head = format!("{{\"serverId\":{server_id},\"connectedAt\":");
        let socket = format!(",\"socketId\":\"{boot:08x}-");
        let nothing = Fixed::new(b"");
        let record = Record {
            prefix: prefix.into(),
            suffix: suffix.into(),
            command: WriteCommand::Set,
            before_user: nothing.clone(),
            after_user: nothing.clone(),
            head: nothing,
            // Two hyphens; without the line's end.
            value_fixed: value_head.len() + socket.len() + 2 + END.len() - 2,
            value_head,
            socket: Fixed::new(socket.as_bytes()),
            room: 0,
            flags,
            boot,
        };
        Ok(record.written_by(WriteCommand::Set))
    }

    /// The same, written by another command.
    #[must_use]
    pub fn written_by(self, command: WriteCommand) -> Record {
        let Record {
            prefix,
            suffix,
            value_head,
            flags,
            ..
        } = &self;
        let [before_user, after_user, head] = match command {
            WriteCommand::Set => [
                format!("set {prefix}"),
                format!("{suffix} {flags} "),
                format!("\r\n{value_head}"),
            ],
            WriteCommand::Ms => [
                format!("ms {prefix}"),
                format!("{suffix} "),
                match flags {
                    0 => format!(" q\r\n{value_head}"),
                    flags => format!(" F{flags} q\r\n{value_head}"),
                },
            ],
        }
        .map(|text| Fixed::new(text.as_bytes()));
        let fixed = [&before_user, &after_user, &head, &self.socket];
        let fixed: usize = fixed.iter().map(|fixed| fixed.room()).sum();
        Record {
            command,
            before_user,
            after_user,
            head,
            room: fixed + 6 * (Number::ROOM + 2) + END.len(),
            ..self
        }
    }

    /// Replaces the content of `out` with the user's key.
    pub fn key(&self, out: &mut Vec<u8>, user: &UserId) {
        out.clear();
        self.append_key(out, user);
    }

    /// Appends the user's key.
    pub fn append_key(&self, out: &mut Vec<u8>, user: &UserId) {
        out.extend_from_slice(self.prefix.as_bytes());
        out.extend_from_slice(user.as_str().as_bytes());
        out.extend_from_slice(self.suffix.as_bytes());
    }

    /// The `socketId` of a session, as its user's value has it.
    pub fn socket_id(&self, session: SessionId) -> String {
        let SessionKey { index, generation } = session.key;
        format!("{:08x}-{}-{index}-{generation}", self.boot, session.worker)
    }

    /// Bytes of a key and its value together, from the shortest to the longest.
    pub fn entry_bytes(&self) -> RangeInclusive<usize> {
        let fixed = self.prefix.len() + self.suffix.len() + self.value_fixed;
        // A time in milliseconds is of 13 digits until the year 2286; a worker, an index and a
        // generation are of one digit or more.
        let digits = 16..=13 + 5 + 10 + 10;
        fixed + 1 + digits.start()..=fixed + USER_ID_BYTES_MAX + digits.end()
    }

    /// Appends one whole command for a user whose oldest session here is `live`.
    pub fn set(&self, out: &mut Vec<u8>, user: &UserId, live: Live, ttl_s: u32) {
        let start = out.len();
        out.resize(start + self.set_room(user), 0);
        let len = self.set_into(&mut out[start..], user, live, ttl_s);
        out.truncate(start + len);
    }

    /// Bytes of `out` that [`Record::set_into`] may write over.
    #[inline]
    pub fn set_room(&self, user: &UserId) -> usize {
        self.room + user.as_str().len()
    }

    /// Writes the same to the start of `out`, which must have [`Record::set_room`], and returns its
    /// length; what stood behind it is spoilt. A flush does this for everyone who is here.
    pub fn set_into(&self, out: &mut [u8], user: &UserId, live: Live, ttl_s: u32) -> usize {
        let SessionId {
            worker,
            key: SessionKey { index, generation },
        } = live.session;
        let connected_at = Number::new(live.connected_at_ms);
        let worker = Number::new(worker.into());
        let index = Number::new(index.into());
        let generation = Number::new(generation.into());
        let length_of_value =
            self.value_fixed + connected_at.len() + worker.len() + index.len() + generation.len();
        let mut command = Out::new(out);
        command.fixed(&self.before_user);
        command.text(user.as_str().as_bytes());
        command.fixed(&self.after_user);
        let ttl = Number::new(ttl_s.into());
        let length = Number::new(length_of_value as u64);
        match self.command {
            WriteCommand::Set => {
                command.number(ttl);
                command.literal(b" ");
                command.number(length);
            }
            WriteCommand::Ms => {
                command.number(length);
                command.literal(b" T");
                command.number(ttl);
            }
        }
        command.fixed(&self.head);
        command.number(connected_at);
        command.fixed(&self.socket);
        command.number(worker);
        command.literal(b"-");
        command.number(index);
        command.literal(b"-");
        command.number(generation);
        command.literal(END);
        let len = command.len();
        debug_assert!(self.is_as_encoded(&out[..len], user, ttl_s, length_of_value));
        len
    }

    /// Whether the protocol crate, which checks the key, would have made the same command.
    fn is_as_encoded(&self, command: &[u8], user: &UserId, ttl_s: u32, length: usize) -> bool {
        let (mut key, mut encoded) = (Vec::new(), Vec::new());
        self.key(&mut key, user);
        let value = &command[command.len() - length - 2..command.len() - 2];
        let Ok(key) = Key::new(&key) else {
            return false;
        };
        let ttl_s = i64::from(ttl_s);
        match self.command {
            WriteCommand::Set => encode::set(&mut encoded, key, self.flags, ttl_s, value),
            WriteCommand::Ms => {
                let flags = (self.flags != 0).then_some(Flag::ClientFlags(self.flags));
                let ttl = [Flag::Exptime(ttl_s)].into_iter();
                let flags = ttl.chain(flags).chain([Flag::Quiet]);
                encode::meta_set(&mut encoded, key, value, flags);
            }
        }
        encoded == command
    }
}

/// The end of every value, and of its `set`.
const END: &[u8; 4] = b"\"}\r\n";

/// `connectedAt` (Unix ms) of a value that some edge wrote, or `None` if it isn't one of ours: a
/// JSON object with a string `serverId` and an integer `connectedAt` above 0. A time in the future
/// is that of an edge whose clock is fast; its user is online all the same.
pub fn connected_at(value: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Value<'a> {
        #[serde(borrow, rename = "serverId")]
        _server_id: Cow<'a, str>,
        connected_at: NonZeroU64,
    }
    // serde would take an array for an object too.
    if value.len() > RECORD_BYTES_MAX || !value.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    let value: Value<'_> = serde_json::from_slice(value).ok()?;
    Some(value.connected_at.get())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn live() -> Live {
        Live {
            connected_at_ms: 1_234_567_890_123,
            session: SessionId {
                worker: 1,
                key: SessionKey {
                    index: 23,
                    generation: 4,
                },
            },
        }
    }

    fn set(template: &str, server: &str, user: &str) -> String {
        let record = Record::new(template, server, 2, 0xdead_beef).unwrap();
        let mut out = Vec::new();
        let user = UserId::new(user).unwrap();
        record.set(&mut out, &user, live(), 60);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_set_is_the_contract_to_the_letter() {
        let value =
            r#"{"serverId":"server-1","connectedAt":1234567890123,"socketId":"deadbeef-1-23-4"}"#;
        let expected = format!("set user:123:online 2 60 {}\r\n{value}\r\n", value.len());
        assert_eq!(set("user:{userId}:online", "server-1", "123"), expected);
    }

    #[test]
    fn the_socket_id_is_that_of_the_value() {
        let record = Record::new("{userId}", "s", 0, 0x00ad_beef).unwrap();
        let mut out = Vec::new();
        record.set(&mut out, &UserId::new("123").unwrap(), live(), 60);
        let set = String::from_utf8(out).unwrap();
        let value: serde_json::Value = serde_json::from_str(set.lines().nth(1).unwrap()).unwrap();
        assert_eq!(value["socketId"], record.socket_id(live().session));
    }

    #[test]
    fn a_quiet_meta_set_stores_the_same() {
        let render = |flags| {
            let record =
                Record::new("user:{userId}:online", "server-1", flags, 0xdead_beef).unwrap();
            let record = record.written_by(WriteCommand::Ms);
            let mut out = Vec::new();
            record.set(&mut out, &UserId::new("123").unwrap(), live(), 60);
            String::from_utf8(out).unwrap()
        };
        let value =
            r#"{"serverId":"server-1","connectedAt":1234567890123,"socketId":"deadbeef-1-23-4"}"#;
        let line = format!("ms user:123:online {} T60", value.len());
        assert_eq!(render(0), format!("{line} q\r\n{value}\r\n"));
        assert_eq!(render(2), format!("{line} F2 q\r\n{value}\r\n"));
    }

    #[test]
    fn a_server_id_can_not_break_the_json() {
        let set = set("{userId}", "a\"b\\c", "x");
        let json: serde_json::Value = serde_json::from_str(set.lines().nth(1).unwrap()).unwrap();
        assert_eq!(json["serverId"], "a\"b\\c");
        assert_eq!(
            connected_at(json.to_string().as_bytes()),
            Some(1_234_567_890_123)
        );
    }

    #[test]
    fn templates_that_can_not_work_are_refused() {
        let new = |template: &str| Record::new(template, "s", 0, 0).map(drop);
        assert_eq!(new("user"), Err(TemplateError::Placeholder));
        assert_eq!(new("{userId}{userId}"), Err(TemplateError::Placeholder));
        assert_eq!(new("a {userId}"), Err(TemplateError::Character));
        assert_eq!(
            new(&format!("{}{{userId}}", "x".repeat(51))),
            Err(TemplateError::TooLong)
        );
        assert_eq!(new(&format!("{}{{userId}}", "x".repeat(50))), Ok(()));
    }

    #[test]
    fn values_that_are_not_ours_are_not_believed() {
        for value in [
            "",
            "1",
            "[1]",
            r#"["edge-1",1]"#,
            "{}",
            "not json",
            r#"{"connectedAt":1}"#,
            r#"{"serverId":"edge-1"}"#,
            r#"{"serverId":1,"connectedAt":1}"#,
            r#"{"serverId":null,"connectedAt":1}"#,
            r#"{"serverId":"edge-1","connectedAt":"1"}"#,
            r#"{"serverId":"edge-1","connectedAt":-1}"#,
            r#"{"serverId":"edge-1","connectedAt":0}"#,
            r#"{"serverId":"edge-1","connectedAt":1.5}"#,
        ] {
            assert_eq!(connected_at(value.as_bytes()), None, "{value}");
        }
        let ours =
            |since: u64| format!(r#" {{"connectedAt":{since},"x":[],"serverId":"e\u0064ge"}}"#);
        for since in [1, 1_700_000_000_000, u64::MAX] {
            assert_eq!(connected_at(ours(since).as_bytes()), Some(since));
        }
        let long = format!(
            r#"{{"serverId":"{}","connectedAt":1}}"#,
            "x".repeat(RECORD_BYTES_MAX)
        );
        assert_eq!(connected_at(long.as_bytes()), None);
    }

    proptest! {
        #[test]
        fn any_user_id_makes_one_command(id in "\\PC{1,60}") {
            if let Ok(user) = UserId::new(&id) {
                let set = set("user:{userId}:online", "s", user.as_str());
                let line = set.split("\r\n").next().unwrap();
                let expected = format!("user:{id}:online");
                prop_assert_eq!(line.split(' ').nth(1), Some(expected.as_str()));
                prop_assert_eq!(set.matches("\r\n").count(), 2);
            }
        }
    }
}
