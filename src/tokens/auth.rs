//! Tokens: JWTs (RFC 7519), checked as RFC 8725 advises.
//!
//! Which algorithms a key is for is said with the key, never by the token. `jku`, `jwk` and `x5u` are not
//! looked at: nothing is fetched that a token names. `kid` chooses among the keys of its issuer, and may
//! be a reason to fetch these again, from where the operator says.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use presenced_jwt::{Algorithm, verify};
use presenced_presence::UserId;
use presenced_presence::limits::USER_ID_BYTES_MAX;
use presenced_session::clock::unix_ms;
use serde::Deserialize;
use serde_json::Value;

use super::claims::{Claims, has_word};
use super::fault::{TokenError, TokenFault};
use super::head::Head;
use super::issuer::{Candidates, Issuer, IssuerConfig, KeySource, Places};
use super::key::Key;
use super::registered;
use super::revocations::{Jti, Revocations, TokenId};

/// The word in `scope` without which a token opens no session, if scopes are required.
pub const CONNECT_SCOPE: &str = "presence:connect";

/// The word in `scope` without which a token's pulls are refused, if scopes are required.
pub const READ_SCOPE: &str = "presence:read";

/// The word in `scope` that makes a token a service token: a back end of the operator's pulls with
/// it, for all its users.
pub const READ_ALL_SCOPE: &str = "presence:read-all";

/// What an operator may set of tokens.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whose tokens are accepted; with several, each has a name, and no two have the same.
    pub issuers: Vec<IssuerConfig>,
    /// What the tokens of all must be.
    pub rules: Rules,
}

impl Config {
    /// Whether there are keys of any issuer, or will be.
    pub fn has_key(&self) -> bool {
        self.issuers.iter().any(IssuerConfig::has_key)
    }

    /// Where keys are fetched.
    pub fn sources(&self) -> impl Iterator<Item = &Arc<KeySource>> {
        self.issuers
            .iter()
            .filter_map(|issuer| issuer.source.as_ref())
    }
}

/// What every token must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Longest token, in bytes.
    pub bytes_max: usize,
    /// How far ahead `exp` may be.
    pub lifetime_max: Duration,
    /// Clock difference allowed, in whole seconds.
    pub leeway: Duration,
    /// Whether `scope` must say what a token is for: [`CONNECT_SCOPE`] for sessions, [`READ_SCOPE`]
    /// or [`READ_ALL_SCOPE`] for pulls.
    pub require_scope: bool,
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
    /// What a session has of it beside the user.
    pub grant: Grant,
    /// Whether it is a service token ([`READ_ALL_SCOPE`]): its pulls are those of a back end, which
    /// asks for many users.
    pub reads_all: bool,
    /// By what it would be revoked later.
    pub token: TokenId,
}

/// What a token gives to a session beside its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Whose token it is: the issuer's place, which it keeps when settings change.
    pub issuer: u16,
    /// Whether it may pull.
    pub reads: bool,
}

impl Default for Grant {
    /// What most sessions have.
    fn default() -> Grant {
        Grant {
            issuer: 0,
            reads: true,
        }
    }
}

/// Checks tokens.
#[derive(Debug)]
pub struct Auth {
    issuers: Vec<Issuer>,
    places: Places,
    rules: Rules,
    revocations: Arc<Revocations>,
}

impl Auth {
    /// For tokens of the issuers in `config`, of which there are [`ISSUER_NAMES_MAX`](crate::limits::ISSUER_NAMES_MAX) at most.
    pub fn new(config: Config) -> Auth {
        let none = Auth {
            issuers: Vec::new(),
            places: Places::default(),
            rules: config.rules,
            revocations: Arc::default(),
        };
        none.succeeded_by(config).unwrap_or(none)
    }

    /// The one that takes its place, for tokens of the issuers in `config`. Sessions know their issuers by the same
    /// places, what is revoked stays so, and keys that are fetched from where they have been are kept.
    /// `None` if there have been more issuers than are told apart, [`ISSUER_NAMES_MAX`](crate::limits::ISSUER_NAMES_MAX).
    pub fn succeeded_by(&self, config: Config) -> Option<Auth> {
        let mut places = self.places.clone();
        let of_issuers = places.of(&config.issuers, &self.issuers)?;
        let issuers = config.issuers.into_iter().zip(of_issuers);
        let issuers = issuers.map(|(mut issuer, place)| {
            issuer.source = issuer.source.map(|source| self.same_source(source));
            Issuer {
                config: issuer,
                place,
            }
        });
        Some(Auth {
            issuers: issuers.collect(),
            places,
            rules: config.rules,
            revocations: self.revocations.clone(),
        })
    }

    /// Where keys are fetched.
    pub fn sources(&self) -> impl Iterator<Item = &Arc<KeySource>> {
        let issuers = self.issuers.iter();
        issuers.filter_map(|issuer| issuer.config.source.as_ref())
    }

    /// The source that fetches what `source` would, if there is one, which may have keys.
    fn same_source(&self, source: Arc<KeySource>) -> Arc<KeySource> {
        let same = self.sources().find(|own| own.is_like(&source)).cloned();
        same.unwrap_or(source)
    }

    /// The same, which refuses what is revoked.
    #[must_use]
    pub fn heeding(self, revocations: Arc<Revocations>) -> Auth {
        Auth {
            revocations,
            ..self
        }
    }

    /// What is revoked.
    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// Longest token, in bytes.
    pub fn token_bytes_max(&self) -> usize {
        self.rules.bytes_max
    }

    /// Checks `token`: the cheap things first, then the signature, then the claims.
    ///
    /// # Errors
    ///
    /// Why the token is refused.
    pub fn verify(&self, token: &str, purpose: Purpose) -> Result<Identity, TokenError> {
        let read = self.read(token).map_err(TokenError::Invalid)?;
        self.verify_read(&read, purpose)
    }

    /// The same. If none of the keys has signed `token`, newer ones of its issuer are awaited, for two
    /// seconds at most ([`Source::newer`](super::jwks::Source::newer)).
    ///
    /// # Errors
    ///
    /// Why the token is refused.
    pub async fn verify_with_newer_keys(
        &self,
        token: &str,
        purpose: Purpose,
    ) -> Result<Identity, TokenError> {
        let mut read = self.read(token).map_err(TokenError::Invalid)?;
        let verified = self.verify_read(&read, purpose);
        let (Some(source), Some(seen)) = (&read.issuer.config.source, &read.fetched) else {
            return verified;
        };
        match verified {
            // In a box, for it is rare, and every request would have room for it.
            Err(error) if error.is_of_keys() => match Box::pin(source.newer(seen)).await {
                Some(newer) => {
                    read.fetched = Some(newer);
                    self.verify_read(&read, purpose)
                }
                None => Err(error),
            },
            verified => verified,
        }
    }

    fn verify_read(&self, read: &Read<'_>, purpose: Purpose) -> Result<Identity, TokenError> {
        let issuer = read.issuer;
        let (_, claims) = read.signed()?;
        let (now_s, leeway_s) = (unix_ms() / 1000, self.rules.leeway.as_secs());
        registered::check(&claims, &issuer.config, now_s, leeway_s)?;
        read.head.check().map_err(TokenError::Invalid)?;
        let user = user_of(claims.at(&issuer.config.user_claim))?;
        let valid_for = self.valid_for(&claims).map_err(TokenError::Invalid)?;
        let has = |word| {
            let mut lists = ["scope", "scp"]
                .into_iter()
                .filter_map(|name| claims.get(name));
            lists.any(|list| has_word(list, word))
        };
        let may = |word| !self.rules.require_scope || has(word);
        let (reads, reads_all) = (may(READ_SCOPE), has(READ_ALL_SCOPE));
        let is_enough = match purpose {
            Purpose::Session => may(CONNECT_SCOPE),
            Purpose::Pull => reads || reads_all,
        };
        if !is_enough {
            return Err(TokenError::Scope);
        }
        let token = token_id(&claims);
        if self.revocations.refuse(&user, &token, now_s) {
            return Err(TokenError::Invalid(TokenFault::Revoked));
        }
        Ok(Identity {
            user,
            valid_for,
            grant: Grant {
                issuer: issuer.place,
                reads,
            },
            reads_all,
            token,
        })
    }

    /// The user's id in a token that was signed with one of our keys, whatever else is wrong with
    /// it: for the log. What is not signed may say anything, so it is not read.
    pub fn signed_user(&self, token: &str) -> Option<String> {
        let read = self.read(token).ok()?;
        let (_, claims) = read.signed().ok()?;
        match claims.at(&read.issuer.config.user_claim)? {
            Value::String(id) => Some(id.chars().take(USER_ID_BYTES_MAX).collect()),
            Value::Number(id) => Some(id.to_string()),
            _ => None,
        }
    }

    /// Which key has signed a token, whatever else is wrong with it.
    pub fn checked_by<'a>(&'a self, token: &'a str) -> Option<CheckedBy<'a>> {
        let read = self.read(token).ok()?;
        let (key, _) = read.signed().ok()?;
        let mut own = read.issuer.config.keys.iter();
        Some(CheckedBy {
            issuer: &read.issuer.config,
            algorithm: read.head.algorithm,
            key_id: key.id().map(str::to_owned),
            place: own.position(|own| std::ptr::eq(own, key)),
        })
    }

    /// The issuer that a token says it is of, or the only one.
    pub fn issuer_named(&self, token: &str) -> Option<&IssuerConfig> {
        let issuer = self.issuer_of(part(token, 1).as_deref()).ok()?;
        Some(&issuer.config)
    }

    /// What a token says of itself, and whose it may be.
    fn read<'a>(&'a self, token: &'a str) -> Result<Read<'a>, TokenFault> {
        // No token is valid yet by such a clock.
        if unix_ms() == 0 {
            return Err(TokenFault::NotYetValid);
        }
        if token.len() > self.rules.bytes_max {
            return Err(TokenFault::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenFault::Malformed)?;
        let (head, claims) = message.split_once('.').ok_or(TokenFault::Malformed)?;
        if claims.contains('.') {
            return Err(TokenFault::Malformed);
        }
        let head = bytes_of(head).ok_or(TokenFault::Malformed)?;
        let head = Head::read(&head)?;
        let claims = bytes_of(claims);
        let issuer = self.issuer_of(claims.as_deref())?;
        let source = issuer.config.source.as_ref();
        Ok(Read {
            message,
            signature,
            head,
            claims,
            issuer,
            fetched: source.and_then(|source| source.keys()),
        })
    }

    /// The issuer that a token names in its claims, which its signature has still to prove.
    fn issuer_of(&self, claims: Option<&[u8]>) -> Result<&Issuer, TokenFault> {
        #[derive(Deserialize)]
        struct Named {
            iss: Option<Value>,
        }
        if let [only] = self.issuers.as_slice() {
            return Ok(only);
        }
        let claims = claims.ok_or(TokenFault::Malformed)?;
        let named = serde_json::from_slice::<Named>(claims).map_err(|_| TokenFault::ClaimsJson)?;
        let name = named.iss.as_ref().and_then(Value::as_str);
        let mut issuers = self.issuers.iter();
        issuers
            .find(|issuer| name.is_some() && issuer.config.name.as_deref() == name)
            .ok_or(TokenFault::Issuer)
    }

    /// Time to `exp` and the leeway, if `exp` is not further ahead than allowed.
    fn valid_for(&self, claims: &Claims) -> Result<Duration, TokenFault> {
        let leeway = self.rules.leeway;
        let exp_s = claims.get("exp").and_then(Value::as_f64);
        let exp_s = exp_s.ok_or(TokenFault::Claims)?;
        let left_s = exp_s + leeway.as_secs_f64() - unix_ms() as f64 / 1000.0;
        let left = Duration::try_from_secs_f64(left_s.max(0.0)).ok();
        left.filter(|left| *left <= self.rules.lifetime_max + 2 * leeway)
            .ok_or(TokenFault::LifetimeTooLong)
    }
}

/// What has proved a token.
#[derive(Clone, Debug)]
pub struct CheckedBy<'a> {
    /// Whose token it is.
    pub issuer: &'a IssuerConfig,
    /// How it is signed.
    pub algorithm: Algorithm,
    /// The name of the key.
    pub key_id: Option<String>,
    /// Which of the issuer's own keys it is; `None` for one that was fetched.
    pub place: Option<usize>,
}

/// A token's head and claims, as they are, of which nothing is proved; `None` for what is no JSON.
pub fn contents(token: &str) -> [Option<Value>; 2] {
    [0, 1].map(|number| serde_json::from_slice(&part(token, number)?).ok())
}

/// A token of which nothing is proved.
struct Read<'a> {
    /// What is signed: the head and the claims, in base64 and with the dot between them.
    message: &'a str,
    /// In base64.
    signature: &'a str,
    head: Head,
    /// JSON, if it is any. `None` if they are no base64.
    claims: Option<Vec<u8>>,
    issuer: &'a Issuer,
    /// The issuer's keys that were fetched, if there are any.
    fetched: Option<Arc<Vec<Key>>>,
}

impl Read<'_> {
    /// The claims, whatever they are, and the key of the issuer that has signed them.
    fn signed(&self) -> Result<(&Key, Claims), TokenError> {
        let key = self.key()?;
        let claims = self.claims().map_err(TokenError::Invalid)?;
        Ok((key, claims))
    }

    /// The key of the issuer that has signed the token.
    fn key(&self) -> Result<&Key, TokenError> {
        let is_without_keys = self.issuer.config.source.is_some() && self.fetched.is_none();
        // It may be signed with a key that is still to be fetched.
        let invalid = |fault| match TokenError::Invalid(fault) {
            error if error.is_of_keys() && is_without_keys => Err(TokenError::NoKeys),
            error => Err(error),
        };
        let (algorithm, id) = (self.head.algorithm, self.head.key_id.as_deref());
        let keys = match self
            .issuer
            .candidates(self.fetched.as_deref(), algorithm, id)
        {
            Candidates::Keys(keys) => keys,
            Candidates::UnknownId => return invalid(TokenFault::UnknownKey),
            Candidates::Algorithm => return invalid(TokenFault::Algorithm),
        };
        for key in keys {
            let message = self.message.as_bytes();
            match verify(self.signature, message, key.decoding_key(), algorithm) {
                Ok(true) => return Ok(key),
                Ok(false) => {}
                // The signature is no base64, for any key: each is checked before it is one of the issuer's.
                Err(_) => return invalid(TokenFault::Malformed),
            }
        }
        invalid(TokenFault::Signature)
    }

    fn claims(&self) -> Result<Claims, TokenFault> {
        let json = self.claims.as_deref().ok_or(TokenFault::Malformed)?;
        serde_json::from_slice(json).map_err(|_| {
            // JSON in UTF-8, and not nested too deep to be read: a name is there twice, or it is no object.
            match serde_json::from_slice::<Value>(json) {
                Ok(_) => TokenFault::Claims,
                Err(_) => TokenFault::ClaimsJson,
            }
        })
    }
}

/// What a part of a token has in it; `None` if it is no base64.
fn part(token: &str, number: usize) -> Option<Vec<u8>> {
    bytes_of(token.split('.').nth(number)?)
}

fn bytes_of(part: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(part).ok()
}

/// What revocations go by. A `jti` that none can name is none; an `iat` before 1970 is 0.
fn token_id(claims: &Claims) -> TokenId {
    let jti = claims.get("jti").and_then(Value::as_str);
    let issued_at_s = claims.get("iat").and_then(Value::as_f64);
    TokenId {
        jti: jti.and_then(Jti::new),
        issued_at_s: issued_at_s.map(|at_s| at_s as u64),
    }
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
    use presenced_jwt::{EncodingKey, Header, encode, sign as signature};
    use presenced_presence::UserIdError;
    use serde_json::json;

    use super::*;
    use crate::limits::ISSUER_NAMES_MAX;
    use crate::tokens::{Audience, Secret};

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    const BYTES_MAX: usize = 4096;

    fn config() -> Config {
        let secret = Secret::new(SECRET).unwrap();
        Config {
            issuers: vec![IssuerConfig {
                name: Some("https://id.example".into()),
                audience: Audience::Named("presence".into()),
                user_claim: "sub".into(),
                keys: vec![Key::of_secret(&secret)],
                source: None,
            }],
            rules: Rules {
                bytes_max: BYTES_MAX,
                lifetime_max: Duration::from_secs(86_400),
                leeway: Duration::from_secs(5),
                require_scope: false,
            },
        }
    }

    fn with_scopes() -> Auth {
        let mut config = config();
        config.rules.require_scope = true;
        Auth::new(config)
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
        Auth::new(config()).verify(&sign(&Header::default(), claims), Purpose::Session)
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
    fn issuers_keep_their_places_whatever_comes_and_goes() {
        let named = |name: &str| IssuerConfig {
            name: (!name.is_empty()).then(|| name.to_owned()),
            ..config().issuers.remove(0)
        };
        let with = |names: &[&str]| Config {
            issuers: names.iter().map(|name| named(name)).collect(),
            ..config()
        };
        let places = |auth: &Auth| -> Vec<u16> {
            let issuers = auth.issuers.iter();
            issuers.map(|issuer| issuer.place).collect()
        };
        let mut auth = Auth::new(with(&["a"]));
        for (names, expected) in [
            (&["a", "b"][..], vec![0, 1]),
            (&["b", "a"], vec![1, 0]),
            (&["c", "a"], vec![2, 0]),
            (&["b"], vec![1]),
            // The only one has another name.
            (&["a"], vec![1]),
            (&[""], vec![1]),
            (&["a"], vec![1]),
            (&["d", "a"], vec![3, 1]),
            (&["a", "b"], vec![1, 4]),
        ] {
            auth = auth.succeeded_by(with(names)).unwrap();
            assert_eq!(places(&auth), expected, "{names:?}");
        }
        let mut names = ISSUER_NAMES_MAX - 5;
        while let Some(next) = auth.succeeded_by(with(&["x", &format!("{names}")])) {
            (auth, names) = (next, names + 1);
            assert!(names < 2 * ISSUER_NAMES_MAX);
        }
        assert_eq!(auth.places.0.len(), ISSUER_NAMES_MAX);
        assert!(
            auth.succeeded_by(with(&["x", "a"])).is_some(),
            "it is known"
        );
    }

    #[test]
    fn a_successor_heeds_what_is_revoked() {
        let auth = Auth::new(config()).succeeded_by(config()).unwrap();
        assert!(Arc::ptr_eq(
            auth.revocations(),
            auth.succeeded_by(config()).unwrap().revocations()
        ));
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
        let signature = signature(message.as_bytes(), &key, Algorithm::HS256);
        format!("{message}.{}", signature.unwrap())
    }

    #[test]
    fn claims_that_are_no_json_are_told_apart_from_user_ids() {
        let auth = Auth::new(config());
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
        let auth = Auth::new(config());
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
    fn a_scope_is_needed_where_one_is_required() {
        let auth = with_scopes();
        let read = |auth: &Auth, name: &str, scope: &Value, purpose| {
            let mut claims = claims();
            claims[name] = scope.clone();
            let identity = auth.verify(&sign(&Header::default(), &claims), purpose)?;
            assert_eq!(identity.user.as_str(), "alice");
            Ok((identity.grant.reads, identity.reads_all))
        };
        let refused = Err(TokenError::Scope);
        for (scope, session, pull) in [
            (json!("presence:connect"), Ok((false, false)), refused),
            (json!("presence:read"), refused, Ok((true, false))),
            (json!("presence:read-all"), refused, Ok((false, true))),
            (
                json!("openid presence:connect  presence:read"),
                Ok((true, false)),
                Ok((true, false)),
            ),
            (
                json!(["presence:connect", "presence:read-all"]),
                Ok((false, true)),
                Ok((false, true)),
            ),
            (json!(""), refused, refused),
            (json!("Presence:connect presence:reads"), refused, refused),
            (json!("presence:connect,presence:read"), refused, refused),
            (json!("xpresence:connect"), refused, refused),
            (json!(true), refused, refused),
            (Value::Null, refused, refused),
        ] {
            for name in ["scope", "scp"] {
                assert_eq!(
                    read(&auth, name, &scope, Purpose::Session),
                    session,
                    "{scope}"
                );
                assert_eq!(read(&auth, name, &scope, Purpose::Pull), pull, "{scope}");
                // Where none is required, a service token is one all the same.
                let reads_all = scope.to_string().contains("presence:read-all");
                let free = read(&Auth::new(config()), name, &scope, Purpose::Session);
                assert_eq!(free, Ok((true, reads_all)), "{scope}");
            }
        }
        // What is wrong otherwise comes first, for a service token as for any other.
        let with = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            auth.verify(&sign(&Header::default(), &claims), Purpose::Pull)
        };
        assert_eq!(with("exp", json!(in_s(-60))), Err(TokenError::Expired));
        let nobody = Err(TokenError::Invalid(TokenFault::UserClaim));
        assert_eq!(with("sub", Value::Null), nobody);
    }

    #[test]
    fn what_is_revoked_is_refused_and_what_was_issued_later_is_not() {
        use crate::tokens::{Revocation, Tokens};
        let revocations = Arc::new(Revocations::default());
        let auth = Auth::new(config()).heeding(revocations.clone());
        let with = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            let token = sign(&Header::default(), &claims);
            auth.verify(&token, Purpose::Session).map(drop)
        };
        let alice = UserId::new("alice").unwrap();
        let revoke = |tokens| {
            revocations.add(Revocation {
                tokens,
                before_s: 1000,
                ends_s: in_s(60) as u64,
            })
        };
        revoke(Tokens::One(alice.clone(), Jti::new("t1").unwrap()));
        let refused = Err(TokenError::Invalid(TokenFault::Revoked));
        assert_eq!(with("jti", json!("t1")), refused);
        assert_eq!(with("jti", json!("t2")), Ok(()));
        assert_eq!(with("jti", json!(1)), Ok(()));
        assert_eq!(
            with("iat", Value::Null).map(drop),
            Err(TokenError::Invalid(TokenFault::Claims))
        );
        revoke(Tokens::OfUser(alice));
        // Without `iat`.
        assert_eq!(with("jti", json!("t2")), refused);
        for (iat, expected) in [
            (json!(999), refused),
            (json!(999.9), refused),
            (json!(-1), refused),
            (json!(1000), Ok(())),
            (json!(1000.5), Ok(())),
        ] {
            assert_eq!(with("iat", iat.clone()), expected, "{iat}");
        }
        // What is wrong otherwise comes first.
        assert_eq!(with("exp", json!(in_s(-60))), Err(TokenError::Expired));
    }

    #[test]
    fn headers_that_must_not_pass() {
        let auth = Auth::new(config());
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
        let auth = Auth::new(config());
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
            ("a".repeat(BYTES_MAX + 1), TooLong),
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
        let auth = Auth::new(config());
        let key = EncodingKey::from_secret(SECRET);
        let signed = |claims: Value| encode(&Header::default(), &claims, &key).unwrap();
        for claims in [json!([]), json!("alice"), json!(1)] {
            let refused = auth.verify(&signed(claims), Purpose::Session);
            assert_eq!(refused, Err(TokenError::Invalid(TokenFault::Claims)));
        }
    }

    #[test]
    fn the_user_of_a_signed_token_is_known_whatever_else_is_wrong() {
        let auth = Auth::new(config());
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

    #[test]
    fn an_audience_is_for_someone_else_where_none_is_set() {
        let verify = |audience, aud: Value| {
            let mut config = config();
            config.issuers[0].audience = audience;
            let mut claims = claims();
            claims["aud"] = aud;
            let verified =
                Auth::new(config).verify(&sign(&Header::default(), &claims), Purpose::Session);
            verified.map(drop)
        };
        let refused = Err(TokenError::Invalid(TokenFault::Audience));
        for aud in [
            json!("x"),
            json!(["x"]),
            json!([]),
            json!(1),
            json!({}),
            Value::Null,
        ] {
            assert_eq!(verify(Audience::None, aud.clone()), refused, "{aud}");
            assert_eq!(verify(Audience::Any, aud.clone()), Ok(()), "{aud}");
            assert_eq!(
                verify(Audience::Named("y".into()), aud.clone()),
                refused,
                "{aud}"
            );
        }
        let mut config = config();
        config.issuers[0].audience = Audience::None;
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove("aud");
        let token = sign(&Header::default(), &claims);
        assert!(Auth::new(config).verify(&token, Purpose::Session).is_ok());
    }

    #[test]
    fn no_claim_is_there_twice_or_several() {
        let auth = Auth::new(config());
        let verify = |more: &str| {
            let exp = in_s(60);
            let claims = format!(r#"{{"exp":{exp},"aud":"presence",{more}}}"#);
            let token = sign_bytes(br#"{"alg":"HS256"}"#, claims.as_bytes());
            auth.verify(&token, Purpose::Session).map(drop)
        };
        let good = r#""sub":"a","iss":"https://id.example""#;
        assert_eq!(verify(good), Ok(()));
        for twice in [
            r#""sub":"b""#,
            r#""scope":"x","scope":"y""#,
            r#""x":{"y":[{"z":1,"z":1}]}"#,
            r#""aud":"presence""#,
        ] {
            let refused = Err(TokenError::Invalid(TokenFault::Claims));
            assert_eq!(verify(&format!("{good},{twice}")), refused, "{twice}");
        }
        let several = r#""sub":"a","iss":["https://id.example"]"#;
        assert_eq!(
            verify(several),
            Err(TokenError::Invalid(TokenFault::Issuer))
        );
    }

    #[test]
    fn a_claim_inside_another_may_name_the_user() {
        let verify = |path: &str| {
            let mut config = config();
            config.issuers[0].user_claim = path.into();
            let mut claims = claims();
            claims["https://app.example/uid"] = json!(7);
            claims["user"] = json!({"id": "bob"});
            let token = sign(&Header::default(), &claims);
            let auth = Auth::new(config);
            let logged = auth.signed_user(&token);
            let verified = auth
                .verify(&token, Purpose::Session)
                .map(|is| is.user.to_string());
            assert_eq!(logged, verified.clone().ok());
            verified
        };
        assert_eq!(verify("https://app.example/uid"), Ok("7".into()));
        assert_eq!(verify("user.id"), Ok("bob".into()));
        let nobody = Err(TokenError::Invalid(TokenFault::UserClaim));
        assert_eq!(verify("user.name"), nobody);
        assert_eq!(verify("sub.id"), nobody);
    }

    #[test]
    fn secrets_change_without_a_gap() {
        let [old, new] = [[1; 64], [2; 64]];
        let mut both = config();
        both.issuers[0].keys = [old, new]
            .map(|secret| Key::of_secret(&Secret::new(&secret).unwrap()))
            .into();
        let both = Auth::new(both);
        for (secret, is_good) in [(old, true), (new, true), ([3; 64], false)] {
            for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                // These secrets have no name, so a token may give them any.
                for kid in [None, Some("2026-11".to_owned())] {
                    let header = Header {
                        kid,
                        ..Header::new(algorithm)
                    };
                    let token =
                        encode(&header, &claims(), &EncodingKey::from_secret(&secret)).unwrap();
                    let verified = both.verify(&token, Purpose::Session);
                    assert_eq!(verified.is_ok(), is_good, "{verified:?}");
                }
            }
        }
    }

    #[test]
    fn each_issuer_has_its_own_keys_audience_and_claim() {
        let other = IssuerConfig {
            name: Some("https://other.example".into()),
            audience: Audience::None,
            user_claim: "uid".into(),
            keys: vec![Key::of_secret(&Secret::new(&[2; 32]).unwrap())],
            source: None,
        };
        let mut config = config();
        config.issuers.push(other);
        let auth = Auth::new(config);
        let verify = |claims: &Value, secret: &[u8]| {
            let token = encode(
                &Header::default(),
                claims,
                &EncodingKey::from_secret(secret),
            )
            .unwrap();
            let identity = auth.verify(&token, Purpose::Session)?;
            Ok((identity.user.to_string(), identity.grant.issuer))
        };
        let of_other =
            json!({"iss": "https://other.example", "exp": in_s(60), "uid": "bob", "sub": "x"});
        assert_eq!(verify(&claims(), SECRET), Ok(("alice".into(), 0)));
        assert_eq!(verify(&of_other, &[2; 32]), Ok(("bob".into(), 1)));
        let refused = |fault| Err(TokenError::Invalid(fault));
        assert_eq!(verify(&claims(), &[2; 32]), refused(TokenFault::Signature));
        assert_eq!(verify(&of_other, SECRET), refused(TokenFault::Signature));
        for iss in [
            json!("https://third.example"),
            json!(["https://id.example"]),
            Value::Null,
        ] {
            let mut claims = claims();
            claims["iss"] = iss;
            assert_eq!(verify(&claims, SECRET), refused(TokenFault::Issuer));
        }
        // Names that are there twice can't lead to the keys of one and the claims of another.
        let twice = format!(
            r#"{{"iss":"https://id.example","iss":"https://other.example","exp":{},"uid":"bob"}}"#,
            in_s(60)
        );
        let twice = sign_bytes(br#"{"alg":"HS256"}"#, twice.as_bytes());
        let twice = auth.verify(&twice, Purpose::Session);
        assert_eq!(twice, Err(TokenError::Invalid(TokenFault::ClaimsJson)));
    }
}
