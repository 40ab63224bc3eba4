//! Pulls: which users are asked for, the request and the response.

use std::fmt;
use std::io::Write;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::flags::Flags;
use crate::frame;
use crate::population::Population;

/// Distance between two users of a pull among the connected ones. It is a prime greater than their
/// number, so no user is asked for twice and the users are not neighbours.
const STRIDE: usize = 1_000_003;

/// Renders pulls.
#[derive(Debug)]
pub(crate) struct PullEncoder {
    /// JSON string with its opening quote but without the closing one.
    prefix: String,
    users: usize,
    /// Users of other servers, who are asked for instead of the connected ones.
    others: Option<Population>,
    payload: Vec<u8>,
}

impl PullEncoder {
    pub(crate) fn new(flags: &Flags) -> PullEncoder {
        let prefix = flags.pull_user_prefix.as_ref();
        let population = flags.pull_population.get();
        let others = prefix.map(|_| Population::new(population, flags.pull_choice));
        let prefix = prefix.unwrap_or(&flags.user_prefix);
        let mut prefix = serde_json::Value::from(&prefix[..]).to_string();
        prefix.pop();
        PullEncoder {
            prefix,
            users: flags.pull_users.get(),
            others,
            payload: Vec::new(),
        }
    }

    /// How many users each pull asks for if so many are connected.
    pub(crate) fn users(&self, connected: usize) -> usize {
        match self.others {
            Some(_) => self.users,
            None => self.users.min(connected),
        }
    }

    /// Appends the frame of pull `id` to `out`. Unless there are others to ask for, its users are among
    /// `connected`.
    pub(crate) fn put(&mut self, out: &mut Vec<u8>, id: u64, connected: &[u32]) {
        let users = self.users(connected.len());
        let payload = &mut self.payload;
        payload.clear();
        // Writing to a vector cannot fail.
        let _ = write!(payload, r#"{{"pull":{id},"users":["#);
        let mut digits = itoa::Buffer::new();
        let mut put_user = |user: u32| {
            payload.extend_from_slice(self.prefix.as_bytes());
            payload.extend_from_slice(digits.format(user).as_bytes());
            payload.extend_from_slice(b"\",");
        };
        match &mut self.others {
            Some(others) => others.choose(users, put_user),
            None => {
                let first = fastrand::usize(..connected.len().max(1));
                (0..users)
                    .for_each(|n| put_user(connected[(first + n * STRIDE) % connected.len()]));
            }
        }
        if users > 0 {
            payload.pop();
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
    /// Ids that no user can have.
    #[serde(default)]
    invalid: Entries,
    error: Option<PullError>,
}

/// Why a pull was not answered.
#[derive(Debug, Deserialize, PartialEq)]
struct PullError {
    code: String,
}

impl PullResponse {
    /// `None` if the text is no JSON object.
    pub(crate) fn parse(text: &[u8]) -> Option<PullResponse> {
        serde_json::from_slice(text).ok()
    }

    /// The id of the pull, or the code of the error if it failed.
    pub(crate) fn outcome(&self) -> Result<u64, &str> {
        match (&self.error, self.invalid, self.pull) {
            (Some(error), ..) => Err(&error.code),
            (None, Entries(1..), _) => Err("invalid users"),
            (None, _, None) => Err("not a pull"),
            (None, _, Some(id)) => Ok(id),
        }
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

    use clap::Parser;
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn encoder(flags: &[String]) -> PullEncoder {
        let program = "presenced-load".to_owned();
        PullEncoder::new(&Flags::parse_from([&[program], flags].concat()))
    }

    fn asked(encoder: &mut PullEncoder, open: &[u32]) -> Value {
        let mut out = Vec::new();
        encoder.put(&mut out, 7, open);
        // The JSON follows the header, whose length field may contain a byte like a brace.
        let header = if out.len() > 131 { 8 } else { 6 };
        serde_json::from_slice(&out[header..]).unwrap()
    }

    #[test]
    fn a_pull_is_rendered() {
        let own = ["--user-prefix=a\"b-".into(), "--pull-users=2".into()];
        let mut encoder = encoder(&own);
        let question = asked(&mut encoder, &[5, 6]);
        assert_eq!(question["pull"], 7);
        let mut users: Vec<_> = question["users"].as_array().unwrap().iter().collect();
        users.sort_by_key(ToString::to_string);
        assert_eq!(users, [r#"a"b-5"#, r#"a"b-6"#]);
        assert_eq!(asked(&mut encoder, &[])["users"], serde_json::json!([]));
    }

    proptest! {
        #[test]
        fn no_user_is_asked_for_twice(count in 1..2000usize, users in 1..500usize) {
            let open: Vec<_> = (0..count as u32).collect();
            let mut encoder = encoder(&[format!("--pull-users={users}")]);
            let question = asked(&mut encoder, &open);
            let asked = question["users"].as_array().unwrap();
            prop_assert_eq!(asked.len(), users.min(count));
            prop_assert_eq!(asked.len(), encoder.users(count));
            prop_assert_eq!(asked.iter().collect::<HashSet<_>>().len(), asked.len());
        }

        #[test]
        fn users_of_another_server_are_asked_for(
            population in 1..300usize, share in 0.0..1.0, choice in prop::sample::select(vec!["uniform", "zipf"]),
        ) {
            let users = ((population as f64 * share) as usize).max(1);
            let mut encoder = encoder(&[
                "--pull-user-prefix=other-".into(),
                format!("--pull-population={population}"),
                format!("--pull-users={users}"),
                format!("--pull-choice={choice}"),
            ]);
            let question = asked(&mut encoder, &[]);
            let asked: HashSet<_> = question["users"].as_array().unwrap().iter().collect();
            prop_assert_eq!(asked.len(), users);
            for user in asked {
                let number = user.as_str().unwrap().strip_prefix("other-").unwrap();
                prop_assert!(number.parse::<usize>().unwrap() < population);
            }
        }
    }

    #[test]
    fn responses_are_parsed() {
        let text = br#"{"pull":7,"online":{"123":{"connectedAt":1},"4":{"connectedAt":2}},"unknown":["9"]}"#;
        let response = PullResponse::parse(text).unwrap();
        assert_eq!(response.outcome(), Ok(7));
        assert_eq!(
            (response.online, response.unknown),
            (Entries(2), Entries(1))
        );
        for (text, outcome) in [
            (
                &br#"{"pull":7,"error":{"code":"too_many_users","message":"x"}}"#[..],
                Err("too_many_users"),
            ),
            (
                br#"{"pull":7,"online":{},"invalid":["a b"]}"#,
                Err("invalid users"),
            ),
            (br#"{"pull":0,"online":{}}"#, Ok(0)),
            (br#"{"news":1}"#, Err("not a pull")),
        ] {
            assert_eq!(PullResponse::parse(text).unwrap().outcome(), outcome);
        }
        assert!(PullResponse::parse(b"hello").is_none());
    }
}
