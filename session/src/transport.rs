//! What carries a session: a TCP connection, or memory where sessions are tried without one.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

/// A connection that never blocks.
///
/// # Contract
///
/// The worker's poll is edge-triggered, and the worker makes no system call that it can do without.
/// So it relies on what follows; `session/tests/transport.rs` checks it of every transport in the
/// tree.
///
/// * **A short read means that nothing is left.** A `read` that returns fewer bytes than the buffer
///   holds, and more than none, has taken everything that had arrived, at this layer and at every
///   layer below. The worker does not read again until the poll reports the descriptor. A transport
///   that buffers (TLS: a whole record is decrypted at once) must go on until the caller's buffer
///   is full or the descriptor has nothing more.
/// * **`WouldBlock` means that there is nothing now**, in `read` and in `write`; the poll reports
///   the descriptor when that changes. `Ok(0)` from `read` is the peer's end, and comes after all
///   bytes that it sent before.
/// * **What `write` has taken goes out by itself.** The worker never calls `flush`. A `write` that
///   takes only part of the bytes has taken the first of them, and returns how many.
/// * **[`Transport::finish`] loses nothing**: the peer reads what `write` has taken, and then the
///   end.
pub trait Transport: Read + Write {
    /// What the worker's poll watches, always the same one. With `None`, the code that drives the
    /// worker calls [`Worker::readable`](crate::worker::Worker::readable) itself.
    fn descriptor(&self) -> Option<RawFd>;

    /// Ends the server's side: the peer reads what was written, and then the end. Never blocks.
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
