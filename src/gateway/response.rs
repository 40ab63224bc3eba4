//! HTTP answers.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{self, HeaderName, HeaderValue};
use serde::Serialize;

use crate::gateway::refusal::Refusal;
use crate::pull::PullError;

/// What every handler returns.
pub type Answer = Response<Full<Bytes>>;

/// JSON with `status`; never cached, as presence is of the moment.
pub fn json(status: u16, body: Vec<u8>) -> Answer {
    with_type(status, "application/json", body.into())
}

/// A body of a media type.
pub fn with_type(status: u16, media_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    // Only constants get here.
    *answer.status_mut() = status.try_into().unwrap_or_default();
    set(&mut answer, header::CONTENT_TYPE, media_type);
    set(&mut answer, header::CACHE_CONTROL, "no-store");
    set(&mut answer, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    answer
}

/// The JSON of every error that clients see, with the number of the question that it answers, if
/// any.
pub fn error_json(code: &str, message: &str, pull: Option<u64>) -> Vec<u8> {
    error(pull, code, message, None)
}

/// The same of a pull that is refused.
pub fn pull_error_json(refused: &PullError, pull: Option<u64>) -> Vec<u8> {
    error(
        pull,
        refused.code(),
        &refused.to_string(),
        refused.retry_s(),
    )
}

/// The JSON of the answer to a token that a client shows in its session: for how many seconds the
/// session may go on with it, or why it is refused.
pub fn token_json(answer: Result<u64, Refusal>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Json<'a> {
        token: Answer<'a>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    enum Answer<'a> {
        ExpiresIn(u64),
        Error(Error<'a>),
    }
    let token = match answer {
        Ok(expires_in_s) => Answer::ExpiresIn(expires_in_s),
        Err(refusal) => {
            let facts = refusal.facts();
            Answer::Error(Error {
                code: facts.code,
                message: facts.message,
                retry_after: facts.retry_s,
            })
        }
    };
    serde_json::to_vec(&Json { token }).unwrap_or_default()
}

/// The JSON of the word that a session ends in so many seconds.
pub fn expiring_json(left_s: u64) -> Vec<u8> {
    format!(r#"{{"expiring":{left_s}}}"#).into_bytes()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Error<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u32>,
}

fn error(pull: Option<u64>, code: &str, message: &str, retry_after: Option<u32>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Json<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        pull: Option<u64>,
        error: Error<'a>,
    }
    let error = Error {
        code,
        message,
        retry_after,
    };
    serde_json::to_vec(&Json { pull, error }).unwrap_or_default()
}

/// Sets a header.
pub fn set(answer: &mut Answer, name: HeaderName, value: &'static str) {
    answer
        .headers_mut()
        .insert(name, HeaderValue::from_static(value));
}

/// Ends the connection with this answer.
pub fn set_close(answer: &mut Answer) {
    let headers = answer.headers_mut();
    let value = match headers.contains_key(header::UPGRADE) {
        true => "upgrade, close",
        false => "close",
    };
    headers.insert(header::CONNECTION, HeaderValue::from_static(value));
}

/// The answer to a request that is refused.
pub fn refused(refusal: Refusal) -> Answer {
    let facts = refusal.facts();
    let mut answer = json(facts.status, error_json(facts.code, facts.message, None));
    match refusal {
        Refusal::TokenMissing => set(&mut answer, header::WWW_AUTHENTICATE, "Bearer"),
        // RFC 6750 §3.1: expired is invalid too.
        Refusal::TokenInvalid(_) | Refusal::TokenExpired => {
            let challenge = r#"Bearer error="invalid_token""#;
            set(&mut answer, header::WWW_AUTHENTICATE, challenge);
        }
        Refusal::Scope => {
            let challenge = r#"Bearer error="insufficient_scope""#;
            set(&mut answer, header::WWW_AUTHENTICATE, challenge);
        }
        // RFC 9110 §15.5.22 and RFC 6455 §4.4.
        Refusal::UpgradeRequired | Refusal::Version => {
            set(&mut answer, header::UPGRADE, "websocket");
            set(&mut answer, header::CONNECTION, "upgrade");
            set(&mut answer, header::SEC_WEBSOCKET_VERSION, "13");
        }
        // RFC 9110 §15.5.16.
        Refusal::Compressed => set(&mut answer, header::ACCEPT_ENCODING, "identity"),
        _ => {}
    }
    if let Some(retry_s) = facts.retry_s {
        answer
            .headers_mut()
            .insert(header::RETRY_AFTER, retry_s.into());
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_the_contract_to_the_letter() {
        let json = |pull| String::from_utf8(error_json("malformed", "no \"user\"", pull)).unwrap();
        assert_eq!(
            json(Some(1)),
            r#"{"pull":1,"error":{"code":"malformed","message":"no \"user\""}}"#
        );
        assert_eq!(
            json(None),
            r#"{"error":{"code":"malformed","message":"no \"user\""}}"#
        );
        let refused = pull_error_json(&PullError::Overloaded, Some(7));
        assert_eq!(
            String::from_utf8(refused).unwrap(),
            r#"{"pull":7,"error":{"code":"overloaded","message":"too many look-ups are waiting: ask again later","retryAfter":5}}"#
        );
    }

    #[test]
    fn what_is_said_of_tokens_is_the_contract_to_the_letter() {
        let json = |answer| String::from_utf8(token_json(answer)).unwrap();
        assert_eq!(json(Ok(605)), r#"{"token":{"expiresIn":605}}"#);
        assert_eq!(
            json(Err(Refusal::TokenExpired)),
            r#"{"token":{"error":{"code":"token_expired","message":"the token has expired"}}}"#
        );
        assert_eq!(expiring_json(119), br#"{"expiring":119}"#);
    }
}
