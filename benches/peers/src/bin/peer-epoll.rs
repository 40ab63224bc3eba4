//! The floor: one thread and one epoll, which only send pings and read pongs. No token is checked
//! and nothing is written. What is left are the system calls that any server has to make.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use clap::Parser;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use presenced_peers::PeerFlags;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const LISTENER: Token = Token(usize::MAX);
const TICK: Duration = Duration::from_millis(10);
const PING: [u8; 10] = [0x89, 8, 0, 0, 0, 0, 0, 0, 0, 0];

/// A bare epoll loop. A session ends if its socket fails; unanswered pings are ignored.
#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    peer: PeerFlags,
}

struct Session {
    socket: TcpStream,
    is_open: bool,
}

fn main() -> io::Result<()> {
    let Flags { peer } = Flags::parse();
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::from_std(peer.listener()?);
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("listening on {}", peer.listen);

    let mut events = Events::with_capacity(1024);
    // Indexed by token. The entry of a closed session stays empty.
    let mut sessions: Vec<Option<Session>> = Vec::new();
    let mut sweep = Sweep::new(peer.ping_interval);
    loop {
        match poll.poll(&mut events, Some(sweep.left())) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for token in events.iter().map(Event::token) {
            if token == LISTENER {
                accept(&listener, &poll, &mut sessions)?;
            } else if let Some(session) = &mut sessions[token.0]
                && session.ready().is_err()
            {
                sessions[token.0] = None;
            }
        }
        sweep.ping(&mut sessions);
    }
}

fn accept(
    listener: &TcpListener,
    poll: &Poll,
    sessions: &mut Vec<Option<Session>>,
) -> io::Result<()> {
    loop {
        let mut socket = match listener.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            accepted => accepted?.0,
        };
        let token = Token(sessions.len());
        poll.registry()
            .register(&mut socket, token, Interest::READABLE)?;
        let is_open = false;
        sessions.push(Some(Session { socket, is_open }));
    }
}

impl Session {
    /// An error ends the session. Request heads and frames must arrive whole, as they do over
    /// loopback.
    fn ready(&mut self) -> io::Result<()> {
        let mut input = [0; 4096];
        // A short read has read everything; more data triggers a new event.
        let count = match self.socket.read(&mut input) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            read => read?,
        };
        match (self.is_open, &mut input[..count]) {
            (_, []) => Err(ErrorKind::UnexpectedEof.into()),
            (true, frames) => self.frames(frames),
            (false, head) => {
                self.is_open = true;
                self.handshake(head)
            }
        }
    }

    fn handshake(&mut self, head: &[u8]) -> io::Result<()> {
        let head = str::from_utf8(head).map_err(io::Error::other)?;
        let key = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("sec-websocket-key")
                .then_some(value)
        });
        let key = key.ok_or(ErrorKind::InvalidData)?;
        let accept = derive_accept_key(key.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        self.socket.write_all(answer.as_bytes())
    }

    fn frames(&mut self, mut input: &mut [u8]) -> io::Result<()> {
        while let [head, length, m0, m1, m2, m3, rest @ ..] = input {
            let (opcode, length, mask) = (*head & 0x0f, *length & 0x7f, [*m0, *m1, *m2, *m3]);
            let (payload, rest) = rest
                .split_at_mut_checked(length.into())
                .ok_or(ErrorKind::InvalidData)?;
            match opcode {
                0x9 => {
                    let mut pong = vec![0x8a, length];
                    pong.extend(payload.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b));
                    self.socket.write_all(&pong)?;
                }
                0xa => {}
                _ => return Err(ErrorKind::InvalidData.into()),
            }
            input = rest;
        }
        if input.is_empty() {
            Ok(())
        } else {
            Err(ErrorKind::UnexpectedEof.into())
        }
    }
}

/// Pings each session once per interval, evenly spread over the ticks.
struct Sweep {
    interval: Duration,
    swept: Instant,
    next: usize,
    /// Sessions due for a ping, with a fraction.
    due: f64,
}

impl Sweep {
    fn new(interval: Duration) -> Sweep {
        Sweep {
            interval,
            swept: Instant::now(),
            next: 0,
            due: 0.0,
        }
    }

    fn left(&self) -> Duration {
        TICK.saturating_sub(self.swept.elapsed())
    }

    fn ping(&mut self, sessions: &mut [Option<Session>]) {
        let since = self.swept.elapsed();
        if since < TICK || sessions.is_empty() {
            return;
        }
        self.swept += since;
        self.due += sessions.len() as f64 * since.div_duration_f64(self.interval);
        while self.due >= 1.0 {
            self.due -= 1.0;
            self.next = (self.next + 1) % sessions.len();
            if let Some(session) = &mut sessions[self.next]
                && session.is_open
            {
                // If the ping can't be written the session has closed, as its next event will tell.
                let _ = session.socket.write(&PING);
            }
        }
    }
}
