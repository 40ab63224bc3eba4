//! Tokens: JWTs (RFC 7519) signed with HS256, checked as RFC 8725 advises.
//!
//! The algorithm comes from the key, never from the token. `kid`, `jku`, `jwk` and `x5u` are not
//! looked at: there is one key, and nothing is fetched.

use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Header, TokenData, Validation, decode};
use presenced_presence::UserId;
use presenced_session::clock::unix_ms;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::gateway::refusal::Refusal;
use crate::limits::{TOKEN_BYTES_MAX, TOKEN_LEEWAY};

/// What a token must be.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `aud` must name it, if set.
    pub audience: Option<String>,
    /// `iss` must be it, if set.
    pub issuer: Option<String>,
    /// The claim that has the user's id: a string or an integer.
    pub user_claim: String,
    /// How far ahead `exp` may be.
    pub lifetime_max: Duration,
}

/// The user whom a token names, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user whom the token names.
    pub user: UserId,
    /// Time that is left, at most.
    pub valid_for: Duration,
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
    pub fn verify(&self, token: &str) -> Result<Identity, Refusal> {
        if token.len() > TOKEN_BYTES_MAX || token.bytes().filter(|&byte| byte == b'.').count() != 2
        {
            return Err(Refusal::TokenInvalid);
        }
        let TokenData { header, claims } =
            match decode::<Map<String, Value>>(token, &self.key, &self.validation) {
                Ok(token) => token,
                Err(error) => return Err(self.refusal(token, error.kind())),
            };
        if !is_typ_known(&header) || header.crit.is_some() {
            return Err(Refusal::TokenInvalid);
        }
        let user = user_of(claims.get(&self.rules.user_claim))?;
        let valid_for = self.valid_for(&claims).ok_or(Refusal::TokenInvalid)?;
        Ok(Identity { user, valid_for })
    }

    fn refusal(&self, token: &str, error: &ErrorKind) -> Refusal {
        match error {
            ErrorKind::ExpiredSignature => Refusal::TokenExpired,
            // The signature is good, but the claims are not JSON in UTF-8. If they are but for
            // the strings, a string is what is wrong; the one that matters is the user's id.
            ErrorKind::Json(_) if decode::<Claims>(token, &self.key, &self.validation).is_ok() => {
                Refusal::UserId
            }
            _ => Refusal::TokenInvalid,
        }
    }

    /// Time to `exp` and the leeway, if `exp` is not further ahead than allowed.
    fn valid_for(&self, claims: &Map<String, Value>) -> Option<Duration> {
        let exp_s = claims.get("exp")?.as_f64()?;
        let left_s = exp_s + TOKEN_LEEWAY.as_secs_f64() - unix_ms() as f64 / 1000.0;
        let left = Duration::try_from_secs_f64(left_s.max(0.0)).ok()?;
        (left <= self.rules.lifetime_max + 2 * TOKEN_LEEWAY).then_some(left)
    }
}

/// Claims whose values are not looked at.
type Claims = std::collections::HashMap<String, IgnoredAny>;

/// RFC 8725 §3.11: a token made for something else must not pass for one of ours.
fn is_typ_known(header: &Header) -> bool {
    let Some(typ) = &header.typ else {
        return true;
    };
    let typ = typ.to_ascii_lowercase();
    // RFC 7515 §4.1.9: "application/" may be left out.
    matches!(
        typ.strip_prefix("application/").unwrap_or(&typ),
        "jwt" | "at+jwt"
    )
}

fn user_of(claim: Option<&Value>) -> Result<UserId, Refusal> {
    let id = match claim {
        Some(Value::String(id)) => UserId::new(id),
        Some(Value::Number(id)) if id.is_i64() || id.is_u64() => UserId::new(&id.to_string()),
        _ => return Err(Refusal::TokenInvalid),
    };
    id.map_err(|_| Refusal::UserId)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use jsonwebtoken::{EncodingKey, encode};
    use serde_json::json;

    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn rules() -> Rules {
        Rules {
            audience: Some("presence".into()),
            issuer: Some("https://id.example".into()),
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

    fn verify(claims: &Value) -> Result<Identity, Refusal> {
        Auth::new(SECRET, rules()).verify(&sign(&Header::default(), claims))
    }

    fn with(name: &str, value: Value) -> Result<String, Refusal> {
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
        use Refusal::{TokenExpired, TokenInvalid};
        for (name, value, refusal) in [
            ("exp", Value::Null, TokenInvalid),
            ("exp", json!("soon"), TokenInvalid),
            ("exp", json!(in_s(-10)), TokenExpired),
            ("exp", json!(in_s(86_400 + 60)), TokenInvalid),
            ("exp", json!(253_402_300_800u64), TokenInvalid),
            ("nbf", json!(in_s(60)), TokenInvalid),
            ("aud", Value::Null, TokenInvalid),
            ("aud", json!("other"), TokenInvalid),
            ("iss", Value::Null, TokenInvalid),
            ("iss", json!(1), TokenInvalid),
            ("iss", json!("https://id.example.evil"), TokenInvalid),
            ("sub", Value::Null, TokenInvalid),
            ("sub", json!(1.5), TokenInvalid),
            ("sub", json!(["alice"]), TokenInvalid),
        ] {
            assert_eq!(with(name, value.clone()), Err(refusal), "{name} {value}");
        }
        assert!(with("exp", json!(in_s(-3))).is_ok(), "within the leeway");
        assert!(with("nbf", json!(in_s(3))).is_ok(), "within the leeway");
        assert!(with("aud", json!(["x", "presence"])).is_ok());
    }

    #[test]
    fn user_ids_that_no_key_can_have() {
        for id in ["", "a b", "u1\r\nflush_all", &"x".repeat(201)] {
            assert_eq!(with("sub", json!(id)), Err(Refusal::UserId), "{id:?}");
        }
        // Not UTF-8, yet signed.
        let claims = format!(
            r#"{{"exp":{},"aud":"presence","iss":"https://id.example","sub":"#,
            in_s(60)
        );
        let claims = [claims.as_bytes(), b"\"\xff\xfe\"}"].concat();
        let head = BASE64_URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256"}"#);
        let message = format!("{head}.{}", BASE64_URL_SAFE_NO_PAD.encode(claims));
        let key = EncodingKey::from_secret(SECRET);
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        let verified = Auth::new(SECRET, rules()).verify(&format!("{message}.{signature}"));
        assert_eq!(verified, Err(Refusal::UserId));
    }

    #[test]
    fn headers_that_must_not_pass() {
        let auth = Auth::new(SECRET, rules());
        let header = |typ: &str| Header {
            typ: Some(typ.into()),
            ..Header::default()
        };
        assert!(auth.verify(&sign(&header("at+JWT"), &claims())).is_ok());
        assert!(
            auth.verify(&sign(&header("application/jwt"), &claims()))
                .is_ok()
        );
        let other = sign(&header("secevent+jwt"), &claims());
        assert_eq!(auth.verify(&other), Err(Refusal::TokenInvalid));
        let crit = Header {
            crit: Some(vec!["x-must".into()]),
            ..Header::default()
        };
        assert_eq!(
            auth.verify(&sign(&crit, &claims())),
            Err(Refusal::TokenInvalid)
        );
        for algorithm in [Algorithm::HS384, Algorithm::HS512] {
            let token = sign(&Header::new(algorithm), &claims());
            assert_eq!(
                auth.verify(&token),
                Err(Refusal::TokenInvalid),
                "{algorithm:?}"
            );
        }
    }

    #[test]
    fn forgeries() {
        let auth = Auth::new(SECRET, rules());
        let good = sign(&Header::default(), &claims());
        let body = good.split('.').nth(1).unwrap();
        let none = BASE64_URL_SAFE_NO_PAD.encode(br#"{"alg":"none"}"#);
        let none_mixed = BASE64_URL_SAFE_NO_PAD.encode(br#"{"alg":"nOnE"}"#);
        let other_key = EncodingKey::from_secret(b"another secret of thirty-two byte");
        let other = encode(&Header::default(), &claims(), &other_key).unwrap();
        for token in [
            String::new(),
            "..".into(),
            "a.b.c.d".into(),
            "a".repeat(TOKEN_BYTES_MAX + 1),
            good[..good.rfind('.').unwrap() + 1].to_string(),
            format!("{none}.{body}."),
            format!("{none_mixed}.{body}."),
            format!("{good}x"),
            other,
        ] {
            assert_eq!(auth.verify(&token), Err(Refusal::TokenInvalid), "{token:?}");
        }
        assert!(auth.verify(&good).is_ok());
    }
}
