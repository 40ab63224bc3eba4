//! What a session costs.

use std::time::Duration;

use crate::limits::{
    HEARTBEAT_TIME, SESSION_KERNEL_BYTES, SESSION_PROCESS_BYTES, TLS_HEARTBEAT_TIME,
    TLS_SESSION_PROCESS_BYTES,
};

/// What a session costs on this host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Costs {
    /// Memory of the process, its user included, with the user's entry if the store is embedded.
    pub(super) process_bytes: f64,
    /// Memory of the kernel for its socket.
    pub(super) kernel_bytes: f64,
    /// CPU time of a ping and its pong, and its part of a flush.
    pub(super) heartbeat: Duration,
}

impl Costs {
    /// The same with TLS.
    pub(super) fn with_tls(self) -> Costs {
        Costs {
            process_bytes: self.process_bytes + TLS_SESSION_PROCESS_BYTES as f64,
            heartbeat: self.heartbeat + TLS_HEARTBEAT_TIME,
            ..self
        }
    }
}

impl Default for Costs {
    /// What was measured on a slow machine (benches/README.md).
    fn default() -> Costs {
        Costs {
            process_bytes: SESSION_PROCESS_BYTES as f64,
            kernel_bytes: SESSION_KERNEL_BYTES as f64,
            heartbeat: HEARTBEAT_TIME,
        }
    }
}
