//! Sockets, as all of presenced's servers and clients need them: [`listen`]ers that threads share, one
//! each; [`Accepting`] that outlives the system's refusals; streams that the runtime watches only when
//! that pays ([`Watchable`]).

mod accept_pause;
mod accepting;
pub mod limits;
pub mod listen;
mod watchable;

pub use self::accepting::Accepting;
pub use self::watchable::{Pollable, Watchable};
