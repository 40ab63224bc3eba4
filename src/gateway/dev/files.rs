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
    ($($path:literal: $media_type:ident = $file:literal,)*) => {
        /// Path, media type and text.
        const FILES: &[(&str, &str, &str)] = &[$((
            $path,
            $media_type,
            include_str!(concat!("../../../client/demo/", $file)),
        )),*];
    };
}

files! {
    "/": HTML = "demo.html",
    "/demo/demo.css": CSS = "demo.css",
    "/demo/demo.js": JS = "demo.js",
}

/// A file of the page, by path.
pub(super) fn file(path: &str) -> Option<Answer> {
    let (_, media_type, text) = FILES.iter().find(|(known, ..)| *known == path)?;
    let mut answer = with_type(200, media_type, Bytes::from_static(text.as_bytes()));
    set(&mut answer, header::CONTENT_SECURITY_POLICY, POLICY);
    Some(answer)
}
