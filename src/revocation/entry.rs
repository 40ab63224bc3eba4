//! An entry of the log: `{"sub":"…","jti":"…","before":seconds,"ends":seconds}`, without `sub` for
//! everybody's tokens and without `jti` for all of a user's.
//!
//! Whoever can write to memcached can write entries. So they are read strictly, and their times are
//! bounded.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::borrow::Cow;

use presenced_presence::UserId;
use serde::{Deserialize, Serialize};

use crate::limits::{CLOCK_DIFFERENCE, REVOCATION_TIME_MAX};
use crate::tokens::revocations::Jti;
use crate::tokens::{Revocation, Tokens};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Json<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    sub: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    jti: Option<Cow<'a, str>>,
    before: u64,
    ends: u64,
}

/// As the log has it.
#[must_use]
pub fn text(revocation: &Revocation) -> Vec<u8> {
    let (sub, jti) = match &revocation.tokens {
        Tokens::All => (None, None),
        Tokens::OfUser(user) => (Some(user), None),
        Tokens::One(user, jti) => (Some(user), Some(jti)),
    };
    let json = Json {
        sub: sub.map(|user| user.as_str().into()),
        jti: jti.map(|jti| jti.as_str().into()),
        before: revocation.before_s,
        ends: revocation.ends_s,
    };
    // Strings and numbers can always be written.
    serde_json::to_vec(&json).unwrap_or_default()
}

/// What an entry says at `now_s`; `None` if it is none. No entry refuses tokens that are still to be
/// issued, but for what clocks differ, or lasts longer than any does.
#[must_use]
pub fn read(text: &[u8], now_s: u64) -> Option<Revocation> {
    if text.first() != Some(&b'{') {
        return None;
    }
    let json: Json<'_> = serde_json::from_slice(text).ok()?;
    let user = json.sub.as_deref().map(UserId::new).transpose().ok()?;
    let jti = match json.jti {
        Some(jti) => Some(Jti::new(&jti)?),
        None => None,
    };
    let tokens = match (user, jti) {
        (None, None) => Tokens::All,
        (Some(user), None) => Tokens::OfUser(user),
        (Some(user), Some(jti)) => Tokens::One(user, jti),
        (None, Some(_)) => return None,
    };
    Some(Revocation {
        tokens,
        before_s: json.before.min(now_s + CLOCK_DIFFERENCE.as_secs()),
        ends_s: json.ends.min(now_s + REVOCATION_TIME_MAX.as_secs()),
    })
}

#[cfg(test)]
mod tests {
    use presenced_memcached::limits::VALUE_BYTES_MAX;
    use proptest::prelude::*;

    use super::*;
    use crate::limits::JTI_BYTES_MAX;

    const NOW_S: u64 = 1_800_000_000;

    fn of_alice(jti: Option<&str>) -> Revocation {
        let alice = UserId::new("alice").unwrap();
        Revocation {
            tokens: match jti {
                None => Tokens::OfUser(alice),
                Some(jti) => Tokens::One(alice, Jti::new(jti).unwrap()),
            },
            before_s: NOW_S,
            ends_s: NOW_S + 60,
        }
    }

    #[test]
    fn the_form_to_the_letter() {
        let text = |revocation| String::from_utf8(super::text(&revocation)).unwrap();
        assert_eq!(
            text(of_alice(None)),
            r#"{"sub":"alice","before":1800000000,"ends":1800000060}"#
        );
        assert_eq!(
            text(of_alice(Some("a\nb"))),
            r#"{"sub":"alice","jti":"a\nb","before":1800000000,"ends":1800000060}"#
        );
        let all = Revocation {
            tokens: Tokens::All,
            ..of_alice(None)
        };
        assert_eq!(text(all), r#"{"before":1800000000,"ends":1800000060}"#);
    }

    #[test]
    fn what_is_no_entry_is_none() {
        for text in [
            "",
            "{}",
            "null",
            r#"["alice",null,1,2]"#,
            r#"{"sub":"alice","ends":2}"#,
            r#"{"sub":"alice","before":1}"#,
            r#"{"sub":"","before":1,"ends":2}"#,
            r#"{"sub":"a b","before":1,"ends":2}"#,
            r#"{"sub":1,"before":1,"ends":2}"#,
            r#"{"jti":"x","before":1,"ends":2}"#,
            r#"{"sub":"a","jti":"","before":1,"ends":2}"#,
            r#"{"before":-1,"ends":2}"#,
            r#"{"before":1.5,"ends":2}"#,
            r#"{"before":1,"ends":2,"more":3}"#,
            r#"{"before":1,"before":1,"ends":2}"#,
            r#"{"before":1,"ends":2}x"#,
        ] {
            assert_eq!(read(text.as_bytes(), NOW_S), None, "{text}");
        }
        assert_eq!(
            read(b"{\"sub\":\"\xff\",\"before\":1,\"ends\":2}", NOW_S),
            None
        );
    }

    #[test]
    fn no_entry_reaches_far_into_the_future() {
        let far = format!(r#"{{"before":{0},"ends":{0}}}"#, u64::MAX);
        let read = read(far.as_bytes(), NOW_S).unwrap();
        assert_eq!(read.before_s, NOW_S + CLOCK_DIFFERENCE.as_secs());
        assert_eq!(read.ends_s, NOW_S + REVOCATION_TIME_MAX.as_secs());
    }

    #[test]
    fn the_longest_is_a_value_that_is_read_whole() {
        let longest = Revocation {
            tokens: Tokens::One(
                UserId::new(&"\"".repeat(200)).unwrap(),
                Jti::new(&"\0".repeat(JTI_BYTES_MAX)).unwrap(),
            ),
            before_s: u64::MAX,
            ends_s: u64::MAX,
        };
        assert!(text(&longest).len() <= VALUE_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            user in "[!-~]{1,200}",
            jti in prop::option::of(".{1,60}"),
            before_s in 0..=NOW_S,
            lasts_s in 0..=REVOCATION_TIME_MAX.as_secs(),
        ) {
            let user = UserId::new(&user).unwrap();
            let jti = jti.map(|jti| Jti::new(&jti).unwrap());
            let revocation = Revocation {
                tokens: match jti {
                    None => Tokens::OfUser(user),
                    Some(jti) => Tokens::One(user, jti),
                },
                before_s,
                ends_s: NOW_S + lasts_s,
            };
            prop_assert_eq!(read(&text(&revocation), NOW_S), Some(revocation));
        }

        #[test]
        fn anything_is_read_or_refused(text in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&text, NOW_S);
        }
    }
}
