//! Where keys may be fetched.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;
use std::net::IpAddr;

use hyper::Uri;
use thiserror::Error;

/// A URL of `https`, or one of `http` that leads to this machine: what an attacker on the way could
/// change would be no keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    uri: Uri,
    port: u16,
}

/// Why keys can't be fetched from a URL.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum UrlError {
    /// Not of the form, or with characters that need escapes.
    #[error("is no URL (a name that is not ASCII is written as xn--…)")]
    Form,
    /// Another scheme, or `http` beyond this machine.
    #[error(
        "must begin with https:// (http:// leads to this machine only, such as http://localhost:8080)"
    )]
    Scheme,
    /// A user, and maybe a password.
    #[error("must have no user and no password")]
    User,
    /// What is behind `#` is never sent.
    #[error("must have no #")]
    Fragment,
    /// Not a number from 1 to 65535.
    #[error("has a port that is none")]
    Port,
}

impl Url {
    /// Checks that keys may be fetched from `text`.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn new(text: &str) -> Result<Url, UrlError> {
        // The library drops it.
        if text.contains('#') {
            return Err(UrlError::Fragment);
        }
        let uri: Uri = text.parse().map_err(|_| UrlError::Form)?;
        let is_secret = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(UrlError::Scheme),
        };
        let authority = uri.authority().ok_or(UrlError::Form)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::User);
        }
        let host = authority.host();
        // The library takes a port that is none for one that is not there.
        let port = match authority.as_str().strip_prefix(host) {
            Some("") if is_secret => 443,
            Some("") => 80,
            Some(port) => match port.strip_prefix(':').map(str::parse) {
                Some(Ok(port)) if port > 0 => port,
                _ => return Err(UrlError::Port),
            },
            None => return Err(UrlError::Form),
        };
        let url = Url { uri, port };
        match url.host() {
            "" => Err(UrlError::Form),
            host if !is_secret && !is_this_machine(host) => Err(UrlError::Scheme),
            _ => Ok(url),
        }
    }

    /// A name or an address, without brackets.
    pub fn host(&self) -> &str {
        let host = self.uri.host().unwrap_or_default();
        let address = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        address.unwrap_or(host)
    }

    /// As it is given, or that of the scheme.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it is one of `https`.
    pub fn is_secret(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// What a request's line has: path and query.
    pub fn target(&self) -> &str {
        self.uri
            .path_and_query()
            .map_or("/", |target| target.as_str())
    }

    /// What a request's `Host` has.
    pub fn authority(&self) -> &str {
        self.uri
            .authority()
            .map_or("", |authority| authority.as_str())
    }

    /// Whether it has a query.
    pub fn has_query(&self) -> bool {
        self.uri.query().is_some()
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_anywhere_and_http_on_this_machine() {
        for (text, host, port, target) in [
            (
                "https://id.example/keys?v=2",
                "id.example",
                443,
                "/keys?v=2",
            ),
            ("https://id.example", "id.example", 443, "/"),
            ("https://[2001:db8::1]:8443/k", "2001:db8::1", 8443, "/k"),
            ("http://localhost:8080/k", "localhost", 8080, "/k"),
            ("http://127.9.9.9/k", "127.9.9.9", 80, "/k"),
            ("http://[::1]:1/", "::1", 1, "/"),
        ] {
            let url = Url::new(text).unwrap();
            assert_eq!((url.host(), url.port(), url.target()), (host, port, target));
            assert_eq!(url.is_secret(), text.starts_with("https"));
        }
    }

    #[test]
    fn what_is_refused() {
        for (text, why) in [
            ("", UrlError::Form),
            ("/keys", UrlError::Scheme),
            ("id.example", UrlError::Scheme),
            ("ftp://id.example/", UrlError::Scheme),
            ("http://id.example/", UrlError::Scheme),
            ("http://localhost.example/", UrlError::Scheme),
            ("http://128.0.0.1/", UrlError::Scheme),
            ("https:///keys", UrlError::Form),
            ("https://", UrlError::Form),
            ("https://:443/", UrlError::Form),
            ("https://me:secret@id.example/", UrlError::User),
            ("https://me@id.example/", UrlError::User),
            ("https://id.example/#a", UrlError::Fragment),
            ("https://id.example:0/", UrlError::Port),
            ("https://id.example:/", UrlError::Port),
            ("https://id.example:65536/", UrlError::Port),
            ("https://id.example:https/", UrlError::Port),
            ("https://id.example/a b", UrlError::Form),
            ("https://idée.example/", UrlError::Form),
        ] {
            assert_eq!(Url::new(text), Err(why), "{text}");
        }
    }
}
