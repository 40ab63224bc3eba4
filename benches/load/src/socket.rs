//! A session's socket: how it connects, and the bytes that it has not accepted yet.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;

/// Ports used of a source address. With all its addresses a process can make 12 million
/// connections.
const PORTS: usize = 50_000;
const FIRST_PORT: u16 = 10_000;

/// Source addresses in use at a time, as a server may limit the connections from one. With more
/// of them the kernel takes longer to check whether a port is free.
const ADDRESSES: usize = 16;

/// Groups of that many addresses, used in turn; all fit into the last byte.
const GROUPS: usize = 15;

/// Bound of what is buffered for a server that does not read.
const OUTBOX_BYTES_MAX: usize = 256 * 1024;

/// Opens connections from source addresses of its own.
#[derive(Debug)]
pub(crate) struct Connector {
    server: SocketAddr,
    /// First three bytes of the source addresses, unique to this process.
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

    /// Starts to connect. The outer error is a fault of this machine, the inner one of the server.
    pub(crate) fn connect(&mut self) -> io::Result<io::Result<TcpStream>> {
        if !self.server.ip().is_loopback() || self.server.is_ipv6() {
            return TcpStream::connect(self.server).map(Ok);
        }
        let kind = socket2::Type::STREAM.nonblocking();
        let socket = socket2::Socket::new(socket2::Domain::IPV4, kind, None)?;
        while let Err(error) = socket.bind(&self.source().into()) {
            // Another program listens on this port on all addresses: try the next.
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

    /// The next source address. Each process has its own, as ports of the last run are still in
    /// TIME_WAIT, like those of closed sessions. We choose the ports, as the kernel's search for a
    /// free one takes longer the more are in use.
    fn source(&mut self) -> SocketAddr {
        let index = self.connections;
        self.connections += 1;
        let (address, rest) = (index % ADDRESSES, index / ADDRESSES);
        let (port, group) = (rest % PORTS, rest / PORTS % GROUPS);
        let [a, b, c] = self.network;
        let last = 1 + address + ADDRESSES * group;
        let address = Ipv4Addr::new(a, b, c, last as u8);
        SocketAddr::from((address, FIRST_PORT + port as u16))
    }
}

/// A session's socket, and the bytes that it has not accepted yet.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    outbox: Vec<u8>,
}

impl Socket {
    /// Sends the request at once, as on loopback the connection is established by now. Registers
    /// the socket for reading, and for writing if part of the request is left.
    pub(crate) fn open(
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
        let written = socket.write(request)?;
        socket.outbox.extend_from_slice(&request[written..]);
        let interest = match socket.outbox.is_empty() {
            true => interest,
            false => interest | Interest::WRITABLE,
        };
        registry.register(&mut socket.stream, token, interest)?;
        Ok(socket)
    }

    /// Reads into `buffer`; `None` if there is nothing to read.
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

    /// Sends; what the socket does not accept is kept until [`Socket::flush`].
    pub(crate) fn send(
        &mut self,
        bytes: &[u8],
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        let written = match self.outbox.is_empty() {
            true => self.write(bytes)?,
            false => 0,
        };
        if written == bytes.len() {
            return Ok(());
        }
        if self.outbox.is_empty() {
            let interest = Interest::READABLE | Interest::WRITABLE;
            registry.reregister(&mut self.stream, token, interest)?;
        }
        if self.outbox.len() + bytes.len() > OUTBOX_BYTES_MAX {
            return Err(io::Error::from(ErrorKind::TimedOut));
        }
        self.outbox.extend_from_slice(&bytes[written..]);
        Ok(())
    }

    /// Sends what was kept; true once all of it is sent.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        if self.outbox.is_empty() {
            return Ok(true);
        }
        let outbox = std::mem::take(&mut self.outbox);
        let written = self.write(&outbox)?;
        if written < outbox.len() {
            self.outbox = outbox;
            self.outbox.drain(..written);
        }
        Ok(self.outbox.is_empty())
    }

    /// Sends as many of the frames as the socket accepts, and keeps the rest of the last one, so
    /// that other frames can follow. Returns how many; each has `frame` bytes.
    pub(crate) fn flood(&mut self, frames: &[u8], frame: usize) -> io::Result<usize> {
        if !self.flush()? {
            return Ok(0);
        }
        let written = self.write(frames)?;
        let frames_sent = written.div_ceil(frame);
        self.outbox
            .extend_from_slice(&frames[written..frames_sent * frame]);
        Ok(frames_sent)
    }

    /// Returns how many bytes the socket has accepted.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.stream.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
                // Still connecting.
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
