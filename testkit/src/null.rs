//! Sockets that lead nowhere.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::os::fd::RawFd;

use presenced_session::transport::Transport;

/// A socket of four bytes, as a real one is. It takes everything, and has nothing to read.
pub struct Null(u32);

/// A ping as it was written, and the number of the socket that it was written to. A message may come before it.
pub type Ping = (u32, [u8; 10]);

thread_local! {
    /// Pings written, if they are kept.
    static WRITTEN: RefCell<Option<Vec<Ping>>> = const { RefCell::new(None) };
}

/// From now on this thread keeps the pings that are written to its sockets, in `buffer`.
pub fn keep_pings(buffer: Vec<Ping>) {
    WRITTEN.set(Some(buffer));
}

/// The pings since [`keep_pings`], and no more are kept.
pub fn take_pings() -> Vec<Ping> {
    WRITTEN.take().unwrap_or_default()
}

impl Null {
    pub fn new(number: u32) -> Null {
        Null(number)
    }
}

impl Read for Null {
    #[inline]
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Null {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        WRITTEN.with_borrow_mut(|written| {
            if let (Some(written), Some(ping)) = (written, bytes.last_chunk()) {
                written.push((self.0, *ping));
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for Null {
    fn descriptor(&self) -> Option<RawFd> {
        None
    }

    fn finish(&self) {}
}
