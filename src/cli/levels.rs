//! How much is logged.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

const RULE: &str = "must be off, error, warn, info, debug or trace, or TARGET=LEVEL with one of them, \
                    such as presenced::gateway=debug, or several of these, separated by commas";

/// Reads `--log-level`. [`Targets`] itself would take a word that is no level for a target, and log
/// nothing else.
pub(super) fn levels(text: &str) -> Result<Targets, String> {
    let mut targets = Targets::new();
    for part in text.split(',').map(str::trim) {
        targets = match part.split_once('=') {
            None => targets.with_default(level(part)?),
            Some((target, named)) if is_path(target) => targets.with_target(target, level(named)?),
            Some((target, _)) => return Err(format!("{RULE}; {target:?} is no target")),
        };
    }
    Ok(targets)
}

/// Of a module.
fn is_path(target: &str) -> bool {
    let is_of_path = |char: char| char.is_alphanumeric() || ['_', ':'].contains(&char);
    !target.is_empty() && target.chars().all(is_of_path)
}

fn level(word: &str) -> Result<LevelFilter, String> {
    let word = word.to_ascii_lowercase();
    if let Some((_, level)) = LEVELS.iter().find(|(name, _)| *name == word) {
        return Ok(*level);
    }
    let resembles = |name: &str| name.starts_with(&word) || word.starts_with(name);
    let meant = LEVELS.iter().find(|(name, _)| resembles(name));
    Err(match meant.filter(|_| !word.is_empty()) {
        Some((name, _)) => format!("{RULE}; did you mean {name}?"),
        None => RULE.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn levels_and_targets_are_what_they_say() {
        let warn = levels("warn").unwrap();
        assert!(warn.would_enable("presenced::gateway", &Level::WARN));
        assert!(!warn.would_enable("presenced::gateway", &Level::INFO));
        assert_eq!(levels("WARN"), Ok(warn));
        let both = levels("warn, presenced::store=Trace").unwrap();
        assert!(both.would_enable("presenced::store::serve", &Level::TRACE));
        assert!(!both.would_enable("presenced::gateway", &Level::INFO));
        let only = levels("presenced::gateway=debug").unwrap();
        assert!(only.would_enable("presenced::gateway", &Level::DEBUG));
        assert!(!only.would_enable("presenced", &Level::ERROR));
        assert!(
            !levels("off")
                .unwrap()
                .would_enable("presenced", &Level::ERROR)
        );
        // A target may be one that there is not.
        assert!(levels("presencd=debug").is_ok());
    }

    #[test]
    fn what_is_no_level_is_refused_and_not_taken_for_a_target() {
        for text in [
            "",
            "5",
            "0",
            "verbose",
            "presenced",
            "presenced::gateway",
            "info,",
            ",",
            "a=b=info",
            "presenced=",
            "presenced=5",
            "presenced=loud",
            "=info",
            "[span]=info",
            "a[{b}]=info",
            "a b=info",
        ] {
            let refused = levels(text).expect_err(text);
            assert!(refused.contains("presenced::gateway=debug"), "{refused}");
            assert!(!refused.contains("did you mean"), "{text:?}: {refused}");
        }
        for (text, meant) in [
            ("warning", "warn"),
            ("WARNING", "warn"),
            ("err", "error"),
            ("information", "info"),
            ("presenced=debugging", "debug"),
            ("info debug", "info"),
            ("info,t", "trace"),
        ] {
            let refused = levels(text).expect_err(text);
            let asked = format!("did you mean {meant}");
            assert!(refused.contains(&asked), "{text:?}: {refused}");
        }
    }
}
