//! A session's socket: how it connects, the TLS on it if there is any, and the bytes that it has not accepted yet.

use std::borrow::Cow;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;

use crate::session_error::SessionError;
use crate::tls::Channel;

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
    tls: Option<Channel>,
    outbox: Vec<u8>,
    /// Whether the last read has taken all that there was.
    is_drained: bool,
}

impl Socket {
    /// Sends the request at once, as on loopback the connection is established by now; over TLS its
    /// handshake, after which the request follows. Registers the socket for reading, and for writing if
    /// part of that is left.
    pub(crate) fn open(
        stream: TcpStream,
        tls: Option<Channel>,
        request: &[u8],
        registry: &Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<Socket> {
        let mut socket = Socket {
            stream,
            tls,
            outbox: Vec::new(),
            is_drained: true,
        };
        let bytes = socket.seal(request)?;
        let written = socket.write(&bytes)?;
        socket.outbox.extend_from_slice(&bytes[written..]);
        let interest = match socket.outbox.is_empty() {
            true => interest,
            false => interest | Interest::WRITABLE,
        };
        registry.register(&mut socket.stream, token, interest)?;
        Ok(socket)
    }

    /// Reads into `buffer`; `None` if there is nothing to read. Over TLS, what its handshake has to say is sent.
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        registry: &Registry,
        token: Token,
    ) -> Result<Option<usize>, SessionError> {
        loop {
            let mut reader = Reader {
                stream: &mut self.stream,
                is_drained: &mut self.is_drained,
            };
            let Some(tls) = &mut self.tls else {
                return Ok(if_any(reader.read(buffer))?);
            };
            if let Some(count) = tls.open(buffer)? {
                return Ok(Some(count));
            }
            let Some(received) = if_any(tls.receive(&mut reader))? else {
                return Ok(None);
            };
            let records = tls.seal(b"")?;
            // An alert, perhaps: why it is sent is the error that matters.
            let sent = self.send_as_is(&records, registry, token);
            received?;
            sent?;
        }
    }

    /// Whether the last read has taken all that there was.
    pub(crate) fn is_drained(&self) -> bool {
        self.is_drained
    }

    /// What the handshake of TLS has led to, if there was one.
    pub(crate) fn tls_summary(&self) -> Option<String> {
        self.tls.as_ref().map(Channel::summary)
    }

    /// Sends; what the socket does not accept is kept until [`Socket::flush`].
    pub(crate) fn send(
        &mut self,
        bytes: &[u8],
        registry: &Registry,
        token: Token,
    ) -> io::Result<()> {
        let bytes = self.seal(bytes)?;
        self.send_as_is(&bytes, registry, token)
    }

    /// The bytes that go on the wire.
    fn seal<'a>(&mut self, bytes: &'a [u8]) -> io::Result<Cow<'a, [u8]>> {
        match &mut self.tls {
            Some(tls) => tls.seal(bytes).map(Cow::Owned),
            None => Ok(Cow::Borrowed(bytes)),
        }
    }

    fn send_as_is(&mut self, bytes: &[u8], registry: &Registry, token: Token) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
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
        if let Some(tls) = &mut self.tls {
            // Once sealed, all must be sent.
            let records = tls.seal(frames)?;
            let written = self.write(&records)?;
            self.outbox.extend_from_slice(&records[written..]);
            return Ok(frames.len() / frame);
        }
        let written = self.write(frames)?;
        let frames_sent = written.div_ceil(frame);
        self.outbox
            .extend_from_slice(&frames[written..frames_sent * frame]);
        Ok(frames_sent)
    }

    /// Tells a server that speaks TLS that no more will come, if it can be told at once.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls
            && self.outbox.is_empty()
        {
            let records = tls.end()?;
            self.write(&records)?;
        }
        Ok(())
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

/// Reads, and notes whether that took all that there was.
struct Reader<'a> {
    stream: &'a mut TcpStream,
    is_drained: &'a mut bool,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.stream.read(buffer);
            *self.is_drained = read.as_ref().is_ok_and(|count| *count < buffer.len());
            match read {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

/// `None` if there was nothing to read.
fn if_any<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        read => read.map(Some),
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
