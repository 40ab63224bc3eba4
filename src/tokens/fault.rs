//! Why a token is refused.

use std::fmt;

use presenced_presence::UserIdError;

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It is past its time.
    Expired,
    /// It is not valid; its sender is not told why.
    Invalid(TokenFault),
    /// It names a user who can't be part of a memcached key.
    UserId(UserIdError),
    /// It is good for something else only.
    Scope,
    /// It may be good: the keys of its issuer have not been fetched yet.
    NoKeys,
}

impl TokenError {
    /// Whether the token may be good with keys that are not known here.
    pub(super) fn is_of_keys(self) -> bool {
        use TokenFault::{Algorithm, Signature, UnknownKey};
        matches!(
            self,
            TokenError::Invalid(Algorithm | Signature | UnknownKey)
        )
    }
}

/// What is wrong with a token: for the operator's eyes only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenFault {
    /// Longer than a token may be.
    TooLong,
    /// Not three parts in base64, or a head that is no JSON object of the kind.
    Malformed,
    /// An algorithm that no key is for.
    Algorithm,
    /// A `kid` that no key has.
    UnknownKey,
    /// Not signed with any of the keys.
    Signature,
    /// A `typ` that is not that of a token for us (RFC 8725 §3.11).
    Typ,
    /// Extensions that must be understood (RFC 7515 §4.1.11, RFC 7797); we have none.
    Crit,
    /// Claims that are no object, have no `exp`, or are of another type than RFC 7519 §4.1 says.
    Claims,
    /// Claims that are not JSON in UTF-8, or nested too deep.
    ClaimsJson,
    /// Not ours, or no issuer.
    Issuer,
    /// Not for us, or for nobody.
    Audience,
    /// `nbf` is still to come.
    NotYetValid,
    /// `exp` is further ahead than allowed.
    LifetimeTooLong,
    /// No user's id, or one that is neither a string nor an integer.
    UserClaim,
    /// It was revoked.
    Revoked,
}

impl TokenFault {
    /// Label in `/metrics`.
    pub const fn label(self) -> &'static str {
        match self {
            TokenFault::TooLong => "too_long",
            TokenFault::Malformed => "malformed",
            TokenFault::Algorithm => "algorithm",
            TokenFault::UnknownKey => "unknown_key",
            TokenFault::Signature => "signature",
            TokenFault::Typ => "typ",
            TokenFault::Crit => "crit",
            TokenFault::Claims => "claims",
            TokenFault::ClaimsJson => "claims_json",
            TokenFault::Issuer => "issuer",
            TokenFault::Audience => "audience",
            TokenFault::NotYetValid => "not_yet_valid",
            TokenFault::LifetimeTooLong => "lifetime_too_long",
            TokenFault::UserClaim => "user_claim",
            TokenFault::Revoked => "revoked",
        }
    }
}

/// In words, for operators: clients are told less.
impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenError::Expired => f.write_str("it has expired (exp)"),
            TokenError::Invalid(fault) => fault.fmt(f),
            TokenError::UserId(why) => write!(f, "it names a user who can't be one: {why}"),
            TokenError::Scope => f.write_str("its scope (scope or scp) is not for this"),
            TokenError::NoKeys => f.write_str("the keys of its issuer have not been fetched"),
        }
    }
}

/// The same.
impl fmt::Display for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TokenFault::TooLong => "it is longer than --max-token",
            TokenFault::Malformed => {
                "it is no token: three parts in base64url with dots between them, of which the first is a JSON object"
            }
            TokenFault::Algorithm => "none of the issuer's keys is for its algorithm (alg)",
            TokenFault::UnknownKey => "none of the issuer's keys has the name that it gives (kid)",
            TokenFault::Signature => "none of the issuer's keys has signed it",
            TokenFault::Typ => "it is for something else: its type (typ) is neither JWT nor at+jwt",
            TokenFault::Crit => "it asks for extensions (crit, b64), of which none is known here",
            TokenFault::Claims => {
                "it has no exp, or a claim that is there twice or of a type that it can't have"
            }
            TokenFault::ClaimsJson => {
                "its claims are not JSON in UTF-8, or nested over 127 levels deep"
            }
            TokenFault::Issuer => "it is of another issuer (iss)",
            TokenFault::Audience => "it is for another audience (aud)",
            TokenFault::NotYetValid => "it is not valid yet (nbf)",
            TokenFault::LifetimeTooLong => {
                "its expiry (exp) is further ahead than --jwt-max-lifetime"
            }
            TokenFault::UserClaim => {
                "it names no user: the claim is missing, or neither a string nor an integer"
            }
            TokenFault::Revoked => "it was revoked",
        })
    }
}
