//! Keys that an identity provider publishes: fetched, kept and fetched again.
//!
//! - [`url`] (pure): where keys may be fetched.
//! - [`fetch`]: one GET, over what [`network`] gives.
//! - [`discovery`] (pure): where an issuer says its keys are.
//! - `schedule` (pure): when they are fetched again.
//! - [`source`]: keeps them for those who check tokens.

pub mod discovery;
pub mod fetch;
pub mod network;
mod schedule;
pub mod source;
#[cfg(test)]
mod tests;
pub mod url;

pub use self::discovery::Issuer;
pub use self::network::Network;
pub use self::source::{Config, Location, Source};
pub use self::url::Url;
