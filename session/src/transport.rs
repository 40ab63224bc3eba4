//! What carries a session: a TCP connection, or memory where sessions are tried without one.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

/// A connection that never blocks: `WouldBlock` means that nothing can be read or written now.
pub trait Transport: Read + Write {
    /// What the worker's poll watches; without one, whoever drives the worker says when to read.
    fn descriptor(&self) -> Option<RawFd>;

    /// Ends the server's side: the peer reads what was written, and then the end.
    fn finish(&self);
}

impl Transport for TcpStream {
    fn descriptor(&self) -> Option<RawFd> {
        Some(self.as_raw_fd())
    }

    fn finish(&self) {
        // It fails only where the peer has ended it already.
        let _ = self.shutdown(Shutdown::Write);
    }
}
