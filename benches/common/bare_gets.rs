//! Pipelined `get`s with nothing around them: commands rendered beforehand, whose answers are only counted.
//! The yardstick for look-ups.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::Duration;

/// Keys of a command.
pub(crate) const KEYS_PER_GET: usize = 100;

/// Commands without an answer. With fewer, memcached waits for us; with many more, the answers no longer fit
/// the processor's caches.
const IN_FLIGHT: usize = 16;

/// The answers to a few commands.
const BUFFER_BYTES: usize = 256 * 1024;

/// Longer than memcached takes for what is in flight, wherever it runs.
const PATIENCE: Duration = Duration::from_secs(10);

/// What ends each answer. No value of an entry has it.
const END: &[u8] = b"END\r\n";

/// A connection, and the commands that it sends over and over.
pub(crate) struct BareGets {
    stream: TcpStream,
    bytes: Vec<u8>,
    /// Where each command ends.
    ends: Vec<usize>,
    next: usize,
    buffer: Vec<u8>,
}

impl BareGets {
    /// Connects, and renders a command for every [`KEYS_PER_GET`] of `keys`.
    ///
    /// # Errors
    ///
    /// If there is no memcached.
    pub(crate) fn connect(
        addr: SocketAddr,
        keys: impl IntoIterator<Item = String>,
    ) -> io::Result<BareGets> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        let keys: Vec<_> = keys.into_iter().collect();
        for keys in keys.chunks_exact(KEYS_PER_GET) {
            bytes.extend_from_slice(format!("get {}\r\n", keys.join(" ")).as_bytes());
            ends.push(bytes.len());
        }
        Ok(BareGets {
            stream,
            bytes,
            ends,
            next: 0,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Sends the next `count` commands, and returns once all are answered.
    ///
    /// # Errors
    ///
    /// If memcached does not answer.
    pub(crate) fn ask(&mut self, count: usize) -> io::Result<()> {
        let (mut sent, mut answered, mut carried) = (0, 0, 0);
        while answered < count {
            let room = (count - sent).min(IN_FLIGHT - (sent - answered));
            // Many at once, as each write wakes memcached.
            if room == count - sent || room >= IN_FLIGHT / 2 {
                sent += room;
                self.write(room)?;
            }
            let read = self.stream.read(&mut self.buffer[carried..])?;
            if read == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let filled = carried + read;
            let (ended, rest) = ends(&self.buffer[..filled]);
            answered += ended;
            carried = rest.len();
            self.buffer.copy_within(rest, 0);
        }
        Ok(())
    }

    /// Writes the next `count` commands, as one piece unless the last is among them.
    fn write(&mut self, mut count: usize) -> io::Result<()> {
        while count > 0 {
            let piece = count.min(self.ends.len() - self.next);
            let start = self.next.checked_sub(1).map_or(0, |last| self.ends[last]);
            let end = self.ends[self.next + piece - 1];
            self.stream.write_all(&self.bytes[start..end])?;
            self.next = (self.next + piece) % self.ends.len();
            count -= piece;
        }
        Ok(())
    }
}

/// How many answers end in `input`, and what may be the start of another end.
fn ends(input: &[u8]) -> (usize, Range<usize>) {
    let mut after = 0;
    let count = memchr::memmem::find_iter(input, END)
        .inspect(|at| after = at + END.len())
        .count();
    (
        count,
        after.max((input.len() + 1).saturating_sub(END.len()))..input.len(),
    )
}
