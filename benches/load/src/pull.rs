//! Pulls: which users are asked for, the request and the response.

use std::fmt;
use std::io::Write;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::frame;

/// Distance between two users of a pull among the connected ones. It is a prime greater than their
/// number, so no user is asked for twice and the users are not neighbours.
const STRIDE: usize = 1_000_003;

/// Renders pulls.
#[derive(Debug)]
pub(crate) struct PullEncoder {
    /// JSON string with its opening quote but without the closing one.
    prefix: String,
    users: usize,
    payload: Vec<u8>,
}

impl PullEncoder {
    pub(crate) fn new(user_prefix: &str, users: usize) -> PullEncoder {
        let mut prefix = serde_json::Value::from(user_prefix).to_string();
        prefix.pop();
        PullEncoder {
            prefix,
            users,
            payload: Vec::new(),
        }
    }

    /// Appends the frame of pull `id` to `out`. Its users are taken from `connected`, beginning at
    /// `index`.
    pub(crate) fn put(&mut self, out: &mut Vec<u8>, id: u64, connected: &[u32], index: usize) {
        let payload = &mut self.payload;
        payload.clear();
        // Writing to a vector cannot fail.
        let _ = write!(payload, r#"{{"pull":{id},"users":["#);
        for n in 0..self.users.min(connected.len()) {
            let user = connected[(index + n * STRIDE) % connected.len()];
            let comma = if n == 0 { "" } else { "," };
            let _ = write!(payload, r#"{comma}{}{user}""#, self.prefix);
        }
        payload.extend_from_slice(b"]}");
        frame::put(out, frame::TEXT, payload);
    }
}

/// The server's response to a pull.
#[derive(Debug, Deserialize, PartialEq)]
pub(crate) struct PullResponse {
    /// The id of the pull.
    pub(crate) pull: Option<u64>,
    #[serde(default)]
    pub(crate) online: Entries,
    #[serde(default)]
    pub(crate) unknown: Entries,
    error: Option<IgnoredAny>,
}

impl PullResponse {
    /// `None` if the text is no JSON object.
    pub(crate) fn parse(text: &[u8]) -> Option<PullResponse> {
        serde_json::from_slice(text).ok()
    }

    /// The id of the pull, if it succeeded.
    pub(crate) fn succeeded(&self) -> Option<u64> {
        self.pull.filter(|_| self.error.is_none())
    }
}

/// The number of entries of an object or an array, which are not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entries(pub(crate) u64);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries, D::Error> {
        deserializer.deserialize_any(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut count = 0;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(Entries(count))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Entries, A::Error> {
        let mut count = 0;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(Entries(count))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn asked(encoder: &mut PullEncoder, open: &[u32], index: usize) -> Value {
        let mut out = Vec::new();
        encoder.put(&mut out, 7, open, index);
        // The JSON follows the header, whose length field may contain a byte like a brace.
        let header = if out.len() > 131 { 8 } else { 6 };
        serde_json::from_slice(&out[header..]).unwrap()
    }

    #[test]
    fn a_pull_is_rendered() {
        let mut encoder = PullEncoder::new("a\"b-", 2);
        let question = asked(&mut encoder, &[5, 6, 7], 0);
        assert_eq!(question["pull"], 7);
        assert_eq!(question["users"][0], "a\"b-5");
        assert_eq!(question["users"].as_array().unwrap().len(), 2);
    }

    proptest! {
        #[test]
        fn no_user_is_asked_for_twice(count in 1..2000usize, users in 1..500usize, index: usize) {
            let open: Vec<_> = (0..count as u32).collect();
            let question = asked(&mut PullEncoder::new("", users), &open, index % count);
            let asked = question["users"].as_array().unwrap();
            prop_assert_eq!(asked.len(), users.min(count));
            prop_assert_eq!(asked.iter().collect::<HashSet<_>>().len(), asked.len());
        }
    }

    #[test]
    fn responses_are_parsed() {
        let text = br#"{"pull":7,"online":{"123":{"connectedAt":1},"4":{"connectedAt":2}},"unknown":["9"]}"#;
        let response = PullResponse::parse(text).unwrap();
        assert_eq!(response.succeeded(), Some(7));
        assert_eq!(
            (response.online, response.unknown),
            (Entries(2), Entries(1))
        );
        let error = br#"{"pull":7,"error":{"code":"too_many_users","message":"x"}}"#;
        assert_eq!(PullResponse::parse(error).unwrap().succeeded(), None);
        let shortest = PullResponse::parse(br#"{"pull":0,"online":{}}"#).unwrap();
        assert_eq!(shortest.succeeded(), Some(0));
        assert!(PullResponse::parse(b"hello").is_none());
        assert_eq!(
            PullResponse::parse(br#"{"news":1}"#).unwrap().succeeded(),
            None
        );
    }
}
