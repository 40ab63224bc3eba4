//! The nodes as an operator lists them.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::HashSet;
use std::path::PathBuf;

use super::{NodeAddr, NodeSpec};
use crate::limits::NODES_MAX;

/// The nodes as an operator lists them.
#[derive(Clone, Debug, Default)]
pub struct NodeList {
    /// The nodes, from the file if there is one.
    pub nodes: Vec<NodeSpec>,
    /// Where the list is; it may change.
    pub file: Option<PathBuf>,
}

impl From<Vec<NodeSpec>> for NodeList {
    fn from(nodes: Vec<NodeSpec>) -> NodeList {
        NodeList { nodes, file: None }
    }
}

impl NodeList {
    /// An address that is there twice.
    pub fn twice(&self) -> Option<&NodeAddr> {
        let mut seen = HashSet::new();
        let mut addrs = self.nodes.iter().map(|node| &node.addr);
        addrs.find(|addr| !seen.insert(*addr))
    }
}

/// Reads a list: one node per line; `#` starts a comment. A byte order mark before it, as some editors
/// leave, is passed over.
///
/// # Errors
///
/// For people: what is wrong, and in which line. A list without nodes, with too many, or with one
/// that is there twice is refused. So is one whose last line has no end: if it is half-written, the
/// node there is another, or nodes are missing.
pub fn parse_list(text: &str) -> Result<Vec<NodeSpec>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut nodes = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            let node = line.parse::<NodeSpec>();
            nodes.push(node.map_err(|error| format!("line {number}: {error}"))?);
        }
    }
    if nodes.is_empty() {
        return Err("no node in it".into());
    }
    if !text.ends_with('\n') {
        return Err("the last line has no end (a newline): the list may be half-written".into());
    }
    if nodes.len() > NODES_MAX {
        return Err(format!(
            "{} nodes, at most {NODES_MAX} are allowed",
            nodes.len()
        ));
    }
    let list = NodeList::from(nodes);
    match list.twice() {
        Some(twice) => Err(format!("{twice} is there twice")),
        None => Ok(list.nodes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_a_node_a_line() {
        let text = "# cache\na:1\n\n  b:2*3  # heavy\nunix:/m\n";
        let nodes = parse_list(text).unwrap();
        assert_eq!(nodes.len(), 3);
        let as_on_windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
        assert_eq!(parse_list(&as_on_windows).unwrap(), nodes);
        assert_eq!(parse_list("\u{feff}a:1\n").unwrap(), nodes[..1]);
        assert_eq!(nodes[1], "b:2*3".parse().unwrap());
        for (text, why) in [
            ("# none\n", "no node"),
            ("a:1\nb\n", "line 2: expected HOST:PORT"),
            ("a:1\na:1*2\n", "a:1 is there twice"),
            ("a:1\nb:11211", "half-written"),
            ("a:1\nb:11", "half-written"),
            ("a:1\n# b", "half-written"),
        ] {
            let error = parse_list(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
