//! What an operator should know of settings that work.

/// Told once, when the settings are put to use: they may be read more often than that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It is probably not what was meant, or not safe.
    Warning(String),
    /// It may be as it is.
    Hint(String),
}

impl Notice {
    /// Its text.
    pub fn text(&self) -> &str {
        match self {
            Notice::Warning(text) | Notice::Hint(text) => text,
        }
    }

    /// The same in other words.
    pub(super) fn map(self, reword: impl FnOnce(&str) -> String) -> Notice {
        match self {
            Notice::Warning(text) => Notice::Warning(reword(&text)),
            Notice::Hint(text) => Notice::Hint(reword(&text)),
        }
    }

    /// Tells it in the log.
    pub fn log(&self) {
        match self {
            Notice::Warning(text) => tracing::warn!("{text}"),
            Notice::Hint(text) => tracing::info!("{text}"),
        }
    }
}
