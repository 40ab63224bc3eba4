//! What a peer says that does not fit, in its own words: they tell an operator more than ours.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;

use crate::limits::PEER_WORDS_BYTES_MAX;

/// An answer that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    why: &'static str,
    /// Fit for a log; empty if there are none.
    words: String,
}

impl Misfit {
    /// What was `said`, and why it does not fit, for people.
    pub fn new(why: &'static str, said: &[u8]) -> Misfit {
        Misfit {
            why,
            words: quoted(said),
        }
    }

    /// Without words, as there are none or they must not be shown.
    pub const fn unquoted(why: &'static str) -> Misfit {
        Misfit {
            why,
            words: String::new(),
        }
    }

    /// Why it does not fit.
    pub fn why(&self) -> &'static str {
        self.why
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why)?;
        match self.words.as_str() {
            "" => Ok(()),
            words => write!(f, ": it says \"{words}\""),
        }
    }
}

/// What a peer said, for the log: bytes that could do something to a terminal are escaped, and only
/// the start of it is kept.
pub(super) fn quoted(words: &[u8]) -> String {
    let words = words.trim_ascii_end();
    let start = &words[..words.len().min(PEER_WORDS_BYTES_MAX)];
    start.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cleaned_and_cut() {
        let said = |words: &[u8]| Misfit::new("why", words).to_string();
        assert_eq!(said(b"ERROR\r\n"), "why: it says \"ERROR\"");
        assert_eq!(
            said(b"\x1b[2J\n\xff\"."),
            "why: it says \"\\x1b[2J\\n\\xff\\\".\""
        );
        assert_eq!(said(b"\r\n"), "why");
        assert_eq!(Misfit::unquoted("why").to_string(), "why");
        let long = said(&[b'x'; 1000]);
        assert_eq!(long.matches('x').count(), PEER_WORDS_BYTES_MAX);
    }
}
