//! Sessions that do nothing but answer pings.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

/// Sessions from one source address, by their ports.
const SESSIONS_PER_ADDRESS: usize = 50_000;
const FIRST_PORT: u16 = 10_000;

/// See the module's page.
pub(crate) struct Client {
    server: SocketAddr,
    key: EncodingKey,
    poll: Poll,
    events: Events,
    sessions: Vec<Option<Session>>,
    open: usize,
    lost: usize,
    pings: u64,
}

struct Session {
    socket: TcpStream,
    is_open: bool,
    sent: bool,
    request: Vec<u8>,
}

impl Client {
    pub(crate) fn new(server: SocketAddr, secret: &[u8]) -> io::Result<Client> {
        Ok(Client {
            server,
            key: EncodingKey::from_secret(secret),
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            sessions: Vec::new(),
            open: 0,
            lost: 0,
            pings: 0,
        })
    }

    pub(crate) fn pings(&self) -> u64 {
        self.pings
    }

    pub(crate) fn open_sessions(&self) -> usize {
        self.open
    }

    pub(crate) fn lost(&self) -> usize {
        self.lost
    }

    /// Opens `count` sessions, `at_a_time` under way at once.
    pub(crate) fn open(&mut self, count: usize, at_a_time: usize) -> io::Result<()> {
        while self.open < count {
            while self.sessions.len() < count && self.sessions.len() - self.open < at_a_time {
                self.begin(self.sessions.len())?;
            }
            self.step(Duration::from_secs(10))?;
            if self.lost > 0 {
                return Err(io::Error::other(
                    "the server closed a session while others opened",
                ));
            }
        }
        Ok(())
    }

    /// Answers pings for `time`.
    pub(crate) fn answer_for(&mut self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.step(left)?;
        }
        Ok(())
    }

    fn begin(&mut self, number: usize) -> io::Result<()> {
        let mut socket = connect(self.server, number)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut socket, Token(number), interest)?;
        self.sessions.push(Some(Session {
            socket,
            is_open: false,
            sent: false,
            request: self.request(number)?,
        }));
        Ok(())
    }

    fn request(&self, number: usize) -> io::Result<Vec<u8>> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let claims =
            serde_json::json!({"sub": format!("load-{number}"), "exp": now.as_secs() + 3600});
        let token = encode(&Header::default(), &claims, &self.key).map_err(io::Error::other)?;
        Ok(format!(
            "GET /ws HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Authorization: Bearer {token}\r\n\r\n",
            self.server
        )
        .into_bytes())
    }

    fn step(&mut self, time: Duration) -> io::Result<()> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, Some(time)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            polled => polled?,
        }
        for event in &events {
            self.ready(event.token().0)?;
        }
        self.events = events;
        Ok(())
    }

    fn ready(&mut self, number: usize) -> io::Result<()> {
        let Some(session) = &mut self.sessions[number] else {
            return Ok(());
        };
        if !session.sent {
            match session.socket.write(&session.request) {
                Ok(count) if count == session.request.len() => {
                    session.sent = true;
                    session.request = Vec::new();
                }
                Ok(_) => return Err(io::Error::other("a request was cut")),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        let mut buffer = [0; 2048];
        match session.socket.read(&mut buffer) {
            Ok(0) => self.lose(number),
            Ok(count) => self.handle(number, &buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.lose(number),
        }
        Ok(())
    }

    fn handle(&mut self, number: usize, mut input: &[u8]) -> io::Result<()> {
        let Some(session) = &mut self.sessions[number] else {
            return Ok(());
        };
        if !session.is_open {
            if !input.starts_with(b"HTTP/1.1 101 ") {
                let text = String::from_utf8_lossy(input).into_owned();
                return Err(io::Error::other(format!("handshake refused: {text}")));
            }
            let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") else {
                return Err(io::Error::other("a handshake was cut"));
            };
            input = &input[end + 4..];
            session.is_open = true;
            self.open += 1;
        }
        // Whole pings only: the server sends nothing else but a close.
        while let [0x89, length, rest @ ..] = input {
            let length = usize::from(*length);
            let Some(payload) = rest.get(..length) else {
                return Err(io::Error::other("a ping was cut"));
            };
            // A mask of zeros leaves the payload as it is (RFC 6455 §5.3).
            let mut pong = vec![0x8a, 0x80 | length as u8, 0, 0, 0, 0];
            pong.extend_from_slice(payload);
            session.socket.write_all(&pong)?;
            self.pings += 1;
            input = &rest[length..];
        }
        if !input.is_empty() {
            self.lose(number);
        }
        Ok(())
    }

    fn lose(&mut self, number: usize) {
        if self.sessions[number]
            .take()
            .is_some_and(|session| session.is_open)
        {
            self.open -= 1;
        }
        self.lost += 1;
    }
}

fn connect(server: SocketAddr, number: usize) -> io::Result<TcpStream> {
    if !server.ip().is_loopback() || server.is_ipv6() {
        return TcpStream::connect(server);
    }
    // Addresses of this process's own: ports of the last run are still in TIME_WAIT. And ports of
    // our choice: the kernel's search for a free one takes longer with each that is taken.
    let [.., high, low] = std::process::id().to_be_bytes();
    let (page, place) = (number / SESSIONS_PER_ADDRESS, number % SESSIONS_PER_ADDRESS);
    let address = Ipv4Addr::new(127, high | 0x80, low, 1 + page as u8);
    let port = FIRST_PORT + place as u16;
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((address, port)).into())?;
    match socket.connect(&server.into()) {
        Err(error)
            if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        connected => connected?,
    }
    Ok(TcpStream::from_std(socket.into()))
}
