//! The files of the demo page.

use bytes::Bytes;
use hyper::header;

use crate::gateway::response::{Answer, set, with_type};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// No script and no style but those below. A page may be embedded nowhere.
const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; \
                      frame-ancestors 'none'";

macro_rules! files {
    ($($name:literal: $media_type:ident,)*) => {
        /// Path, media type and text.
        const FILES: &[(&str, &str, &str)] = &[$((
            concat!("/demo/", $name),
            $media_type,
            include_str!(concat!("../../../client/demo/", $name)),
        )),*];
    };
}

files! {
    "demo.html": HTML,
    "demo.css": CSS,
    "people.css": CSS,
    "panels.css": CSS,
    "vendor/uplot/uPlot.min.css": CSS,
    "chart.js": JS,
    "code.js": JS,
    "connection.js": JS,
    "crowd.js": JS,
    "demo.js": JS,
    "figures.js": JS,
    "highlight.js": JS,
    "leaving.js": JS,
    "log.js": JS,
    "names.js": JS,
    "news.js": JS,
    "page.js": JS,
    "path.js": JS,
    "people.js": JS,
    "stack.js": JS,
    "token.js": JS,
    "vendor/uplot/uPlot.iife.min.js": JS,
}

/// A file of the page, by path.
pub(super) fn file(path: &str) -> Option<Answer> {
    let path = if path == "/" { "/demo/demo.html" } else { path };
    let (_, media_type, text) = FILES.iter().find(|(known, ..)| *known == path)?;
    let mut answer = with_type(200, media_type, Bytes::from_static(text.as_bytes()));
    set(&mut answer, header::CONTENT_SECURITY_POLICY, POLICY);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    fn files_in(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap();
        let entries = entries.map(|entry| entry.unwrap().path());
        entries
            .flat_map(|path| match path.is_dir() {
                true => files_in(&path),
                false => vec![path],
            })
            .collect()
    }

    #[test]
    fn all_files_of_the_page_are_served() {
        let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("client");
        let found: BTreeSet<_> = files_in(&client.join("demo"))
            .into_iter()
            .filter(|path| {
                let extension = path.extension().and_then(|extension| extension.to_str());
                matches!(extension, Some("html" | "css" | "js"))
            })
            .map(|path| format!("/{}", path.strip_prefix(&client).unwrap().display()))
            .collect();
        let served = FILES.iter().map(|(path, ..)| (*path).to_owned());
        assert_eq!(found, served.collect());
    }
}
