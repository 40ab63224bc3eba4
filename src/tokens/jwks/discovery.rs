//! Where an issuer says its keys are (OpenID Connect Discovery 1.0).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;

use serde::Deserialize;
use thiserror::Error;

use super::url::{Url, UrlError};

/// An issuer that can be asked: a URL without query and fragment (§2).
#[derive(Clone, PartialEq, Eq)]
pub struct Issuer {
    /// As tokens have it in `iss`.
    name: String,
    document: Url,
}

/// Why an issuer can't be asked where its keys are.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum IssuerError {
    /// It is none of the URLs from which keys may be fetched.
    #[error("{0}")]
    Url(#[from] UrlError),
    /// Its document's place would be behind the query.
    #[error("must have no ?")]
    Query,
}

/// What is needed of the document (§3). Other members are for clients that sign people in.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
}

impl Issuer {
    /// Checks that `name` is an issuer that can be asked.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn new(name: &str) -> Result<Issuer, IssuerError> {
        if Url::new(name)?.has_query() || name.contains('?') {
            return Err(IssuerError::Query);
        }
        // §4: a slash at the end is removed first.
        let base = name.strip_suffix('/').unwrap_or(name);
        Ok(Issuer {
            name: name.to_owned(),
            document: Url::new(&format!("{base}/.well-known/openid-configuration"))?,
        })
    }

    /// As tokens have it in `iss`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its document is (§4).
    pub fn document(&self) -> &Url {
        &self.document
    }

    /// Where its keys are, as its document says.
    ///
    /// # Errors
    ///
    /// For people: what is wrong with the document.
    pub fn keys(&self, document: &[u8]) -> Result<Url, String> {
        let document: Document = serde_json::from_slice(document)
            .map_err(|_| "its answer has no issuer or no jwks_uri, as texts".to_owned())?;
        // §4.3: they must be exactly the same, or one issuer could pass for another.
        if document.issuer != self.name {
            return Err(format!(
                "its issuer is {:?}, and must be {:?} to the letter",
                cut(&document.issuer),
                self.name
            ));
        }
        let uri = cut(&document.jwks_uri);
        let keys = Url::new(&document.jwks_uri)
            .map_err(|error| format!("its jwks_uri {uri:?} {error}"))?;
        match keys.is_secret() || !self.document.is_secret() {
            true => Ok(keys),
            false => Err(format!("its jwks_uri {uri:?} must begin with https://")),
        }
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

/// As much of a peer's words as the log takes.
fn cut(words: &str) -> &str {
    let end = words.floor_char_boundary(crate::limits::KEYS_WORDS_BYTES_MAX);
    &words[..end]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NAME: &str = "https://id.example/realms/a";

    fn keys(name: &str, document: &serde_json::Value) -> Result<String, String> {
        let keys = Issuer::new(name)
            .unwrap()
            .keys(document.to_string().as_bytes());
        keys.map(|keys| keys.to_string())
    }

    #[test]
    fn its_document_is_below_it_whether_or_not_it_ends_with_a_slash() {
        for (name, document) in [
            (
                "https://id.example",
                "https://id.example/.well-known/openid-configuration",
            ),
            (
                "https://id.example/",
                "https://id.example/.well-known/openid-configuration",
            ),
            (
                NAME,
                "https://id.example/realms/a/.well-known/openid-configuration",
            ),
            (
                "http://localhost:3000/a/",
                "http://localhost:3000/a/.well-known/openid-configuration",
            ),
        ] {
            let issuer = Issuer::new(name).unwrap();
            assert_eq!(
                (issuer.name(), issuer.document().to_string()),
                (name, document.into())
            );
        }
        for (name, why) in [
            ("https://id.example/?tenant=1", "must have no ?"),
            ("https://id.example?", "must have no ?"),
            ("https://id.example/#a", "must have no #"),
            ("http://id.example/", "must begin with https://"),
            ("my-issuer", "must begin with https://"),
        ] {
            let error = Issuer::new(name).unwrap_err().to_string();
            assert!(error.starts_with(why), "{name}: {error}");
        }
    }

    #[test]
    fn a_document_is_its_own_and_leads_to_keys_as_secretly() {
        let document =
            |issuer: &str, keys: &str| json!({"issuer": issuer, "jwks_uri": keys, "x": [1]});
        let elsewhere = "https://keys.example/a";
        assert_eq!(keys(NAME, &document(NAME, elsewhere)), Ok(elsewhere.into()));
        let local = "http://localhost:3000";
        let at_home = "http://127.0.0.1:3000/jwks";
        assert_eq!(keys(local, &document(local, at_home)), Ok(at_home.into()));
        assert_eq!(
            keys(local, &document(local, elsewhere)),
            Ok(elsewhere.into())
        );
        for (document, why) in [
            (
                document("https://id.example/realms/a/", elsewhere),
                "to the letter",
            ),
            (
                document("https://ID.example/realms/a", elsewhere),
                "to the letter",
            ),
            (document(&"é".repeat(1000), elsewhere), "to the letter"),
            (document(NAME, at_home), "must begin with https://"),
            (
                document(NAME, "http://id.example/jwks"),
                "must begin with https://",
            ),
            (document(NAME, "/jwks"), "must begin with https://"),
            (json!({"issuer": NAME}), "no jwks_uri"),
            (json!({"issuer": NAME, "jwks_uri": 1}), "no jwks_uri"),
            (json!([]), "no jwks_uri"),
        ] {
            let error = keys(NAME, &document).unwrap_err();
            assert!(error.contains(why) && error.len() < 400, "{error}");
        }
    }
}
