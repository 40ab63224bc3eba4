//! The claims that are registered (RFC 7519 §4.1), and what they must say: when a token is good, whose it is, and
//! whom it is for.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::Value;

use super::claims::Claims;
use super::fault::{TokenError, TokenFault};
use super::issuer::{Audience, IssuerConfig};

/// Checks them for a token of `issuer` at a time, in Unix seconds, and with a difference of clocks that is allowed:
/// first their types, then the times, which are all that a newer token may have otherwise, then the rest.
pub(super) fn check(
    claims: &Claims,
    issuer: &IssuerConfig,
    now_s: u64,
    leeway_s: u64,
) -> Result<(), TokenError> {
    let exp_s = date_s(claims.get("exp"))?.ok_or(TokenError::Invalid(TokenFault::Claims))?;
    let nbf_s = date_s(claims.get("nbf"))?;
    // §4.1.6.
    if claims.get("iat").is_some_and(|iat| !iat.is_number()) {
        return Err(TokenError::Invalid(TokenFault::Claims));
    }
    // §4.1.2: one text, or a number, as many write it; whether it names the user or not.
    if claims
        .get("sub")
        .is_some_and(|sub| sub.is_array() || sub.is_object())
    {
        return Err(TokenError::Invalid(TokenFault::Claims));
    }
    if exp_s < now_s.saturating_sub(leeway_s) {
        return Err(TokenError::Expired);
    }
    if nbf_s.is_some_and(|nbf_s| nbf_s > now_s.saturating_add(leeway_s)) {
        return Err(TokenError::Invalid(TokenFault::NotYetValid));
    }
    // §4.1.1: one text, not several.
    let iss = claims.get("iss").and_then(Value::as_str);
    if issuer.name.is_some() && issuer.name.as_deref() != iss {
        return Err(TokenError::Invalid(TokenFault::Issuer));
    }
    match is_for(claims.get("aud"), &issuer.audience) {
        true => Ok(()),
        false => Err(TokenError::Invalid(TokenFault::Audience)),
    }
}

/// A time (§2) in whole seconds. `None` if there is none.
fn date_s(claim: Option<&Value>) -> Result<Option<u64>, TokenError> {
    let Some(claim) = claim else {
        return Ok(None);
    };
    let of_fraction = || {
        let seconds = claim.as_f64().filter(|_| claim.is_f64())?;
        // All that fits: neither bound is rounded.
        (0.0..u64::MAX as f64)
            .contains(&seconds)
            .then(|| seconds.round() as u64)
    };
    match claim.as_u64().or_else(of_fraction) {
        Some(seconds) => Ok(Some(seconds)),
        None => Err(TokenError::Invalid(TokenFault::Claims)),
    }
}

/// Whether an `aud` is as it must be (§4.1.3).
fn is_for(aud: Option<&Value>, audience: &Audience) -> bool {
    match (audience, aud) {
        (Audience::Any, _) | (Audience::None, None) => true,
        (Audience::Named(name), Some(Value::String(only))) => only == name,
        (Audience::Named(name), Some(Value::Array(all))) => {
            all.iter().all(Value::is_string) && all.iter().any(|one| one == name)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW_S: u64 = 1_000_000;
    const LEEWAY_S: u64 = 5;

    fn found(change: impl FnOnce(&mut Value)) -> Result<(), TokenError> {
        let mut claims = json!({"exp": NOW_S + 1, "iss": "https://id.example", "aud": "presence"});
        change(&mut claims);
        let claims: Claims = serde_json::from_value(claims).unwrap();
        let issuer = IssuerConfig {
            name: Some("https://id.example".into()),
            audience: Audience::Named("presence".into()),
            user_claim: "sub".into(),
            keys: Vec::new(),
            source: None,
        };
        check(&claims, &issuer, NOW_S, LEEWAY_S)
    }

    #[test]
    fn times_to_the_second_with_a_leeway() {
        let [not_yet, malformed] = [TokenFault::NotYetValid, TokenFault::Claims]
            .map(|fault| Err(TokenError::Invalid(fault)));
        let now = NOW_S as f64;
        for (name, value, expected) in [
            ("exp", json!(NOW_S - 5), Ok(())),
            ("exp", json!(NOW_S - 6), Err(TokenError::Expired)),
            ("exp", json!(now - 5.5), Ok(())),
            ("exp", json!(now - 5.6), Err(TokenError::Expired)),
            ("exp", json!(0), Err(TokenError::Expired)),
            ("exp", json!(u64::MAX), Ok(())),
            ("exp", json!(1.9e19), malformed),
            ("exp", json!(-1), malformed),
            ("exp", json!(-0.5), malformed),
            ("exp", json!("1000001"), malformed),
            ("exp", Value::Null, malformed),
            ("nbf", json!(NOW_S + 5), Ok(())),
            ("nbf", json!(NOW_S + 6), not_yet),
            ("nbf", json!(u64::MAX), not_yet),
            ("nbf", json!([NOW_S]), malformed),
            ("nbf", Value::Null, malformed),
            ("iat", json!(-1.5), Ok(())),
            ("iat", json!("now"), malformed),
            ("iat", Value::Null, malformed),
            ("sub", json!(7), Ok(())),
            ("sub", json!({}), malformed),
        ] {
            let found = found(|claims| claims[name] = value.clone());
            assert_eq!(found, expected, "{name}: {value}");
        }
        let none = found(|claims| drop(claims.as_object_mut().unwrap().remove("exp")));
        assert_eq!(none, malformed);
    }

    #[test]
    fn an_audience_is_one_text_or_several() {
        let other = Err(TokenError::Invalid(TokenFault::Audience));
        for (aud, expected) in [
            (json!(["x", "presence"]), Ok(())),
            (json!(["presence", "presence"]), Ok(())),
            (json!(["presence", 1]), other),
            (json!([["presence"]]), other),
            (json!([]), other),
            (json!("presence "), other),
            (json!({"presence": true}), other),
            (Value::Null, other),
        ] {
            let found = found(|claims| claims["aud"] = aud.clone());
            assert_eq!(found, expected, "{aud}");
        }
    }

    #[test]
    fn an_expired_token_is_one_whatever_else_it_says() {
        let found = found(|claims| {
            claims["exp"] = json!(1);
            claims["iss"] = json!("https://other.example");
        });
        assert_eq!(found, Err(TokenError::Expired));
    }
}
