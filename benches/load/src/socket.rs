//! A session's socket: how it is connected, and what it has not taken yet.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;

/// Ports of a source address, from the first. Enough for 12 million connections of a process with
/// all its addresses.
const PORTS: usize = 50_000;
const FIRST_PORT: u16 = 10_000;

/// Source addresses in use at a time: a server may limit what it accepts from one. More would
/// make the kernel compare more when it looks whether a port is taken.
const ADDRESSES: usize = 16;

/// Such groups of addresses, one after the other, within the last byte.
const GROUPS: usize = 15;

/// Most that waits for a server that doesn't read.
const OUTBOX_BYTES_MAX: usize = 256 * 1024;

/// Connects from addresses of its own.
#[derive(Debug)]
pub(crate) struct Connector {
    server: SocketAddr,
    /// Of this process alone.
    network: [u8; 3],
    connections: usize,
}

impl Connector {
    pub(crate) fn new(server: SocketAddr) -> Connector {
        let [.., high, low] = std::process::id().to_be_bytes();
        Connector {
            server,
            network: [127, high | 0x80, low],
            connections: 0,
        }
    }

    /// Begins to connect. The outer error is this machine's fault, the inner one the server's.
    pub(crate) fn connect(&mut self) -> io::Result<io::Result<TcpStream>> {
        if !self.server.ip().is_loopback() || self.server.is_ipv6() {
            return TcpStream::connect(self.server).map(Ok);
        }
        let kind = socket2::Type::STREAM.nonblocking();
        let socket = socket2::Socket::new(socket2::Domain::IPV4, kind, None)?;
        while let Err(error) = socket.bind(&self.source().into()) {
            // Some other program listens there on all addresses.
            if error.kind() != ErrorKind::AddrInUse {
                return Err(error);
            }
        }
        match socket.connect(&self.server.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
                Ok(Err(error))
            }
            _ => Ok(Ok(TcpStream::from_std(socket.into()))),
        }
    }

    /// Addresses of this process's own: ports of the last run are still in TIME_WAIT, and so are
    /// those of sessions that were closed. And ports of our choice: the kernel's search for a free
    /// one takes longer with each that is taken.
    fn source(&mut self) -> SocketAddr {
        let number = self.connections;
        self.connections += 1;
        let (address, rest) = (number % ADDRESSES, number / ADDRESSES);
        let (port, group) = (rest % PORTS, rest / PORTS % GROUPS);
        let [a, b, c] = self.network;
        let last = 1 + address + ADDRESSES * group;
        let address = Ipv4Addr::new(a, b, c, last as u8);
        SocketAddr::from((address, FIRST_PORT + port as u16))
    }
}

/// A session's socket, and the bytes that it has not taken yet.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    outbox: Vec<u8>,
}

impl Socket {
    /// Sends the request at once: on loopback the connection is there by now, and the poll need
    /// not say so. Registers the socket to be read, and written if the request was not taken.
    pub(crate) fn begin(
        stream: TcpStream,
        request: &[u8],
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<Socket> {
        let mut socket = Socket {
            stream,
            outbox: Vec::new(),
        };
        let taken = socket.write(request)?;
        socket.outbox.extend_from_slice(&request[taken..]);
        let interest = match socket.outbox.is_empty() {
            true => interest,
            false => interest | Interest::WRITABLE,
        };
        registry.register(&mut socket.stream, token, interest)?;
        Ok(socket)
    }

    /// Reads what there is into `buffer`; `None` if there is nothing to read.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match self.stream.read(buffer) {
                Ok(count) => return Ok(Some(count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends; what the socket does not take is kept until [`Socket::flush`].
    pub(crate) fn send(
        &mut self,
        bytes: &[u8],
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        let taken = match self.outbox.is_empty() {
            true => self.write(bytes)?,
            false => 0,
        };
        if taken == bytes.len() {
            return Ok(());
        }
        if self.outbox.is_empty() {
            let interest = Interest::READABLE | Interest::WRITABLE;
            registry.reregister(&mut self.stream, token, interest)?;
        }
        if self.outbox.len() + bytes.len() > OUTBOX_BYTES_MAX {
            return Err(io::Error::from(ErrorKind::TimedOut));
        }
        self.outbox.extend_from_slice(&bytes[taken..]);
        Ok(())
    }

    /// Sends what was kept; true when all of it is sent.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        if self.outbox.is_empty() {
            return Ok(true);
        }
        let outbox = std::mem::take(&mut self.outbox);
        let taken = self.write(&outbox)?;
        if taken < outbox.len() {
            self.outbox = outbox;
            self.outbox.drain(..taken);
        }
        Ok(self.outbox.is_empty())
    }

    /// Sends as many of the frames of `frame` bytes each in `frames` as the socket takes, and
    /// keeps what is left of the last, as other frames may follow. Returns how many.
    pub(crate) fn flood(&mut self, frames: &[u8], frame: usize) -> io::Result<usize> {
        if !self.flush()? {
            return Ok(0);
        }
        let taken = self.write(frames)?;
        let begun = taken.div_ceil(frame);
        self.outbox.extend_from_slice(&frames[taken..begun * frame]);
        Ok(begun)
    }

    /// How many bytes the socket has taken, from the first.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.stream.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
                // Not connected yet.
                Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(0),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                written => return written,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn sources_differ_and_are_loopback() {
        let mut connector = Connector::new("127.0.0.1:1".parse().unwrap());
        let mut seen = HashSet::new();
        for _ in 0..2_000_000 {
            let source = connector.source();
            assert!(source.ip().is_loopback());
            assert!(seen.insert(source), "{source} twice");
        }
    }
}
