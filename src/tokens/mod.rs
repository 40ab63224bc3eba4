//! Who a token says is there, and for how long.
//!
//! - [`auth`]: checks tokens.
//! - `secret`: the key of tokens, which no log shows.
//! - `fault`: why a token is refused.

pub mod auth;
mod fault;
mod secret;

pub use self::auth::{Auth, Identity, Purpose, READ_ALL_SCOPE, Rules};
pub use self::fault::{TokenError, TokenFault};
pub use self::secret::Secret;
