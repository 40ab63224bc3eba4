//! Which web pages may connect (RFC 6455 §10.2).

use hyper::header::{HOST, HeaderMap, HeaderValue, ORIGIN};
use thiserror::Error;

/// Origins that are allowed: those named, or, when none is, the server's own.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    named: Vec<String>,
}

/// Why a text is not an origin.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("expected scheme://host or scheme://host:port, as browsers send it")]
pub struct OriginError;

impl Origins {
    /// Only `named`, or the same origin if it is empty.
    ///
    /// # Errors
    ///
    /// If one of them is no origin.
    pub fn new(named: &[String]) -> Result<Origins, OriginError> {
        let named = named.iter().map(|origin| {
            let origin = origin.to_ascii_lowercase();
            let (scheme, host) = origin.split_once("://").ok_or(OriginError)?;
            // Exact matches only: a pattern would allow more than was meant.
            let are = |text: &str, others: &str| {
                let legal = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
                !text.is_empty() && text.chars().all(legal)
            };
            if !are(scheme, "+-.") || !are(host, ".-:[]_") {
                return Err(OriginError);
            }
            Ok(origin)
        });
        Ok(Origins {
            named: named.collect::<Result<_, _>>()?,
        })
    }

    /// Whether the request may pass. What is no browser sends no Origin and is not meant here.
    pub fn allow(&self, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(ORIGIN).iter();
        match (origins.next(), origins.next()) {
            (None, _) => true,
            (Some(origin), None) => self.is_allowed(origin, headers.get(HOST)),
            (Some(_), Some(_)) => false,
        }
    }

    fn is_allowed(&self, origin: &HeaderValue, host: Option<&HeaderValue>) -> bool {
        let Ok(origin) = origin.to_str() else {
            return false;
        };
        let origin = origin.to_ascii_lowercase();
        if !self.named.is_empty() {
            return self.named.contains(&origin);
        }
        // Behind a proxy that ends TLS the scheme is not known here; host and port are.
        let own = host
            .and_then(|host| host.to_str().ok())
            .map(str::to_ascii_lowercase);
        let of_page = origin
            .strip_prefix("https://")
            .or(origin.strip_prefix("http://"));
        of_page.is_some() && of_page == own.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(named: &[&str], origins: &[&str], host: &str) -> bool {
        let named: Vec<_> = named.iter().map(ToString::to_string).collect();
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        for origin in origins {
            headers.append(ORIGIN, origin.parse().unwrap());
        }
        Origins::new(&named).unwrap().allow(&headers)
    }

    #[test]
    fn by_default_the_same_origin() {
        let host = "chat.example:8080";
        assert!(allow(&[], &[], host));
        assert!(allow(&[], &["http://chat.example:8080"], host));
        assert!(allow(&[], &["https://Chat.Example:8080"], host));
        for origin in [
            "null",
            "http://chat.example",
            "http://evil",
            "ftp://chat.example:8080",
            "chat.example:8080",
        ] {
            assert!(!allow(&[], &[origin], host), "{origin}");
        }
    }

    #[test]
    fn named_origins_match_exactly() {
        let named = ["https://app.example", "http://localhost:3000"];
        assert!(allow(&named, &["https://app.example"], "x"));
        assert!(allow(&named, &["http://LOCALHOST:3000"], "x"));
        for origin in [
            "https://app.example.evil",
            "https://x.app.example",
            "http://app.example",
            "https://app.example:443",
            "https://x",
        ] {
            assert!(!allow(&named, &[origin], "x"), "{origin}");
        }
        assert!(
            !allow(&named, &["https://app.example", "https://app.example"], "x"),
            "twice"
        );
    }

    #[test]
    fn what_is_no_origin() {
        for origin in [
            "*",
            "app.example",
            "https://",
            "https://a/",
            "https://*.example",
            "null",
            "h\u{e9}://a",
            "://a",
        ] {
            assert!(Origins::new(&[origin.to_string()]).is_err(), "{origin}");
        }
    }
}
