//! Pulls: who is asked for, the question and the answer.

use std::fmt;
use std::io::Write;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::frame;

/// From one user to the next of a pull, among those that are open. A prime greater than their
/// number, so that no user is asked for twice and they are not neighbours.
const STRIDE: usize = 1_000_003;

/// Renders questions.
#[derive(Debug)]
pub(crate) struct Questions {
    /// As JSON, with the opening quote.
    prefix: String,
    users: usize,
    payload: Vec<u8>,
}

impl Questions {
    pub(crate) fn new(user_prefix: &str, users: usize) -> Questions {
        let mut prefix = serde_json::Value::from(user_prefix).to_string();
        prefix.pop();
        Questions {
            prefix,
            users,
            payload: Vec::new(),
        }
    }

    /// Appends the frame of question `number` to `out`: for users of the numbers in `open`, the
    /// first of which is in `place`.
    pub(crate) fn put(&mut self, out: &mut Vec<u8>, number: u64, open: &[u32], place: usize) {
        let payload = &mut self.payload;
        payload.clear();
        // A vector takes everything.
        let _ = write!(payload, r#"{{"pull":{number},"users":["#);
        for n in 0..self.users.min(open.len()) {
            let user = open[(place + n * STRIDE) % open.len()];
            let comma = if n == 0 { "" } else { "," };
            let _ = write!(payload, r#"{comma}{}{user}""#, self.prefix);
        }
        payload.extend_from_slice(b"]}");
        frame::put(out, frame::TEXT, payload);
    }
}

/// What the server says to a question.
#[derive(Debug, Deserialize, PartialEq)]
pub(crate) struct Answer {
    /// The question's number.
    pub(crate) pull: Option<u64>,
    #[serde(default)]
    pub(crate) online: Entries,
    #[serde(default)]
    pub(crate) unknown: Entries,
    error: Option<IgnoredAny>,
}

impl Answer {
    /// `None` if the text is not an answer.
    pub(crate) fn read(text: &[u8]) -> Option<Answer> {
        serde_json::from_slice(text).ok()
    }

    /// The number of the question, if it was answered.
    pub(crate) fn answered(&self) -> Option<u64> {
        self.pull.filter(|_| self.error.is_none())
    }
}

/// How many entries an object or an array has; they are not kept.
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

    fn asked(questions: &mut Questions, open: &[u32], place: usize) -> Value {
        let mut out = Vec::new();
        questions.put(&mut out, 7, open, place);
        // The mask is the last of the header, and a length may look like a brace.
        let header = if out.len() > 131 { 8 } else { 6 };
        serde_json::from_slice(&out[header..]).unwrap()
    }

    #[test]
    fn a_question() {
        let mut questions = Questions::new("a\"b-", 2);
        let question = asked(&mut questions, &[5, 6, 7], 0);
        assert_eq!(question["pull"], 7);
        assert_eq!(question["users"][0], "a\"b-5");
        assert_eq!(question["users"].as_array().unwrap().len(), 2);
    }

    proptest! {
        #[test]
        fn no_user_is_asked_for_twice(count in 1..2000usize, users in 1..500usize, place: usize) {
            let open: Vec<_> = (0..count as u32).collect();
            let question = asked(&mut Questions::new("", users), &open, place % count);
            let asked = question["users"].as_array().unwrap();
            prop_assert_eq!(asked.len(), users.min(count));
            prop_assert_eq!(asked.iter().collect::<HashSet<_>>().len(), asked.len());
        }
    }

    #[test]
    fn answers() {
        let text = br#"{"pull":7,"online":{"123":{"connectedAt":1},"4":{"connectedAt":2}},"unknown":["9"]}"#;
        let answer = Answer::read(text).unwrap();
        assert_eq!(answer.answered(), Some(7));
        assert_eq!((answer.online, answer.unknown), (Entries(2), Entries(1)));
        let error = br#"{"pull":7,"error":{"code":"too_many_users","message":"x"}}"#;
        assert_eq!(Answer::read(error).unwrap().answered(), None);
        let shortest = Answer::read(br#"{"pull":0,"online":{}}"#).unwrap();
        assert_eq!(shortest.answered(), Some(0));
        assert!(Answer::read(b"hello").is_none());
        assert_eq!(Answer::read(br#"{"news":1}"#).unwrap().answered(), None);
    }
}
