//! The browser client's modules, for any page that imports them from the edge that it connects to.
//!
//! Each has two names: a stable one (`/client/presence.js`), which browsers ask for again after an
//! hour, and one with its hash (`/client/presence-….js`), which they keep for good. `/client/` lists
//! them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::header::{self, HeaderMap, HeaderValue};
use serde_json::json;
use sha2::{Digest, Sha384};

use super::response::{Answer, json, set, with_type};

/// Where they are.
const FOLDER: &str = "/client/";

const JS: &str = "text/javascript; charset=utf-8";
const JSON: &str = "application/json";

macro_rules! files {
    ($($name:literal: $media_type:ident,)*) => {
        /// Name, media type and text; made by `npm run build` in `client/`. Modules import each other by
        /// these names.
        const FILES: &[(&str, &str, &str)] = &[$((
            $name,
            $media_type,
            include_str!(concat!("../../client/dist/", $name)),
        )),*];
    };
}

files! {
    "presence.js": JS,
    "presence.js.map": JSON,
    "presence-dot.js": JS,
    "presence-dot.js.map": JSON,
    "shared.js": JS,
    "shared.js.map": JSON,
}

/// Digits of a hash in a name and in an `ETag`: 64 bits tell the versions of a file apart.
const HASH_DIGITS: usize = 16;

const AN_HOUR: &str = "public, max-age=3600";
/// RFC 8246.
const FOR_GOOD: &str = "public, max-age=31536000, immutable";

struct File {
    media_type: &'static str,
    text: Bytes,
    gzipped: Bytes,
    /// Quoted, as RFC 9110 §8.8.3 has it.
    etag: HeaderValue,
}

/// What there is. Compressed on the first request for any of it.
static SERVED: LazyLock<Served> = LazyLock::new(Served::new);

struct Served {
    /// By name. A module has two.
    files: BTreeMap<String, (File, &'static str)>,
    list: Vec<u8>,
}

impl Served {
    fn new() -> Served {
        let mut files = BTreeMap::new();
        let mut list = BTreeMap::new();
        // Modules that import others come behind them.
        let mut renamed: Vec<(String, String)> = Vec::new();
        for &(name, media_type, text) in FILES {
            files.insert(
                name.to_owned(),
                (File::new(media_type, text.into()), AN_HOUR),
            );
            let Some(stem) = name.strip_suffix(".js") else {
                continue;
            };
            // What is kept for good must not import what changes.
            let text = renamed.iter().fold(text.to_owned(), |text, (from, to)| {
                text.replace(&format!("\"./{from}\""), &format!("\"./{to}\""))
            });
            let digest = Sha384::digest(&text);
            let hashed = format!("{stem}-{}.js", hex(&digest[..HASH_DIGITS / 2]));
            // <https://www.w3.org/TR/SRI/>
            let integrity = format!("sha384-{}", BASE64_STANDARD.encode(digest));
            let path = format!("{FOLDER}{hashed}");
            list.insert(name, json!({ "path": path, "integrity": integrity }));
            files.insert(hashed.clone(), (File::new(media_type, text), FOR_GOOD));
            renamed.push((name.to_owned(), hashed));
        }
        Served {
            files,
            list: serde_json::to_vec(&list).unwrap_or_default(),
        }
    }
}

/// The file that a path names, or the list of them; `None` if the path is of something else. Any
/// page may have them: they are public.
pub(super) fn file(path: &str, request: &HeaderMap) -> Option<Answer> {
    let name = path.strip_prefix(FOLDER)?;
    let mut answer = match name {
        "" => json(200, SERVED.list.clone()),
        name => {
            let (file, lifetime) = SERVED.files.get(name)?;
            let mut answer = file.answer(request);
            set(&mut answer, header::CACHE_CONTROL, lifetime);
            answer
        }
    };
    set(&mut answer, header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    // Also for pages that are isolated from other origins.
    let policy = HeaderValue::from_static("cross-origin");
    answer
        .headers_mut()
        .insert("cross-origin-resource-policy", policy);
    Some(answer)
}

impl File {
    fn new(media_type: &'static str, text: String) -> File {
        let hash = hex(&Sha384::digest(&text)[..HASH_DIGITS / 2]);
        File {
            media_type,
            gzipped: gzip(&text),
            text: text.into(),
            // Only digits get here.
            etag: HeaderValue::try_from(format!("\"{hash}\""))
                .unwrap_or(HeaderValue::from_static("\"\"")),
        }
    }

    fn answer(&self, request: &HeaderMap) -> Answer {
        let is_known = lists(request, header::IF_NONE_MATCH, |entry| {
            let tag = entry.strip_prefix(b"W/").unwrap_or(entry);
            tag == self.etag.as_bytes() || tag == b"*"
        });
        let is_gzipped = takes_gzip(request);
        let body = match (is_known, is_gzipped) {
            (true, _) => Bytes::new(),
            (false, true) => self.gzipped.clone(),
            (false, false) => self.text.clone(),
        };
        // RFC 9110 §15.4.5.
        let mut answer = with_type(if is_known { 304 } else { 200 }, self.media_type, body);
        if is_gzipped && !is_known {
            set(&mut answer, header::CONTENT_ENCODING, "gzip");
        }
        set(&mut answer, header::VARY, "Accept-Encoding");
        // Weak: the same for both forms.
        let etag = [b"W/", self.etag.as_bytes()].concat();
        if let Ok(etag) = HeaderValue::try_from(etag) {
            answer.headers_mut().insert(header::ETAG, etag);
        }
        answer
    }
}

/// Whether the client can read gzip (RFC 9110 §12.5.3): what it says of gzip counts before what it
/// says of all others.
fn takes_gzip(request: &HeaderMap) -> bool {
    let says = |named: &[u8], is_taken: bool| {
        lists(request, header::ACCEPT_ENCODING, |entry| {
            let mut parts = entry.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let is_named = parts
                .next()
                .is_some_and(|coding| coding.eq_ignore_ascii_case(named));
            is_named && parts.any(is_zero) != is_taken
        })
    };
    says(b"gzip", true) || says(b"*", true) && !says(b"gzip", false)
}

/// Whether this is a weight of zero.
fn is_zero(weight: &[u8]) -> bool {
    matches!(weight, [b'q' | b'Q', b'=', b'0', digits @ ..]
        if digits.iter().all(|digit| matches!(digit, b'0' | b'.')))
}

/// Whether one entry of a header's comma-separated lists is so.
fn lists(request: &HeaderMap, name: header::HeaderName, is_so: impl Fn(&[u8]) -> bool) -> bool {
    let lines = request.get_all(name).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .any(|entry| is_so(entry.trim_ascii()))
}

fn gzip(text: &str) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Memory takes everything.
    let _ = encoder.write_all(text.as_bytes());
    encoder.finish().unwrap_or_default().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn said<'a>(answer: &'a Answer, name: &str) -> &'a str {
        let value = answer.headers().get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    #[test]
    fn a_stable_name_is_asked_for_again_and_a_hashed_one_is_kept() {
        let none = HeaderMap::new();
        let stable = file("/client/presence.js", &none).unwrap();
        assert_eq!(said(&stable, "cache-control"), AN_HOUR);
        let hash = said(&stable, "etag").trim_matches(['W', '/', '"']);
        let hashed = file(&format!("/client/presence-{hash}.js"), &none).unwrap();
        assert_eq!(said(&hashed, "cache-control"), FOR_GOOD);
        for answer in [&stable, &hashed] {
            assert_eq!(said(answer, "access-control-allow-origin"), "*");
            assert_eq!(said(answer, "content-type"), JS);
        }
        let shared = file("/client/shared.js", &none).unwrap();
        assert_eq!(said(&shared, "cache-control"), AN_HOUR);
        for missing in [
            "/client",
            "/client/presence-0000000000000000.js",
            "/client/../demo",
            "/presence.js",
        ] {
            assert!(file(missing, &none).is_none(), "{missing}");
        }
    }

    #[test]
    fn a_module_that_is_kept_imports_only_what_is_kept() {
        let hashed = |stem: &str| {
            let mut names = SERVED.files.keys();
            let is_it = |name: &&String| {
                let hash = name
                    .strip_prefix(stem)
                    .and_then(|rest| rest.strip_suffix(".js"));
                hash.is_some_and(|hash| hash.len() == 1 + HASH_DIGITS)
            };
            names.find(is_it).unwrap().clone()
        };
        let text = |name: &str| String::from_utf8(SERVED.files[name].0.text.to_vec()).unwrap();
        let core = hashed("presence");
        assert!(text("shared.js").contains("\"./presence.js\""));
        let shared = text(&hashed("shared"));
        assert!(shared.contains(&format!("\"./{core}\"")), "{shared}");
        assert!(!shared.contains("\"./presence.js\""));
    }

    #[test]
    fn only_who_takes_gzip_gets_it() {
        for (accepted, expected) in [
            ("gzip, deflate, br, zstd", true),
            ("GZIP;q=0.5", true),
            ("*", true),
            ("br", false),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("gzip; Q=0", false),
            ("gzip;q=0, *", false),
            ("*, gzip;q=0", false),
            ("*;q=0, gzip", true),
            ("", false),
        ] {
            assert_eq!(
                takes_gzip(&headers(&[("accept-encoding", accepted)])),
                expected,
                "{accepted}"
            );
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn who_has_it_already_gets_no_body() {
        let first = file("/client/presence-dot.js", &HeaderMap::new()).unwrap();
        let etag = said(&first, "etag").to_owned();
        for known in [etag.as_str(), "*", &format!("\"x\", {etag}")] {
            let again = headers(&[("if-none-match", known)]);
            let answer = file("/client/presence-dot.js", &again).unwrap();
            assert_eq!(answer.status(), 304, "{known}");
        }
        let other = headers(&[("if-none-match", "\"x\"")]);
        let answer = file("/client/presence-dot.js", &other).unwrap();
        assert_eq!(answer.status(), 200);
    }
}
