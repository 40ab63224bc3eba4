//! A user's id, checked.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;

use compact_str::CompactString;
use thiserror::Error;

use crate::all_bytes;
use crate::limits::USER_ID_BYTES_MAX;

/// A user id that can be part of a memcached key: UTF-8, 1 to 200 bytes, no space, no control
/// character. So a key can't be escaped from, whoever issued the token.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(CompactString);

/// Why a text is not a user id.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq, Hash)]
pub enum UserIdError {
    /// No bytes at all.
    #[error("a user id can't be empty")]
    Empty,
    /// Over the limit.
    #[error("a user id has at most {USER_ID_BYTES_MAX} bytes")]
    TooLong,
    /// A byte that memcached would read as the end of the key, or that no key may have.
    #[error("a user id has no space and no control character")]
    Character,
}

impl UserId {
    /// Checks `id`.
    ///
    /// # Errors
    ///
    /// The first rule that `id` breaks.
    pub fn new(id: &str) -> Result<UserId, UserIdError> {
        if id.is_empty() {
            return Err(UserIdError::Empty);
        }
        if id.len() > USER_ID_BYTES_MAX {
            return Err(UserIdError::TooLong);
        }
        // Unicode's spaces and controls too: legal for memcached, but a trap for its readers. Most ids
        // are ASCII, of which it is known faster.
        let is_graphic = all_bytes(id.as_bytes(), |byte| byte.is_ascii_graphic());
        if !is_graphic && id.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(UserIdError::Character);
        }
        Ok(UserId(id.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_ids_that_memcached_would_misread_are_refused() {
        assert_eq!(UserId::new(""), Err(UserIdError::Empty));
        assert_eq!(UserId::new(&"x".repeat(201)), Err(UserIdError::TooLong));
        for id in [
            "a b",
            "u1\r\nflush_all",
            "a\0b",
            "a\u{7f}",
            "\u{a0}",
            "\u{85}",
            "tab\t",
        ] {
            assert_eq!(UserId::new(id), Err(UserIdError::Character), "{id:?}");
        }
        for id in ["1", "Jürgen", "a:b@c.d/e", &"x".repeat(200)] {
            assert_eq!(UserId::new(id).unwrap().as_str(), id);
        }
    }
}
