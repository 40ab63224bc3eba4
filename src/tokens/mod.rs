//! Who a token says is there, and for how long.
//!
//! - [`auth`]: checks tokens; `head` and `claims`: what they say; `registered`: what some claims must say.
//! - `issuer`: whose tokens they are.
//! - [`key`]: what they are checked with; `secret`: that of HMAC, which no log shows.
//! - [`jwks`]: keys that an identity provider publishes.
//! - `fault`: why a token is refused.
//! - `sign`: signs tokens.
//! - [`revocations`]: which are refused though they have not expired.

pub mod auth;
mod claims;
mod fault;
mod head;
mod issuer;
pub mod jwks;
pub mod key;
mod registered;
pub mod revocations;
mod secret;
mod sign;

pub use self::auth::{
    Auth, CONNECT_SCOPE, CheckedBy, Config, Grant, Identity, Purpose, READ_ALL_SCOPE, READ_SCOPE,
    Rules,
};
pub use self::fault::{TokenError, TokenFault};
pub use self::issuer::{Audience, IssuerConfig, KeySource};
pub use self::key::Key;
pub use self::revocations::{Revocation, Revocations, TokenId, Tokens};
pub use self::secret::Secret;
pub use self::sign::Signer;
