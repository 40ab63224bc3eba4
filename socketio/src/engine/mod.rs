//! Engine.IO 4: what carries Socket.IO packets over polling, a WebSocket, or first one and then the
//! other.

mod heartbeat;
mod open;
mod packet;
mod payload;
mod queue;
mod request;
mod sid;
mod transport;

pub use self::heartbeat::{Beat, Heartbeat, Timing};
pub use self::open::Open;
pub use self::packet::{BadPacket, Kind, Packet};
pub use self::payload::{Payload, SEPARATOR, push};
pub use self::request::{Live, Method, Query, Refusal, Request, Route, TransportName};
pub use self::sid::{Place, Sid, SidKey};
pub use self::transport::{Admission, Output, Received, Sent, Times, Transport, Via};
