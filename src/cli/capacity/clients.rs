//! The clients' ends of loopback sessions: one thread, which answers pings and does nothing else.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use memchr::memmem::find;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::time::Timespec;
use socket2::SockRef;

/// Handshakes that are under way at once.
const AT_ONCE: usize = 20;
/// How long the server may take to answer one.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest head of an answer.
const HEAD_BYTES_MAX: usize = 4096;

/// Opcodes with FIN (RFC 6455 §5.2).
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
/// With a mask of zeros, which leaves the payload as it is.
const MASKED: u8 = 0x80;
const CONTROL_PAYLOAD_MAX: usize = 125;

/// Sessions of one server.
pub(super) struct Clients {
    server: SocketAddr,
    epoll: OwnedFd,
    sockets: Vec<TcpStream>,
    /// Pings that were answered.
    pub(super) pongs: u64,
}

impl Clients {
    /// None yet, of `server`, with room for `count`, so that nothing is allocated when they come.
    ///
    /// # Errors
    ///
    /// The system allows no epoll.
    pub(super) fn new(server: SocketAddr, count: usize) -> io::Result<Clients> {
        Ok(Clients {
            server,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            sockets: Vec::with_capacity(count),
            pongs: 0,
        })
    }

    /// Opens a session with each of `tokens`.
    ///
    /// # Errors
    ///
    /// The server, or the system, refuses one.
    pub(super) fn open(&mut self, tokens: &[String]) -> io::Result<()> {
        for some in tokens.chunks(AT_ONCE) {
            let first = self.sockets.len();
            for token in some {
                let mut socket = TcpStream::connect(self.server)?;
                // Its port is free again at once.
                SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
                socket.set_nodelay(true)?;
                socket.set_read_timeout(Some(PATIENCE))?;
                socket.write_all(request(self.server, token).as_bytes())?;
                self.sockets.push(socket);
            }
            for (number, socket) in self.sockets.iter_mut().enumerate().skip(first) {
                self.pongs += switched(socket)?;
                socket.set_nonblocking(true)?;
                let data = EventData::new_u64(number as u64);
                epoll::add(&self.epoll, &*socket, data, EventFlags::IN)?;
            }
            self.answer(Duration::ZERO)?;
        }
        Ok(())
    }

    /// Answers pings for `time`.
    ///
    /// # Errors
    ///
    /// A session has ended.
    pub(super) fn serve(&mut self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.answer(left)?;
        }
    }

    /// Answers the pings that there are, or the first that come within `time`.
    fn answer(&mut self, time: Duration) -> io::Result<()> {
        let mut events = [MaybeUninit::uninit(); 256];
        let timeout = Timespec::try_from(time).map_err(io::Error::other)?;
        let ready = match epoll::wait(&self.epoll, &mut events, Some(&timeout)) {
            Ok((ready, _)) => ready,
            // A signal, such as that of a process that goes on after it was suspended.
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for event in ready {
            let number = event.data.u64() as usize;
            if let Some(socket) = self.sockets.get_mut(number) {
                self.pongs += pong(socket)?;
            }
        }
        Ok(())
    }
}

/// A handshake, in one piece, as clients send it.
fn request(server: SocketAddr, token: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: {server}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Authorization: Bearer {token}\r\n\r\n"
    )
}

/// Reads the answer to a handshake, which must be that the protocol is switched. A ping may come with it: returns how
/// many were answered.
fn switched(socket: &mut TcpStream) -> io::Result<u64> {
    let (mut input, mut length) = ([0; HEAD_BYTES_MAX], 0);
    let head_ends = loop {
        match socket.read(&mut input[length..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => length += read,
        }
        if let Some(at) = find(&input[..length], b"\r\n\r\n") {
            break at + 4;
        }
    };
    let (head, frames) = input[..length].split_at(head_ends);
    match head.starts_with(b"HTTP/1.1 101 ") {
        true => answer_pings(socket, frames),
        false => Err(io::Error::other(format!(
            "a handshake was answered with {:?}",
            String::from_utf8_lossy(head)
                .lines()
                .next()
                .unwrap_or_default()
        ))),
    }
}

/// Answers the pings that `socket` has. Returns their number.
fn pong(socket: &mut TcpStream) -> io::Result<u64> {
    let mut frames = [0; 1024];
    match socket.read(&mut frames) {
        Ok(0) => Err(io::ErrorKind::ConnectionReset.into()),
        Ok(length) => answer_pings(socket, &frames[..length]),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(error),
    }
}

/// Answers the pings that `frames` are. Returns their number.
fn answer_pings(socket: &mut TcpStream, frames: &[u8]) -> io::Result<u64> {
    let (mut rest, mut pongs) = (frames, 0);
    while let [opcode, length, after @ ..] = rest {
        let length = usize::from(*length);
        // Nothing else is due to a client that only answers pings, and a ping comes whole: it is a few bytes.
        if *opcode != PING || length > CONTROL_PAYLOAD_MAX || after.len() < length {
            return Err(io::Error::other(format!(
                "the server sent something other than a ping: {rest:02x?}"
            )));
        }
        let (payload, next) = after.split_at(length);
        let mut frame = [0; 6 + CONTROL_PAYLOAD_MAX];
        frame[..2].copy_from_slice(&[PONG, MASKED | length as u8]);
        frame[6..6 + length].copy_from_slice(payload);
        socket.write_all(&frame[..6 + length])?;
        (rest, pongs) = (next, pongs + 1);
    }
    Ok(pongs)
}
