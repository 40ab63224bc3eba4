//! Replays every file of the fuzz corpora on stable: what was found once stays found.

use std::collections::BTreeSet;
use std::path::Path;
use std::{fs, panic};

#[path = "../../fuzz/src/checks/mod.rs"]
mod checks;

#[test]
fn every_file_passes() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut failed = Vec::new();
    for (target, check) in checks::TARGETS {
        let mut files = 0;
        for entry in fs::read_dir(corpus.join(target)).unwrap() {
            let path = entry.unwrap().path();
            let data = fs::read(&path).unwrap();
            if panic::catch_unwind(|| check(&data)).is_err() {
                failed.push(path);
            }
            files += 1;
        }
        assert!(files > 0, "{target} has an empty corpus");
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn every_corpus_has_a_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let folders = fs::read_dir(corpus).unwrap();
    let folders: BTreeSet<String> = folders
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let targets = checks::TARGETS.iter().map(|(name, _)| String::from(*name));
    assert_eq!(folders, targets.collect());
}
