//! Which web pages may connect (RFC 6455 §10.2), and read answers (the Fetch standard's CORS).

use std::net::Ipv6Addr;

use hyper::header::{HOST, HeaderMap, HeaderValue, ORIGIN};
use thiserror::Error;

/// Origins that are allowed: those named, or, when none is, the server's own.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    named: Vec<Named>,
}

/// What an operator may name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Named {
    /// That of one site.
    Exactly(Origin),
    /// Those of all sites with one label before this host.
    OneLabelBefore(Origin),
    /// What browsers send for pages that have none of their own: `null`, `file://`.
    Opaque(&'static str),
}

/// A page's scheme, host and port (RFC 6454 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    /// `None` for the scheme's own.
    port: Option<u16>,
}

/// What browsers may send that is no scheme, host and port.
const OPAQUE: [&str; 2] = ["null", "file://"];

/// Why a text is not an origin.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{value}: {why}")]
pub struct OriginError {
    value: String,
    why: &'static str,
}

impl Origins {
    /// Only `named`, or the same origin if it is empty.
    ///
    /// # Errors
    ///
    /// If one of them is no origin.
    pub fn new(named: &[String]) -> Result<Origins, OriginError> {
        let named = named.iter().map(|value| {
            Named::parse(value).map_err(|why| OriginError {
                value: value.clone(),
                why,
            })
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
        if !self.named.is_empty() {
            return self.named.iter().any(|named| named.is(origin));
        }
        // Behind a proxy that ends TLS the scheme is not known here; host and port are.
        let Some(origin) = Origin::parse(origin).filter(Origin::is_of_web) else {
            return false;
        };
        let own = host.and_then(|host| host.to_str().ok());
        own.is_some_and(|own| {
            Origin::of_parts(&origin.scheme, &own.to_ascii_lowercase()) == Some(origin)
        })
    }
}

impl Named {
    /// What an operator has written; otherwise what is wrong with it.
    fn parse(value: &str) -> Result<Named, &'static str> {
        if let Some(opaque) = OPAQUE.into_iter().find(|opaque| *opaque == value) {
            return Ok(Named::Opaque(opaque));
        }
        let example = "expected scheme://host or scheme://host:port as browsers send it, such as \
                       https://app.example; https://*.preview.example for one label; null; or file://";
        if !value.is_ascii() {
            return Err("browsers send the name in ASCII, such as https://xn--mnchen-3ya.example");
        }
        let (_, host) = value.split_once("://").ok_or(example)?;
        if host.contains(['/', '?', '#']) {
            return Err("an origin has no path: leave out what follows the host and the port");
        }
        if !host.contains('*') {
            return Origin::parse(value).map(Named::Exactly).ok_or(example);
        }
        let rest = value.replacen("://*.", "://", 1);
        let suffix = Origin::parse(&rest).filter(|origin| {
            // All of a top-level domain belong to nobody.
            rest != value && (origin.host.contains('.') || origin.host == "localhost")
        });
        suffix
            .map(Named::OneLabelBefore)
            .ok_or("* stands for one whole label before a name, such as https://*.preview.example")
    }

    /// Whether a browser has sent one of these.
    fn is(&self, sent: &str) -> bool {
        match self {
            Named::Opaque(opaque) => *opaque == sent,
            Named::Exactly(named) => Origin::parse(sent).as_ref() == Some(named),
            Named::OneLabelBefore(named) => Origin::parse(sent).is_some_and(|sent| {
                let label = sent.host.strip_suffix(&named.host);
                let label = label.and_then(|label| label.strip_suffix('.'));
                (&sent.scheme, sent.port) == (&named.scheme, named.port)
                    && label.is_some_and(|label| !label.is_empty() && !label.contains('.'))
            }),
        }
    }
}

impl Origin {
    fn parse(text: &str) -> Option<Origin> {
        let text = text.to_ascii_lowercase();
        let (scheme, authority) = text.split_once("://")?;
        Origin::of_parts(scheme, authority)
    }

    /// Of a scheme, and a host and perhaps a port, in lower case.
    fn of_parts(scheme: &str, authority: &str) -> Option<Origin> {
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(number(port)?)),
            _ => (authority, None),
        };
        let host = match host.strip_prefix('[').and_then(|v6| v6.strip_suffix(']')) {
            Some(v6) => v6.parse::<Ipv6Addr>().ok()?.to_string(),
            None => Some(host).filter(|host| is_of(host, ".-_"))?.to_owned(),
        };
        let own_port = match scheme {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        is_of(scheme, "+-.").then(|| Origin {
            scheme: scheme.to_owned(),
            host,
            port: port.filter(|port| Some(*port) != own_port),
        })
    }

    fn is_of_web(&self) -> bool {
        matches!(&self.scheme[..], "http" | "https")
    }
}

/// A port as it is written: no sign, no zero before it.
fn number(port: &str) -> Option<u16> {
    let is_plain = port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0');
    port.parse().ok().filter(|_| is_plain)
}

/// Whether there is something, and all of it is letters, digits and `others`.
fn is_of(text: &str, others: &str) -> bool {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
    !text.is_empty() && text.chars().all(is_legal)
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
            "file://",
            "http://chat.example",
            "http://evil",
            "ftp://chat.example:8080",
            "chat.example:8080",
        ] {
            assert!(!allow(&[], &[origin], host), "{origin}");
        }
        // The scheme's own port may be left out on either side.
        assert!(allow(&[], &["https://chat.example"], "chat.example:443"));
        assert!(allow(&[], &["http://chat.example:80"], "Chat.Example"));
        assert!(!allow(&[], &["http://chat.example"], "chat.example:443"));
        assert!(allow(&[], &["http://[::1]:8080"], "[0:0::1]:8080"));
        assert!(!allow(&[], &["http://[::1]:8080"], "[::1]"));
    }

    #[test]
    fn named_origins_match_exactly() {
        let named = ["https://app.example", "http://localhost:3000"];
        assert!(allow(&named, &["https://app.example"], "x"));
        assert!(allow(&named, &["https://app.example:443"], "x"));
        assert!(allow(&named, &["http://LOCALHOST:3000"], "x"));
        assert!(allow(
            &["https://a.example:443"],
            &["https://a.example"],
            "x"
        ));
        for origin in [
            "https://app.example.evil",
            "https://x.app.example",
            "http://app.example",
            "https://app.example:80",
            "https://app.example:0443",
            "https://app.example:+443",
            "https://app.example:",
            "https://app.example/",
            "https://x",
            "null",
            "file://",
        ] {
            assert!(!allow(&named, &[origin], "x"), "{origin}");
        }
        assert!(
            !allow(&named, &["https://app.example", "https://app.example"], "x"),
            "twice"
        );
        let app = ["capacitor://localhost", "chrome-extension://abcdef"];
        assert!(allow(&app, &[app[0]], "x") && allow(&app, &[app[1]], "x"));
    }

    #[test]
    fn a_star_is_one_label() {
        let named = ["https://*.preview.example", "http://*.localhost:3000"];
        assert!(allow(&named, &["https://a.preview.example"], "x"));
        assert!(allow(&named, &["https://A-1.Preview.Example:443"], "x"));
        assert!(allow(&named, &["http://a.localhost:3000"], "x"));
        for origin in [
            "https://preview.example",
            "https://.preview.example",
            "https://a.b.preview.example",
            "https://evilpreview.example",
            "https://a.preview.example.evil",
            "http://a.preview.example",
            "https://a.preview.example:444",
            "https://*.preview.example",
        ] {
            assert!(!allow(&named, &[origin], "x"), "{origin}");
        }
    }

    #[test]
    fn pages_without_an_origin_pass_only_where_that_is_named() {
        assert!(allow(&["null"], &["null"], "x"));
        assert!(allow(&["file://"], &["file://"], "x"));
        for (named, origin) in [
            ("null", "file://"),
            ("null", "http://null"),
            ("file://", "null"),
        ] {
            assert!(!allow(&[named], &[origin], "x"), "{named} {origin}");
        }
    }

    #[test]
    fn what_is_no_origin_is_told_with_the_reason() {
        for (origin, why) in [
            ("", "https://app.example"),
            ("*", "https://app.example"),
            ("app.example", "https://app.example"),
            ("Null", "https://app.example"),
            ("https://", "https://app.example"),
            ("https://a:0", "https://app.example"),
            ("https://a:65536", "https://app.example"),
            ("https://u@a", "https://app.example"),
            ("://a", "https://app.example"),
            ("https://a/", "no path"),
            ("file:///", "no path"),
            ("h\u{e9}://a", "ASCII"),
            ("https://m\u{fc}nchen.example", "ASCII"),
            ("https://*", "one whole label"),
            ("https://*.com", "one whole label"),
            ("https://a.*.example", "one whole label"),
            ("https://*a.example", "one whole label"),
            ("https://*.*.example", "one whole label"),
        ] {
            let error = Origins::new(&[origin.to_string()]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{origin}: ")), "{error}");
            assert!(error.contains(why), "{error}");
        }
    }
}
