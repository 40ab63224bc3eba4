//! What a command that looks at something has found: a line for each thing.

use crate::log::LogFormat;

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it is.
    pub state: State,
    /// What it is about, a word or two.
    pub about: &'static str,
    /// What was found.
    pub text: String,
    /// How many sessions that allows, where it is about that.
    pub sessions: Option<u64>,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Fine,
    /// It works, and the operator should know something.
    Note,
    /// It does not work.
    Wrong,
}

impl State {
    /// A word for it.
    pub fn word(self) -> &'static str {
        match self {
            State::Fine => "ok",
            State::Note => "note",
            State::Wrong => "wrong",
        }
    }
}

impl Finding {
    /// As a line in `format`.
    pub fn line(&self, format: LogFormat) -> String {
        let (state, about, text) = (self.state.word(), self.about, &self.text);
        match format {
            LogFormat::Text => format!("{state:<5}  {about:<10}  {text}"),
            LogFormat::Json => {
                let mut line = serde_json::json!({"state": state, "about": about, "text": text});
                if let Some(sessions) = self.sessions {
                    line["sessions"] = sessions.into();
                }
                line.to_string()
            }
        }
    }
}

pub(super) fn fine(about: &'static str, text: String) -> Finding {
    finding(State::Fine, about, text)
}

pub(super) fn wrong(about: &'static str, text: String) -> Finding {
    finding(State::Wrong, about, text)
}

pub(super) fn note(about: &'static str, text: String) -> Finding {
    finding(State::Note, about, text)
}

pub(super) fn finding(state: State, about: &'static str, text: String) -> Finding {
    Finding {
        state,
        about,
        text,
        sessions: None,
    }
}
