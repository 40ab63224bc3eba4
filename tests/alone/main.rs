//! Tests that measure time, memory, descriptors or allocations: one after another, however many
//! threads they are given, as each begins with its turn.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic"
)]

mod descriptors;
mod flush_pace;
mod heartbeat;
mod hostile;
mod hostile_http;
mod limits;
mod panics;

/// A test that takes no turn would run beside those that measure.
#[test]
fn each_test_takes_its_turn_first() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/alone");
    let mut tests = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.file_name().is_some_and(|name| name == "main.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines = text.lines().map(str::trim);
        while let Some(line) = lines.next() {
            if line != "#[test]" && !line.starts_with("#[tokio::test") {
                continue;
            }
            let name = lines.find(|line| line.contains("fn ")).unwrap();
            assert_eq!(
                lines.next(),
                Some("let _alone = alone();"),
                "{name} {}",
                path.display()
            );
            tests += 1;
        }
    }
    assert!(tests > 0);
}
