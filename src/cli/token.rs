//! `presenced token`: a token that a server with the same settings accepts, to try it with.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use clap::Args;
use presenced_presence::UserId;
use presenced_session::clock::unix_ms;
use serde_json::json;

use super::SettingsError;
use super::times::{Time, time};
use crate::limits;
use crate::server::Config;
use crate::tokens::{Auth, CONNECT_SCOPE, IssuerConfig, Purpose, READ_SCOPE, Signer};

/// What a token is to say.
#[derive(Clone, Debug, Args)]
pub struct TokenRequest {
    /// User whom the token names
    #[arg(long, value_name = "ID", value_parser = user)]
    pub user: UserId,

    /// Issuer that signs it (iss): the name of one that has a secret; needed if several have
    #[arg(long, value_name = "TEXT")]
    pub issuer: Option<String>,

    /// How long it is valid
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = time(limits::TOKEN_LIFETIME))]
    pub lifetime: Time,

    /// What it is for, in words with spaces between them (scope) [default: none; with --require-scope:
    /// presence:connect presence:read]
    #[arg(long, value_name = "WORDS")]
    pub scope: Option<String>,
}

/// A token, signed with the first secret of the issuer.
///
/// # Errors
///
/// There is no secret, or it is not clear whose to take, or no token like this would be accepted.
pub fn sign(config: &Config, request: &TokenRequest) -> Result<String, SettingsError> {
    let TokenRequest {
        user,
        issuer,
        lifetime,
        scope,
    } = request;
    let tokens = &config.gateway.tokens;
    let signer = signer(&tokens.issuers, issuer.as_deref())?;
    let rules = &tokens.rules;
    if lifetime.duration > rules.lifetime_max {
        refuse!(
            "--lifetime {lifetime}: must not be longer than --jwt-max-lifetime {}",
            lifetime.like(rules.lifetime_max)
        );
    }
    let needed = format!("{CONNECT_SCOPE} {READ_SCOPE}");
    let needed = rules.require_scope.then_some(needed.as_str());
    let (mut jti, now_s) = ([0; 16], unix_ms() / 1000);
    getrandom::fill(&mut jti)
        .map_err(|error| SettingsError(format!("no random numbers: {error}")))?;
    let claims = [
        ("exp", json!(now_s + lifetime.duration.as_secs())),
        ("iat", json!(now_s)),
        ("jti", json!(BASE64_URL_SAFE_NO_PAD.encode(jti))),
    ];
    let claims = claims.map(|(name, value)| (name.to_owned(), value));
    let token = signer.sign(
        user,
        scope.as_deref().or(needed),
        claims.into_iter().collect(),
    );
    let token = token.map_err(|error| SettingsError(format!("cannot sign: {error}")))?;
    let auth = Auth::new(tokens.clone());
    match [Purpose::Session, Purpose::Pull].map(|purpose| auth.verify(&token, purpose)) {
        [Err(_), Err(why)] => refuse!("the server would refuse this token: {why}"),
        _ => Ok(token),
    }
}

/// Signs for the issuer with a name, or for the only one that has a secret.
fn signer(issuers: &[IssuerConfig], name: Option<&str>) -> Result<Signer, SettingsError> {
    let with_secret = issuers.iter().filter_map(|issuer| {
        let secret = issuer.keys.iter().find_map(|key| key.secret())?;
        Some((issuer, secret))
    });
    let with_secret: Vec<_> = with_secret.collect();
    let Some(name) = name else {
        return match with_secret[..] {
            [(issuer, secret)] => Ok(Signer::new(secret, issuer)),
            [] => refuse!(
                "a token is signed with a secret: give --jwt-secret-file or PRESENCED_JWT_SECRET, as the server has it. \
                 Tokens of other keys can be signed only where the private key is; a server without any key gives out \
                 tokens at /dev/token?user=ID"
            ),
            _ => refuse!(
                "--issuer is missing: a token is that of one issuer, and several have secrets: {}",
                names(with_secret.iter().map(|(issuer, _)| *issuer))
            ),
        };
    };
    let is_named = |issuer: &IssuerConfig| issuer.name.as_deref() == Some(name);
    let found = with_secret.iter().find(|(issuer, _)| is_named(issuer));
    match found {
        Some((issuer, secret)) => Ok(Signer::new(secret, issuer)),
        None if issuers.iter().any(is_named) => refuse!(
            "--issuer {name:?}: has no secret, and tokens of its keys can be signed only where the private key is"
        ),
        None => refuse!(
            "--issuer {name:?}: no issuer has that name; there is {}",
            names(issuers.iter())
        ),
    }
}

fn names<'a>(issuers: impl Iterator<Item = &'a IssuerConfig>) -> String {
    let names = issuers.map(|issuer| match &issuer.name {
        Some(name) => format!("{name:?}"),
        None => "one without a name (--jwt-issuer)".into(),
    });
    names.collect::<Vec<_>>().join(", ")
}

fn user(id: &str) -> Result<UserId, String> {
    UserId::new(id).map_err(|error| error.to_string())
}
