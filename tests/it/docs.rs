//! What the documents say and a program can check: close codes, refusals, and that links lead somewhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Parser;
use presenced::cli::Flags;
use presenced::gateway::refusal::{MessageFault, Refusal};
use presenced_session::close_reason::CloseReason;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands under a heading of the client protocol, up to the next heading.
fn section(heading: &str) -> String {
    let text = read(&root().join("docs/protocol.md"));
    let (_, rest) = text.split_once(&format!("\n{heading}\n")).unwrap();
    rest.split_once("\n#").unwrap().0.to_owned()
}

/// The number and the name in each row of a section's table; the two cells behind them say something.
fn rows(section: &str) -> BTreeSet<(u16, String)> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let number = cells.next()?.parse().ok()?;
        let name = cells.next()?.trim_matches('`').to_owned();
        let filled = cells.take(2).filter(|cell| !cell.is_empty()).count();
        assert_eq!(filled, 2, "{line}");
        Some((number, name))
    };
    section.lines().filter_map(row).collect()
}

/// What requests are refused for; what is refused as a first message is told by a close alone.
fn of_requests() -> impl Iterator<Item = &'static Refusal> {
    let of_message = |refusal: &&Refusal| matches!(refusal, Refusal::FirstMessage(_));
    Refusal::ALL
        .iter()
        .filter(move |refusal| !of_message(refusal))
}

#[test]
fn the_table_of_refusals_is_that_of_the_server() {
    let sent = of_requests().map(|refusal| {
        let facts = refusal.facts();
        (facts.status, facts.code.to_owned())
    });
    assert_eq!(
        rows(&section("### Refused requests")),
        sent.collect::<BTreeSet<_>>()
    );
}

#[test]
fn the_table_of_refused_handshakes_is_that_of_the_server() {
    let sent = of_requests().filter_map(|refusal| {
        let facts = refusal.facts();
        Some((facts.close_code?, facts.code.to_owned()))
    });
    assert_eq!(
        rows(&section("### Refused handshakes")),
        sent.collect::<BTreeSet<_>>()
    );
}

#[test]
fn the_table_of_refused_first_messages_is_that_of_the_server() {
    let sent = Refusal::ALL.iter().filter_map(|refusal| match refusal {
        // No fault of the server's own is known.
        Refusal::FirstMessage(MessageFault::Frames(CloseReason::Internal)) => None,
        Refusal::FirstMessage(_) => Some((refusal.facts().close_code?, refusal.close_reason())),
        _ => None,
    });
    assert_eq!(
        rows(&section("### The token as the first message")),
        sent.collect::<BTreeSet<_>>()
    );
}

#[test]
fn the_table_of_close_codes_is_that_of_the_server() {
    let section = section("## Close codes");
    let written = rows(&section);
    let sent: BTreeSet<(u16, String)> = CloseReason::ALL
        .iter()
        .filter_map(|reason| {
            let facts = reason.facts();
            Some((facts.close_code?, facts.label.to_owned()))
        })
        .collect();
    assert_eq!(written, sent);
    let without = CloseReason::ALL
        .iter()
        .filter(|reason| reason.facts().close_code.is_none());
    for reason in without {
        let label = format!("`{}`", reason.facts().label);
        assert!(section.contains(&label), "{label} is not told of");
    }
}

#[test]
fn the_quick_start_asks_the_usual_addresses() {
    let flags = Flags::try_parse_from(["presenced"]).unwrap();
    let readme = read(&root().join("README.md"));
    for asked in [
        format!("http://{}/metrics", flags.network.admin),
        format!("http://{}/", flags.network.listen[0]),
        format!(
            "nc {} {}",
            flags.storage.store_listen.ip(),
            flags.storage.store_listen.port()
        ),
    ] {
        assert!(readme.contains(&asked), "{asked}");
    }
}

#[test]
fn the_glossary_is_in_its_order() {
    let glossary = read(&root().join("docs/glossary.md"));
    let rows = glossary
        .lines()
        .skip_while(|line| !line.starts_with("| ---"));
    let terms = rows.skip(1).filter_map(|line| line.split('|').nth(1));
    let terms: Vec<_> = terms.map(str::trim).collect();
    assert!(terms.len() > 10 && terms.is_sorted(), "{terms:?}");
}

/// The documents that link to each other.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["", "docs", "benches", "fuzz", "protocol/fuzz", "client"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// As the usual viewers make it of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// What stands in `](…)`, outside of blocks of code.
fn links(text: &str) -> Vec<String> {
    let mut in_code = false;
    let mut found = Vec::new();
    for line in text.lines() {
        in_code ^= line.starts_with("```");
        if in_code {
            continue;
        }
        for (at, _) in line.match_indices("](") {
            let target = &line[at + 2..];
            found.extend(target.split_once(')').map(|(target, _)| target.to_owned()));
        }
    }
    found
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let mut count = 0;
    for document in documents() {
        for link in links(&read(&document)) {
            if link.contains("://") {
                continue;
            }
            count += 1;
            let (file, fragment) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => document.clone(),
                _ => document.parent().unwrap().join(file),
            };
            assert!(target.exists(), "{}: {link}", document.display());
            if !fragment.is_empty() {
                let text = read(&target);
                let headings = text.lines().filter(|line| line.starts_with('#'));
                let mut anchors = headings.map(|line| anchor(line.trim_start_matches('#')));
                let is_there = anchors.any(|anchor| anchor == fragment);
                assert!(is_there, "{}: {link}", document.display());
            }
        }
    }
    assert!(count > 10, "{count} links");
}

/// All Rust files but what cargo has built.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && name != "node_modules" && !name.starts_with('.') {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

#[test]
fn tests_that_the_page_on_security_names_exist() {
    let mut files = Vec::new();
    sources(root(), &mut files);
    let page = read(&root().join("docs/security.md"));
    let named: Vec<_> = page
        .split('`')
        .filter_map(|word| word.split_once("::"))
        .collect();
    assert!(named.len() > 60, "{}", named.len());
    for (module, test) in named {
        let is_there = files.iter().any(|path| {
            let of_folder = path.ends_with(format!("{module}/mod.rs"));
            let is_of_module = of_folder || path.file_stem().is_some_and(|stem| stem == module);
            is_of_module && read(path).contains(&format!("fn {test}("))
        });
        assert!(is_there, "there is no {module}::{test}");
    }
}
