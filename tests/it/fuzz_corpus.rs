//! Replays every file of the fuzz corpora on stable: what was found once stays found.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, panic};

#[path = "../../fuzz/src/checks/mod.rs"]
mod checks;
#[path = "../../protocol/fuzz/src/checks/mod.rs"]
mod protocol_checks;

/// The folders of fuzz targets, each with the names of its targets and their checks.
const FOLDERS: [(&str, &[(&str, checks::Check)]); 2] = [
    ("fuzz", checks::TARGETS),
    ("protocol/fuzz", protocol_checks::TARGETS),
];

/// How libFuzzer begins the names of what it finds. A file of a corpus says what it is.
const ARTIFACTS: [&str; 6] = ["crash", "leak", "minimized", "oom", "slow", "timeout"];

#[test]
fn every_file_passes() {
    let mut failed = Vec::new();
    for (path, check) in targets_with_corpora() {
        let seeds = names_in(&path);
        assert!(!seeds.is_empty(), "{path:?} is empty");
        for seed in seeds {
            let seed = path.join(seed);
            let data = fs::read(&seed).unwrap();
            if panic::catch_unwind(|| check(&data)).is_err() {
                failed.push(seed);
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn every_target_has_a_check_a_program_and_a_corpus() {
    for (folder, targets) in FOLDERS {
        let names: BTreeSet<String> = targets.iter().map(|(name, _)| (*name).into()).collect();
        let programs = names_in(&root().join(folder).join("fuzz_targets"));
        let programs = programs.iter().map(|name| name.replace(".rs", ""));
        assert_eq!(names, programs.collect(), "programs of {folder}");
        let corpora = names_in(&root().join(folder).join("corpus"));
        assert_eq!(names, corpora, "corpora of {folder}");
    }
}

/// `fuzz/README.md` lists the kinds.
#[test]
fn the_name_of_every_seed_says_where_it_is_from() {
    for (path, _) in targets_with_corpora() {
        for seed in names_in(&path) {
            assert!(is_of_a_kind(&seed), "{seed} of {path:?}");
        }
    }
}

fn is_of_a_kind(seed: &str) -> bool {
    let hexadecimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    match seed.split_once('-').unwrap_or((seed, "")) {
        ("reach", hash) => hash.len() == 10 && hexadecimal(hash),
        ("choices", count) => !count.is_empty() && number(count.trim_start_matches("same-")),
        ("random", count) => !count.is_empty() && number(count),
        ("regress", what) => !what.is_empty(),
        (kind, _) => {
            let legal =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            // libFuzzer names an input by its hash, of forty digits.
            seed.bytes().all(legal) && kind.len() < 40 && !ARTIFACTS.contains(&kind)
        }
    }
}

fn targets_with_corpora() -> impl Iterator<Item = (PathBuf, checks::Check)> {
    FOLDERS.iter().flat_map(|(folder, targets)| {
        let corpus = root().join(folder).join("corpus");
        targets
            .iter()
            .map(move |(name, check)| (corpus.join(name), *check))
    })
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
