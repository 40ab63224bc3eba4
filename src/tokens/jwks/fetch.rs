//! One GET: a bounded answer with status 200 within a bounded time, or what happened instead.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, AGE, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, HeaderMap,
    HeaderName, LOCATION, USER_AGENT,
};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use presenced_net::tls::TlsConnectError;
use thiserror::Error;
use tokio::time::timeout;

use super::network::{DialError, Network, Stream};
use super::url::Url;
use crate::limits::{
    KEYS_BODY_BYTES_MAX, KEYS_FETCH_TIMEOUT, KEYS_HEAD_BYTES_MAX, KEYS_HEADERS_MAX,
    KEYS_WORDS_BYTES_MAX,
};

/// What was fetched.
#[derive(Debug)]
pub struct Fetched {
    /// The answer's body.
    pub body: Bytes,
    /// For how long it is good, as its `Cache-Control` says; `None` if that says nothing.
    pub fresh_for: Option<Duration>,
    content_type: String,
}

impl Fetched {
    /// What `parse` makes of the body.
    ///
    /// # Errors
    ///
    /// That it is no JSON at all, or why `parse` refuses it.
    pub fn parsed<T>(&self, parse: impl Fn(&[u8]) -> Result<T, String>) -> Result<T, FetchFault> {
        parse(&self.body).map_err(|why| {
            match serde_json::from_slice::<serde::de::IgnoredAny>(&self.body) {
                Ok(_) => FetchFault::Content(why),
                Err(_) => FetchFault::NotJson(self.content_type.clone()),
            }
        })
    }
}

/// Why there is nothing from a URL.
#[derive(Debug, Error)]
#[error("{url}: {fault}")]
pub struct FetchError {
    /// What was asked for.
    pub url: Url,
    /// What happened instead.
    #[source]
    pub fault: FetchFault,
}

/// What happened instead of a good answer.
#[derive(Debug, Error)]
pub enum FetchFault {
    /// The host's name has no address, or no name server answers.
    #[error("its name can't be resolved: {0}")]
    Name(#[source] io::Error),
    /// No address accepts a connection.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// It can't be made secret.
    #[error("no TLS with it: {0}")]
    Tls(#[source] TlsConnectError),
    /// There is no authority to trust.
    #[error("no TLS with it: this machine has no certificates of authorities")]
    NoRoots,
    /// It took too long.
    #[error("no whole answer within {} s", KEYS_FETCH_TIMEOUT.as_secs())]
    Timeout,
    /// The connection ended too early, or what came is no HTTP.
    #[error("no whole answer: {0}")]
    Http(#[from] hyper::Error),
    /// It is somewhere else.
    #[error("answers {status}, a redirect, which is not followed{to}")]
    Redirect {
        /// 3xx.
        status: StatusCode,
        /// Where to, if it says so.
        to: String,
    },
    /// Any other status than 200.
    #[error("answers {0}")]
    Status(StatusCode),
    /// The body is too long.
    #[error("its answer has more than {KEYS_BODY_BYTES_MAX} bytes")]
    TooLarge,
    /// The body is something else, such as a page.
    #[error("its answer is not JSON{0}")]
    NotJson(String),
    /// The body is JSON of another kind.
    #[error("{0}")]
    Content(String),
}

impl FetchFault {
    /// All labels.
    pub const LABELS: [&'static str; 9] = [
        "name",
        "connect",
        "tls",
        "timeout",
        "http",
        "redirect",
        "status",
        "too_large",
        "content",
    ];

    /// Label in `/metrics`.
    pub const fn label(&self) -> &'static str {
        match self {
            FetchFault::Name(_) => "name",
            FetchFault::Connect(_) => "connect",
            FetchFault::Tls(_) | FetchFault::NoRoots => "tls",
            FetchFault::Timeout => "timeout",
            FetchFault::Http(_) => "http",
            FetchFault::Redirect { .. } => "redirect",
            FetchFault::Status(_) => "status",
            FetchFault::TooLarge => "too_large",
            FetchFault::NotJson(_) | FetchFault::Content(_) => "content",
        }
    }
}

/// Fetches what is at `url`.
///
/// # Errors
///
/// What happened instead.
pub async fn get(network: &Network, url: &Url) -> Result<Fetched, FetchError> {
    let fetched = timeout(KEYS_FETCH_TIMEOUT, get_slowly(network, url)).await;
    fetched
        .unwrap_or(Err(FetchFault::Timeout))
        .map_err(|fault| url.fault(fault))
}

impl Url {
    /// Why there is nothing from it.
    pub(super) fn fault(&self, fault: FetchFault) -> FetchError {
        FetchError {
            url: self.clone(),
            fault,
        }
    }
}

async fn get_slowly(network: &Network, url: &Url) -> Result<Fetched, FetchFault> {
    let stream = connect(network, url).await?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(KEYS_HEAD_BYTES_MAX)
        .max_headers(KEYS_HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await?;
    let mut answered = pin!(async {
        let response = sender.send_request(request(url)).await?;
        read(check_status(response)?).await
    });
    // The connection makes progress only while it is polled. At its end the answer may still be in
    // parts that were not taken yet.
    tokio::select! {
        biased;
        answered = &mut answered => answered,
        _ = connection => answered.await,
    }
}

async fn connect(network: &Network, url: &Url) -> Result<Box<dyn Stream>, FetchFault> {
    let stream = network.dialler.dial(url.host(), url.port()).await;
    let stream = stream.map_err(|error| match error {
        DialError::Name(error) => FetchFault::Name(error),
        DialError::Connect(error) => FetchFault::Connect(error),
    })?;
    if !url.is_secret() {
        return Ok(stream);
    }
    let tls = network.tls.as_ref().ok_or(FetchFault::NoRoots)?;
    let stream = tls.connect(url.host(), stream).await;
    Ok(Box::new(stream.map_err(FetchFault::Tls)?))
}

fn request(url: &Url) -> Request<Empty<Bytes>> {
    const AGENT: &str = concat!("presenced/", env!("CARGO_PKG_VERSION"));
    let mut request = Request::new(Empty::new());
    // Both were parts of a URI, and are again.
    *request.uri_mut() = url.target().parse().unwrap_or_default();
    let headers = request.headers_mut();
    if let Ok(host) = url.authority().parse() {
        headers.insert(HOST, host);
    }
    for (name, value) in [
        (ACCEPT, "application/json, application/jwk-set+json"),
        (ACCEPT_ENCODING, "identity"),
        (CONNECTION, "close"),
        (USER_AGENT, AGENT),
    ] {
        headers.insert(name, hyper::header::HeaderValue::from_static(value));
    }
    request
}

fn check_status(response: Response<Incoming>) -> Result<Response<Incoming>, FetchFault> {
    match response.status() {
        StatusCode::OK => Ok(response),
        status if status.is_redirection() => {
            let to = words(response.headers(), &LOCATION);
            Err(FetchFault::Redirect {
                status,
                to: to
                    .map(|to| format!(" (it leads to {to})"))
                    .unwrap_or_default(),
            })
        }
        status => Err(FetchFault::Status(status)),
    }
}

async fn read(response: Response<Incoming>) -> Result<Fetched, FetchFault> {
    let fresh_for = fresh_for(response.headers());
    let content_type = words(response.headers(), &CONTENT_TYPE);
    let mut incoming = response.into_body();
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if body.len() + data.len() > KEYS_BODY_BYTES_MAX {
            return Err(FetchFault::TooLarge);
        }
        body.extend_from_slice(&data);
    }
    Ok(Fetched {
        body: body.into(),
        fresh_for,
        content_type: content_type
            .map(|kind| format!(" but {kind}"))
            .unwrap_or_default(),
    })
}

/// A header's value for people, cut; `None` if it is not there or not of visible characters.
fn words(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.chars().take(KEYS_WORDS_BYTES_MAX).collect())
}

/// How long an answer may be kept (RFC 9111 §4.2): its `max-age`, less the time that it was in a
/// cache on the way. Nothing else in `Cache-Control` is looked at: keys are kept in any case until
/// there are others.
fn fresh_for(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(CACHE_CONTROL).into_iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    let seconds = texts
        .flat_map(|text| text.split(','))
        .find_map(|directive| {
            let (name, value) = directive.trim().split_once('=')?;
            name.eq_ignore_ascii_case("max-age")
                .then(|| value.trim_matches('"').parse::<u64>().ok())?
        })?;
    let age = headers
        .get(AGE)
        .and_then(|age| age.to_str().ok()?.parse().ok());
    Some(Duration::from_secs(
        seconds.saturating_sub(age.unwrap_or(0)),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_fresh_for_what_is_left_of_its_max_age() {
        let headers = |lines: &[(&'static str, &'static str)]| {
            let lines = lines
                .iter()
                .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()));
            lines.collect::<HeaderMap>()
        };
        for (lines, seconds) in [
            (&[][..], None),
            (&[("cache-control", "no-cache")], None),
            (&[("cache-control", "max-age=soon")], None),
            (&[("cache-control", "max-age=-1")], None),
            (
                &[("cache-control", "public, MAX-AGE=600, must-revalidate")],
                Some(600),
            ),
            (&[("cache-control", "max-age=\"600\"")], Some(600)),
            (&[("cache-control", "max-age=600"), ("age", "599")], Some(1)),
            (&[("cache-control", "max-age=600"), ("age", "601")], Some(0)),
            (&[("cache-control", "max-age=600"), ("age", "x")], Some(600)),
        ] {
            let fresh_for = fresh_for(&headers(lines));
            assert_eq!(fresh_for.map(|time| time.as_secs()), seconds, "{lines:?}");
        }
    }
}
