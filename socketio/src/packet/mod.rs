//! Socket.IO 5: the packets that Engine.IO messages bear, `type [N-] [/nsp,] [id] [JSON]`.

mod decode;
pub mod encode;
mod id;
mod json;

pub use self::decode::{BadPacket, Body, Event, Packet};
pub use self::id::Id;
pub use self::json::{Name, token};
