//! Tokens: JWTs (RFC 7519) signed with HS256, checked as RFC 8725 advises.
//!
//! The algorithm comes from the key, never from the token. `kid`, `jku`, `jwk` and `x5u` are not
//! looked at: there is one key, and nothing is fetched.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use presenced_jwt::errors::ErrorKind;
use presenced_jwt::{Algorithm, DecodingKey, Header, TokenData, Validation, decode};
use presenced_presence::UserId;
use presenced_presence::limits::USER_ID_BYTES_MAX;
use presenced_session::clock::unix_ms;
use serde_json::{Map, Value};

use super::fault::{TokenError, TokenFault};
use crate::limits::{TOKEN_BYTES_MAX, TOKEN_LEEWAY};

/// The word in `scope` that makes a token a service token: a back end of the operator's pulls with
/// it, for all its users.
pub const READ_ALL_SCOPE: &str = "presence:read-all";

/// What a token must be.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `aud` must name it, if set.
    pub audience: Option<String>,
    /// `iss` must be it, if set.
    pub issuer: Option<String>,
    /// `scope` must have it among its words, if set. For pulls over HTTP, [`READ_ALL_SCOPE`] is
    /// enough.
    pub scope: Option<String>,
    /// The claim that has the user's id: a string or an integer.
    pub user_claim: String,
    /// How far ahead `exp` may be.
    pub lifetime_max: Duration,
}

/// What a token is shown for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A session, which makes its user online.
    Session,
    /// A pull over HTTP.
    Pull,
}

/// The user whom a token names, for how long, and what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user whom the token names.
    pub user: UserId,
    /// Time that is left, at most.
    pub valid_for: Duration,
    /// Whether it is a service token ([`READ_ALL_SCOPE`]): its pulls are those of a back end, which
    /// asks for many users.
    pub reads_all: bool,
}

/// Checks tokens with one key.
#[derive(Debug)]
pub struct Auth {
    key: DecodingKey,
    validation: Validation,
    rules: Rules,
}

impl Auth {
    /// For tokens signed with `secret`.
    pub fn new(secret: &[u8], rules: Rules) -> Auth {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = TOKEN_LEEWAY.as_secs();
        validation.validate_nbf = true;
        let mut required = vec!["exp"];
        validation.validate_aud = rules.audience.is_some();
        if let Some(audience) = &rules.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        if let Some(issuer) = &rules.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        Auth {
            key: DecodingKey::from_secret(secret),
            validation,
            rules,
        }
    }

    /// Checks `token`: the cheap things first, then the signature, then the claims.
    ///
    /// # Errors
    ///
    /// Why the token is refused.
    pub fn verify(&self, token: &str, purpose: Purpose) -> Result<Identity, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Invalid(TokenFault::TooLong));
        }
        if token.bytes().filter(|&byte| byte == b'.').count() != 2 {
            return Err(TokenError::Invalid(TokenFault::Malformed));
        }
        let TokenData { claims, .. } =
            match decode::<Map<String, Value>>(token, &self.key, &self.validation) {
                Ok(token) => token,
                Err(error) => return Err(self.error(token, error.kind())),
            };
        check_head(token).map_err(TokenError::Invalid)?;
        // RFC 7519 §4.1.6. The library looks at no time that it need not compare.
        if claims.get("iat").is_some_and(|iat| !iat.is_number()) {
            return Err(TokenError::Invalid(TokenFault::Claims));
        }
        let user = user_of(claims.get(&self.rules.user_claim))?;
        let valid_for = self.valid_for(&claims).map_err(TokenError::Invalid)?;
        let reads_all = has_word(claims.get("scope"), READ_ALL_SCOPE);
        let is_enough = reads_all && purpose == Purpose::Pull;
        let needed = self.rules.scope.as_deref().filter(|_| !is_enough);
        if needed.is_some_and(|needed| !has_word(claims.get("scope"), needed)) {
            return Err(TokenError::Scope);
        }
        Ok(Identity {
            user,
            valid_for,
            reads_all,
        })
    }

    /// The user's id in a token that was signed with our key, whatever else is wrong with it: for
    /// the log. What is not signed may say anything, so it is not read.
    pub fn signed_user(&self, token: &str) -> Option<String> {
        let mut signature_only = Validation::new(Algorithm::HS256);
        signature_only.required_spec_claims.clear();
        signature_only.validate_exp = false;
        signature_only.validate_aud = false;
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let token = decode::<Map<String, Value>>(token, &self.key, &signature_only).ok()?;
        match token.claims.get(&self.rules.user_claim)? {
            Value::String(id) => Some(id.chars().take(USER_ID_BYTES_MAX).collect()),
            Value::Number(id) => Some(id.to_string()),
            _ => None,
        }
    }

    /// The signature is checked before the claims, so errors of the latter mean that it is good.
    fn error(&self, token: &str, error: &ErrorKind) -> TokenError {
        let fault = match error {
            ErrorKind::ExpiredSignature => return TokenError::Expired,
            ErrorKind::ImmatureSignature => TokenFault::NotYetValid,
            ErrorKind::InvalidIssuer => TokenFault::Issuer,
            ErrorKind::InvalidAudience => TokenFault::Audience,
            ErrorKind::MissingRequiredClaim(name) | ErrorKind::InvalidClaimFormat(name) => {
                match name.as_str() {
                    "iss" => TokenFault::Issuer,
                    "aud" => TokenFault::Audience,
                    _ => TokenFault::Claims,
                }
            }
            _ => match (fault_of_head(token), error) {
                (Some(fault), _) => fault,
                (None, ErrorKind::InvalidSignature) => TokenFault::Signature,
                // Of another type than a claim has, or no object.
                (None, ErrorKind::Json(_)) if is_json(part(token, 1)) => TokenFault::Claims,
                (None, ErrorKind::Json(_)) => TokenFault::ClaimsJson,
                (None, _) => TokenFault::Malformed,
            },
        };
        TokenError::Invalid(fault)
    }

    /// Time to `exp` and the leeway, if `exp` is not further ahead than allowed.
    fn valid_for(&self, claims: &Map<String, Value>) -> Result<Duration, TokenFault> {
        let exp_s = claims.get("exp").and_then(Value::as_f64);
        let exp_s = exp_s.ok_or(TokenFault::Claims)?;
        let left_s = exp_s + TOKEN_LEEWAY.as_secs_f64() - unix_ms() as f64 / 1000.0;
        let left = Duration::try_from_secs_f64(left_s.max(0.0)).ok();
        left.filter(|left| *left <= self.rules.lifetime_max + 2 * TOKEN_LEEWAY)
            .ok_or(TokenFault::LifetimeTooLong)
    }
}

/// What is wrong with the head of a token that was refused, if anything is.
fn fault_of_head(token: &str) -> Option<TokenFault> {
    match head(token) {
        None => Some(TokenFault::Malformed),
        Some(head) if head.get("alg") != Some(&"HS256".into()) => Some(TokenFault::Algorithm),
        // A member that has a name of RFC 7515 and another type, or is there twice.
        Some(_) => match serde_json::from_slice::<Header>(&part(token, 0)?) {
            Ok(_) => None,
            Err(_) => Some(TokenFault::Malformed),
        },
    }
}

/// The members of a token's head; `None` if it is no JSON object in base64.
fn head(token: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&part(token, 0)?).ok()
}

/// What a part of a token has in it; `None` if it is no base64.
fn part(token: &str, number: usize) -> Option<Vec<u8>> {
    let part = token.split('.').nth(number)?;
    BASE64_URL_SAFE_NO_PAD.decode(part).ok()
}

/// Whether it is JSON in UTF-8, and not nested too deep to be read.
fn is_json(bytes: Option<Vec<u8>>) -> bool {
    bytes.is_some_and(|bytes| serde_json::from_slice::<Value>(&bytes).is_ok())
}

/// Checks those members of a signed token's head that the library does not look at, or takes for
/// missing where they are `null`.
fn check_head(token: &str) -> Result<(), TokenFault> {
    let head = head(token).ok_or(TokenFault::Malformed)?;
    if !head.get("typ").is_none_or(is_typ_known) {
        return Err(TokenFault::Typ);
    }
    // RFC 7515 §4.1.11: whatever `crit` is, none of its extensions is known here. RFC 7797 §6 forbids
    // `b64` without it.
    match head.contains_key("crit") || head.contains_key("b64") {
        true => Err(TokenFault::Crit),
        false => Ok(()),
    }
}

/// RFC 8725 §3.11: a token made for something else must not pass for one of ours.
fn is_typ_known(typ: &Value) -> bool {
    let typ = typ.as_str().unwrap_or_default().to_ascii_lowercase();
    // RFC 7515 §4.1.9: "application/" may be left out.
    matches!(
        typ.strip_prefix("application/").unwrap_or(&typ),
        "jwt" | "at+jwt"
    )
}

/// Whether a claim `scope` has a word: words with spaces between them (RFC 8693 §4.2).
fn has_word(scope: Option<&Value>, needed: &str) -> bool {
    let scope = scope.and_then(Value::as_str).unwrap_or_default();
    scope.split(' ').any(|word| word == needed)
}

fn user_of(claim: Option<&Value>) -> Result<UserId, TokenError> {
    let id = match claim {
        Some(Value::String(id)) => UserId::new(id),
        Some(Value::Number(id)) if id.is_i64() || id.is_u64() => UserId::new(&id.to_string()),
        _ => return Err(TokenError::Invalid(TokenFault::UserClaim)),
    };
    id.map_err(TokenError::UserId)
}

#[cfg(test)]
mod tests {
    use presenced_jwt::{EncodingKey, encode};
    use presenced_presence::UserIdError;
    use serde_json::json;

    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn rules() -> Rules {
        Rules {
            audience: Some("presence".into()),
            issuer: Some("https://id.example".into()),
            scope: None,
            user_claim: "sub".into(),
            lifetime_max: Duration::from_secs(86_400),
        }
    }

    fn in_s(seconds: i64) -> i64 {
        unix_ms() as i64 / 1000 + seconds
    }

    fn claims() -> Value {
        json!({"sub": "alice", "exp": in_s(600), "aud": "presence", "iss": "https://id.example"})
    }

    fn sign(header: &Header, claims: &Value) -> String {
        encode(header, claims, &EncodingKey::from_secret(SECRET)).unwrap()
    }

    fn verify(claims: &Value) -> Result<Identity, TokenError> {
        Auth::new(SECRET, rules()).verify(&sign(&Header::default(), claims), Purpose::Session)
    }

    fn with(name: &str, value: Value) -> Result<String, TokenError> {
        let mut claims = claims();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value;
        }
        verify(&claims).map(|identity| identity.user.to_string())
    }

    #[test]
    fn a_good_token_says_who_and_how_long() {
        let identity = verify(&claims()).unwrap();
        assert_eq!(identity.user.as_str(), "alice");
        assert!(
            (603..=606).contains(&identity.valid_for.as_secs()),
            "{identity:?}"
        );
        assert_eq!(with("sub", json!(42)), Ok("42".into()));
        assert_eq!(with("sub", json!(-7)), Ok("-7".into()));
        let late = verify(
            &json!({"sub": "a", "exp": in_s(-3), "aud": "presence", "iss": "https://id.example"}),
        );
        assert!(
            late.unwrap().valid_for.as_secs() <= 2,
            "what is left of the leeway"
        );
    }

    #[test]
    fn claims_that_are_missing_mistyped_or_wrong() {
        use TokenFault::{Audience, Claims, Issuer, LifetimeTooLong, NotYetValid, UserClaim};
        for (name, value, fault) in [
            ("exp", Value::Null, Claims),
            ("exp", json!("soon"), Claims),
            ("exp", json!(in_s(86_400 + 60)), LifetimeTooLong),
            ("exp", json!(253_402_300_800u64), LifetimeTooLong),
            ("nbf", json!(in_s(60)), NotYetValid),
            ("nbf", json!("soon"), Claims),
            ("iat", json!("now"), Claims),
            ("iat", json!([1]), Claims),
            ("aud", Value::Null, Audience),
            ("aud", json!("other"), Audience),
            ("aud", json!(1), Audience),
            ("iss", Value::Null, Issuer),
            ("iss", json!(1), Issuer),
            ("iss", json!("https://id.example.evil"), Issuer),
            ("sub", Value::Null, UserClaim),
            ("sub", json!(1.5), UserClaim),
            // No library looks further into this one.
            ("sub", json!(["alice"]), Claims),
        ] {
            let refused = Err(TokenError::Invalid(fault));
            assert_eq!(with(name, value.clone()), refused, "{name} {value}");
        }
        assert_eq!(with("exp", json!(in_s(-10))), Err(TokenError::Expired));
        assert!(with("exp", json!(in_s(-3))).is_ok(), "within the leeway");
        assert!(with("nbf", json!(in_s(3))).is_ok(), "within the leeway");
        assert!(with("aud", json!(["x", "presence"])).is_ok());
    }

    #[test]
    fn user_ids_that_no_key_can_have() {
        for (id, error) in [
            ("", UserIdError::Empty),
            ("a b", UserIdError::Character),
            ("u1\r\nflush_all", UserIdError::Character),
            (&"x".repeat(201), UserIdError::TooLong),
        ] {
            assert_eq!(
                with("sub", json!(id)),
                Err(TokenError::UserId(error)),
                "{id:?}"
            );
        }
    }

    /// A token of any bytes, signed with our key.
    fn sign_bytes(head: &[u8], claims: &[u8]) -> String {
        let [head, claims] = [head, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        let message = format!("{head}.{claims}");
        let key = EncodingKey::from_secret(SECRET);
        let signature = presenced_jwt::sign(message.as_bytes(), &key, Algorithm::HS256);
        format!("{message}.{}", signature.unwrap())
    }

    #[test]
    fn claims_that_are_no_json_are_told_apart_from_user_ids() {
        let auth = Auth::new(SECRET, rules());
        let verify = |claims: &[u8]| {
            let token = sign_bytes(br#"{"alg":"HS256"}"#, claims);
            auth.verify(&token, Purpose::Session)
                .map(|identity| identity.user.to_string())
        };
        let with = |more: &[u8]| {
            let good = format!(
                r#"{{"exp":{},"aud":"presence","iss":"https://id.example","#,
                in_s(60)
            );
            verify(&[good.as_bytes(), more, b"}"].concat())
        };
        let nested = |depth: usize| {
            format!(
                r#""sub":"a","x":{}{}"#,
                "[".repeat(depth),
                "]".repeat(depth)
            )
        };
        assert_eq!(with(nested(100).as_bytes()), Ok("a".into()));
        for more in [
            &b"\"sub\":\"\xff\xfe\""[..],
            b"\"sub\":\"a\",\"x\":\"\xff\"",
            b"\"sub\":\"a\",\"\xff\":1",
            b"\"sub\":\"\\ud800\"",
            b"\"sub\":\"a\",\"x\":\"\\q\"",
            b"\"sub\":\"a\nb\"",
            b"\"sub\":\"a\",",
            b"\"sub\":\"a\",\"x\":1e999",
            b"\"sub\":\"a\"}x",
            nested(200).as_bytes(),
            nested(1000).as_bytes(),
        ] {
            let refused = Err(TokenError::Invalid(TokenFault::ClaimsJson));
            assert_eq!(with(more), refused, "{}", more.escape_ascii());
        }
        for claims in [&b""[..], b"{", b"alice", b"\xff", b"{}{}"] {
            let refused = Err(TokenError::Invalid(TokenFault::ClaimsJson));
            assert_eq!(verify(claims), refused, "{}", claims.escape_ascii());
        }
        // It is JSON, but of a user who cannot be.
        let refused = Err(TokenError::UserId(UserIdError::Character));
        assert_eq!(with(br#""sub":"a\nb""#), refused);
        // Each claim is there once.
        let twice = with(br#""sub":"a","exp":1"#);
        assert_eq!(twice, Err(TokenError::Invalid(TokenFault::Claims)));
    }

    #[test]
    fn any_extension_is_refused() {
        let auth = Auth::new(SECRET, rules());
        let claims = claims().to_string();
        let verify = |head: &str| {
            auth.verify(
                &sign_bytes(head.as_bytes(), claims.as_bytes()),
                Purpose::Session,
            )
        };
        assert!(verify(r#"{"alg":"HS256","critical":null}"#).is_ok());
        for crit in [
            r#""crit":null"#,
            r#""crit":[]"#,
            r#""cr\u0069t":["exp"]"#,
            r#""b64":false"#,
            r#""b64":true"#,
        ] {
            let refused = verify(&format!(r#"{{"alg":"HS256",{crit}}}"#));
            let expected = Err(TokenError::Invalid(TokenFault::Crit));
            assert_eq!(refused, expected, "{crit}");
        }
        // Of a type that RFC 7515 does not know, or there twice: the head is none.
        for crit in [
            r#""crit":1"#,
            r#""crit":"x""#,
            r#""crit":[1]"#,
            r#""crit":null,"crit":null"#,
        ] {
            let refused = verify(&format!(r#"{{"alg":"HS256",{crit}}}"#));
            let expected = Err(TokenError::Invalid(TokenFault::Malformed));
            assert_eq!(refused, expected, "{crit}");
        }
    }

    #[test]
    fn a_scope_is_needed_where_one_is_set() {
        let scope = Some("presence".into());
        let auth = Auth::new(SECRET, Rules { scope, ..rules() });
        let verify = |scope: Value| {
            let mut claims = claims();
            claims["scope"] = scope;
            auth.verify(&sign(&Header::default(), &claims), Purpose::Session)
                .map(drop)
        };
        for scope in ["presence", "openid presence", "presence  email"] {
            assert_eq!(verify(json!(scope)), Ok(()), "{scope}");
        }
        let others = [
            "",
            "Presence",
            "presence:read",
            "xpresence",
            "openid,presence",
        ];
        for scope in others.map(Value::from) {
            assert_eq!(verify(scope.clone()), Err(TokenError::Scope), "{scope}");
        }
        for scope in [Value::Null, json!(["presence"]), json!(true)] {
            assert_eq!(verify(scope.clone()), Err(TokenError::Scope), "{scope}");
        }
        // A pull needs it as well.
        let pull = auth.verify(&sign(&Header::default(), &claims()), Purpose::Pull);
        assert_eq!(pull, Err(TokenError::Scope));
        // What is wrong otherwise comes first.
        let expired = json!({"sub": "alice", "exp": in_s(-60), "aud": "presence", "iss": "https://id.example"});
        let expired = auth.verify(&sign(&Header::default(), &expired), Purpose::Session);
        assert_eq!(expired, Err(TokenError::Expired));
    }

    #[test]
    fn a_service_token_pulls_without_the_scope_that_sessions_need() {
        let read = |needed: Option<&str>, scope: Value, purpose| {
            let scope_rule = needed.map(str::to_owned);
            let rules = Rules {
                scope: scope_rule,
                ..rules()
            };
            let mut claims = claims();
            claims["scope"] = scope;
            let token = sign(&Header::default(), &claims);
            let identity = Auth::new(SECRET, rules).verify(&token, purpose)?;
            assert_eq!(identity.user.as_str(), "alice");
            Ok(identity.reads_all)
        };
        let needed = Some("presence");
        for scope in [
            READ_ALL_SCOPE,
            "email presence:read-all",
            "presence:read-all  x",
        ] {
            let scope = || json!(scope);
            assert_eq!(read(None, scope(), Purpose::Pull), Ok(true));
            assert_eq!(read(None, scope(), Purpose::Session), Ok(true));
            assert_eq!(read(needed, scope(), Purpose::Pull), Ok(true));
            let session = read(needed, scope(), Purpose::Session);
            assert_eq!(session, Err(TokenError::Scope));
        }
        let both = || json!("presence presence:read-all");
        assert_eq!(read(needed, both(), Purpose::Session), Ok(true));
        assert_eq!(read(needed, both(), Purpose::Pull), Ok(true));
        for other in [
            json!("presence:read-all,x"),
            json!("Presence:read-all"),
            json!("presence:read"),
            json!("presence:read-all-of-it"),
            json!(["presence:read-all"]),
            json!(true),
            Value::Null,
        ] {
            assert_eq!(read(None, other.clone(), Purpose::Pull), Ok(false));
            let refused = read(needed, other.clone(), Purpose::Pull);
            assert_eq!(refused, Err(TokenError::Scope), "{other}");
        }
        // It needs all that every token needs.
        let expired = json!({"sub": "push", "exp": in_s(-60), "aud": "presence",
            "iss": "https://id.example", "scope": READ_ALL_SCOPE});
        let token = |claims: &Value| sign(&Header::default(), claims);
        let auth = Auth::new(SECRET, rules());
        let refused = auth.verify(&token(&expired), Purpose::Pull);
        assert_eq!(refused, Err(TokenError::Expired));
        let mut nobody = claims();
        nobody["scope"] = READ_ALL_SCOPE.into();
        nobody.as_object_mut().unwrap().remove("sub");
        let refused = Err(TokenError::Invalid(TokenFault::UserClaim));
        assert_eq!(auth.verify(&token(&nobody), Purpose::Pull), refused);
    }

    #[test]
    fn headers_that_must_not_pass() {
        let auth = Auth::new(SECRET, rules());
        let header = |typ: &str| Header {
            typ: Some(typ.into()),
            ..Header::default()
        };
        assert!(
            auth.verify(&sign(&header("at+JWT"), &claims()), Purpose::Session)
                .is_ok()
        );
        assert!(
            auth.verify(
                &sign(&header("application/jwt"), &claims()),
                Purpose::Session
            )
            .is_ok()
        );
        let refused = |token: &str| match auth.verify(token, Purpose::Session) {
            Err(TokenError::Invalid(fault)) => fault,
            other => panic!("{other:?}"),
        };
        let other = sign(&header("secevent+jwt"), &claims());
        assert_eq!(refused(&other), TokenFault::Typ);
        let null = br#"{"alg":"HS256","typ":null}"#;
        let null = sign_bytes(null, claims().to_string().as_bytes());
        assert_eq!(refused(&null), TokenFault::Typ);
        let crit = Header {
            crit: Some(vec!["x-must".into()]),
            ..Header::default()
        };
        assert_eq!(refused(&sign(&crit, &claims())), TokenFault::Crit);
        for algorithm in [Algorithm::HS384, Algorithm::HS512] {
            let token = sign(&Header::new(algorithm), &claims());
            assert_eq!(refused(&token), TokenFault::Algorithm, "{algorithm:?}");
        }
    }

    #[test]
    fn forgeries() {
        use TokenFault::{Algorithm, Malformed, Signature, TooLong};
        let auth = Auth::new(SECRET, rules());
        let good = sign(&Header::default(), &claims());
        let (_, rest) = good.split_once('.').unwrap();
        let (body, _) = rest.split_once('.').unwrap();
        let head = |json: &str| format!("{}.{rest}", BASE64_URL_SAFE_NO_PAD.encode(json));
        let other_key = EncodingKey::from_secret(b"another secret of thirty-two byte");
        let other = encode(&Header::default(), &claims(), &other_key).unwrap();
        for (token, fault) in [
            (String::new(), Malformed),
            ("..".into(), Malformed),
            ("a.b.c.d".into(), Malformed),
            ("a!.b!.c!".into(), Malformed),
            ("a".repeat(TOKEN_BYTES_MAX + 1), TooLong),
            (good[..good.rfind('.').unwrap() + 1].to_string(), Signature),
            (head(r#"{"alg":"none"}"#), Algorithm),
            (head(r#"{"alg":"nOnE"}"#), Algorithm),
            (head(r#"{"alg":"RS256","typ":"JWT"}"#), Algorithm),
            (head(r#"{"typ":"JWT"}"#), Algorithm),
            (head(r#"{"alg":1}"#), Algorithm),
            (head(r#"{"alg":"HS256","typ":1}"#), Malformed),
            (head(r#"["HS256"]"#), Malformed),
            (head(r#"{"alg":"HS256"}"#), Signature),
            (format!("{good}x"), Signature),
            (good.replace(body, &format!("{body}A")), Signature),
            (other, Signature),
        ] {
            let refused = Err(TokenError::Invalid(fault));
            assert_eq!(auth.verify(&token, Purpose::Session), refused, "{token:?}");
            assert_eq!(auth.signed_user(&token), None, "{token:?}");
        }
        assert!(auth.verify(&good, Purpose::Session).is_ok());
    }

    #[test]
    fn claims_that_are_no_object() {
        let auth = Auth::new(SECRET, rules());
        let key = EncodingKey::from_secret(SECRET);
        let signed = |claims: Value| encode(&Header::default(), &claims, &key).unwrap();
        for claims in [json!([]), json!("alice"), json!(1)] {
            let refused = auth.verify(&signed(claims), Purpose::Session);
            assert_eq!(refused, Err(TokenError::Invalid(TokenFault::Claims)));
        }
    }

    #[test]
    fn the_user_of_a_signed_token_is_known_whatever_else_is_wrong() {
        let auth = Auth::new(SECRET, rules());
        let user = |claims: Value| auth.signed_user(&sign(&Header::default(), &claims));
        assert_eq!(user(json!({"sub": "alice"})).as_deref(), Some("alice"));
        assert_eq!(
            user(json!({"sub": 7, "exp": 1, "nbf": in_s(60)})).as_deref(),
            Some("7")
        );
        assert_eq!(
            user(json!({"sub": "a b", "aud": 1})).as_deref(),
            Some("a b")
        );
        assert_eq!(user(json!({"sub": ["alice"]})), None);
        assert_eq!(user(json!({})), None);
        let long = user(json!({"sub": "\u{e9}".repeat(1000)})).unwrap();
        assert_eq!(long.chars().count(), USER_ID_BYTES_MAX);
    }
}
