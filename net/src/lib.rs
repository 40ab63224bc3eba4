//! Sockets, as all of presenced's servers and clients need them: [`listen`]ers that threads share, one
//! each; [`Accepting`] that outlives the system's refusals; streams that the runtime watches only when
//! that pays ([`Watchable`]); with the feature `tls`, connections that are secret (`tls`).

mod accept_pause;
mod accepting;
pub mod limits;
pub mod listen;
#[cfg(feature = "tls")]
pub mod tls;
mod watchable;

pub use self::accepting::Accepting;
pub use self::watchable::{Pollable, Watchable};
