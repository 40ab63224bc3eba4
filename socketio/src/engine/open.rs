//! The first packet of a session.

use std::time::Duration;

use super::packet::Kind;
use super::sid::Sid;

/// What the server says first.
#[derive(Clone, Copy, Debug)]
pub struct Open<'a> {
    /// Names the session in each further request.
    pub sid: &'a Sid,
    /// Whether the client may go on over a WebSocket: for a session that polls, if that is wanted.
    pub can_upgrade: bool,
    /// Time between pings.
    pub ping_interval: Duration,
    /// Time for the answer.
    pub ping_timeout: Duration,
    /// Longest body and longest message from the client, in bytes.
    pub payload_bytes_max: usize,
}

impl Open<'_> {
    /// Appends the packet: over a WebSocket the first message, in polling the whole body.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        out.push(Kind::Open.digit());
        out.extend_from_slice(b"{\"sid\":\"");
        out.extend_from_slice(self.sid.as_str().as_bytes());
        out.extend_from_slice(match self.can_upgrade {
            true => b"\",\"upgrades\":[\"websocket\"],\"pingInterval\":",
            false => b"\",\"upgrades\":[],\"pingInterval\":",
        });
        out.extend_from_slice(digits.format(self.ping_interval.as_millis()).as_bytes());
        out.extend_from_slice(b",\"pingTimeout\":");
        out.extend_from_slice(digits.format(self.ping_timeout.as_millis()).as_bytes());
        out.extend_from_slice(b",\"maxPayload\":");
        out.extend_from_slice(digits.format(self.payload_bytes_max).as_bytes());
        out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::sid::{Place, SidKey};
    use crate::limits::{PAYLOAD_BYTES_MAX, PING_INTERVAL, PING_TIMEOUT};

    #[test]
    fn exactly_five_members() {
        let sid = SidKey::new(&[7; 32]).sid(Place::default());
        let text = |can_upgrade| {
            let mut out = Vec::new();
            let open = Open {
                sid: &sid,
                can_upgrade,
                ping_interval: PING_INTERVAL,
                ping_timeout: PING_TIMEOUT,
                payload_bytes_max: PAYLOAD_BYTES_MAX,
            };
            open.write(&mut out);
            String::from_utf8(out).unwrap()
        };
        let expected = |upgrades: &str| {
            format!(
                r#"0{{"sid":"{}","upgrades":[{upgrades}],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}}"#,
                sid.as_str()
            )
        };
        assert_eq!(text(true), expected("\"websocket\""));
        assert_eq!(text(false), expected(""));
    }
}
