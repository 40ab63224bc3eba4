//! memcached's text protocol and Redis's, pipelined.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::{Connection, Result, TTL_S};

const VALUE: &str = r#"{"serverId":"server-1","connectedAt":1234567890123}"#;
/// Commands in flight, on all connections together.
pub const WINDOW: u64 = 8192;
/// Bytes written at once, and read at once.
const PIECE: usize = 64 * 1024;

#[derive(Clone, Copy, PartialEq)]
pub enum Protocol {
    Memcached,
    /// Writes are not acknowledged.
    MemcachedNoreply,
    Redis,
}

pub struct Text {
    stream: TcpStream,
    protocol: Protocol,
    window: u64,
    /// The answer to a write, many times, with which answers are compared.
    expected: Vec<u8>,
    out: Vec<u8>,
    read: Vec<u8>,
}

impl Text {
    pub fn connect(port: u16, protocol: Protocol, window: u64) -> Result<Text> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let answer = protocol.stored();
        Ok(Text {
            stream,
            protocol,
            window,
            expected: answer.repeat(PIECE / answer.len() + 2),
            out: Vec::with_capacity(2 * PIECE),
            read: vec![0; PIECE],
        })
    }

    /// Renders and sends one piece. Returns the number of its commands: 0 if there are no more users.
    fn send(&mut self, users: &mut dyn Iterator<Item = u32>) -> Result<u64> {
        self.out.clear();
        let mut commands = 0;
        while self.out.len() < PIECE {
            let Some(user) = users.next() else { break };
            self.protocol.render_set(user, &mut self.out);
            commands += 1;
        }
        self.stream.write_all(&self.out)?;
        Ok(commands)
    }

    /// Sends a question, and reads until `parse` finds the answer whole.
    fn ask<T>(&mut self, parse: impl Fn(&[u8]) -> Result<Option<T>>) -> Result<T> {
        self.stream.write_all(&self.out)?;
        let mut length = 0;
        loop {
            if length == self.read.len() {
                self.read.resize(2 * length, 0);
            }
            let read = self.stream.read(&mut self.read[length..])?;
            if read == 0 {
                return Err("the server closed the connection".into());
            }
            length += read;
            if let Some(answer) = parse(&self.read[..length])? {
                return Ok(answer);
            }
        }
    }
}

impl Connection for Text {
    fn write(&mut self, users: &mut dyn Iterator<Item = u32>) -> Result<u64> {
        let noreply = self.protocol == Protocol::MemcachedNoreply;
        let each = self.protocol.stored().len();
        let (mut sent, mut bytes, mut more) = (0, 0, true);
        loop {
            let in_flight = sent - (bytes / each) as u64;
            if more && (noreply || in_flight < self.window) {
                let commands = self.send(users)?;
                sent += commands;
                more = commands > 0;
            } else if noreply {
                // It is answered once all commands before it are done.
                self.out = b"mn\r\n".to_vec();
                let answer =
                    self.ask(|bytes| Ok((bytes.ends_with(b"\r\n")).then(|| bytes.to_vec())))?;
                return expect(&answer, b"MN\r\n").map(|()| sent);
            } else if in_flight == 0 {
                return Ok(sent);
            } else {
                // Otherwise each of the server's small writes would wake us, which costs the server time.
                if in_flight > self.window / 32 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                let read = self.stream.read(&mut self.read[..PIECE])?;
                if read == 0 {
                    return Err("the server closed the connection".into());
                }
                expect(&self.read[..read], &self.expected[bytes % each..][..read])?;
                bytes += read;
            }
        }
    }

    fn pull(&mut self, users: &[u32]) -> Result<u64> {
        self.out.clear();
        self.protocol.render_pull(users, &mut self.out);
        let protocol = self.protocol;
        self.ask(|bytes| match protocol {
            Protocol::Redis => found_by_redis(bytes),
            _ => found_by_memcached(bytes),
        })
    }

    fn items(&mut self) -> Result<u64> {
        let (question, before, end) = match self.protocol {
            Protocol::Redis => ("*1\r\n$6\r\nDBSIZE\r\n", ":", "\r\n"),
            _ => ("stats\r\n", "STAT curr_items ", "END\r\n"),
        };
        self.out = question.into();
        let answer =
            self.ask(|bytes| Ok(bytes.ends_with(end.as_bytes()).then(|| bytes.to_vec())))?;
        let text = String::from_utf8(answer)?;
        let number = text.lines().find_map(|line| line.strip_prefix(before));
        Ok(number.ok_or("no number of items")?.parse()?)
    }
}

fn expect(read: &[u8], expected: &[u8]) -> Result<()> {
    if read == expected {
        return Ok(());
    }
    let start = String::from_utf8_lossy(&read[..read.len().min(200)]);
    Err(format!("not all was stored: {start}").into())
}

impl Protocol {
    fn stored(self) -> &'static [u8] {
        match self {
            Protocol::Redis => b"+OK\r\n",
            _ => b"STORED\r\n",
        }
    }

    fn render_set(self, user: u32, out: &mut Vec<u8>) {
        match self {
            Protocol::Redis => {
                out.extend_from_slice(b"*5\r\n$3\r\nSET\r\n");
                push_redis_key(user, out);
                push_bulk(VALUE.as_bytes(), out);
                out.extend_from_slice(b"$2\r\nEX\r\n");
                push_bulk(Digits::of(TTL_S).bytes(), out);
            }
            Protocol::Memcached | Protocol::MemcachedNoreply => {
                out.extend_from_slice(b"set ");
                push_key(user, out);
                out.extend_from_slice(b" 0 ");
                out.extend_from_slice(Digits::of(TTL_S).bytes());
                out.push(b' ');
                out.extend_from_slice(Digits::of(VALUE.len() as u32).bytes());
                if self == Protocol::MemcachedNoreply {
                    out.extend_from_slice(b" noreply");
                }
                out.extend_from_slice(b"\r\n");
                out.extend_from_slice(VALUE.as_bytes());
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    fn render_pull(self, users: &[u32], out: &mut Vec<u8>) {
        match self {
            Protocol::Redis => {
                out.push(b'*');
                out.extend_from_slice(Digits::of(users.len() as u32 + 1).bytes());
                out.extend_from_slice(b"\r\n$4\r\nMGET\r\n");
                users.iter().for_each(|user| push_redis_key(*user, out));
            }
            _ => {
                out.extend_from_slice(b"get");
                for user in users {
                    out.push(b' ');
                    push_key(*user, out);
                }
                out.extend_from_slice(b"\r\n");
            }
        }
    }
}

/// The number of values in an answer to `get`, or `None` if it is not whole yet.
fn found_by_memcached(mut bytes: &[u8]) -> Result<Option<u64>> {
    for found in 0.. {
        if bytes == b"END\r\n" {
            return Ok(Some(found));
        }
        let Some(line) = bytes.iter().position(|byte| *byte == b'\n') else {
            break;
        };
        if !bytes.starts_with(b"VALUE ") {
            return Err(format!("not a value: {}", String::from_utf8_lossy(&bytes[..line])).into());
        }
        let Some(rest) = bytes.get(line + 1 + VALUE.len() + 2..) else {
            break;
        };
        bytes = rest;
    }
    Ok(None)
}

/// The number of values in an answer to `MGET`, or `None` if it is not whole yet.
fn found_by_redis(bytes: &[u8]) -> Result<Option<u64>> {
    let Some((count, mut rest)) = redis_length(b'*', bytes)? else {
        return Ok(None);
    };
    let mut found = 0;
    for _ in 0..count {
        let Some((length, value)) = redis_length(b'$', rest)? else {
            return Ok(None);
        };
        rest = value;
        if length >= 0 {
            found += 1;
            let Some(next) = rest.get(length as usize + 2..) else {
                return Ok(None);
            };
            rest = next;
        }
    }
    Ok(Some(found))
}

fn redis_length(kind: u8, bytes: &[u8]) -> Result<Option<(i64, &[u8])>> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return Ok(None);
    };
    let line = str::from_utf8(&bytes[..end])?.trim_end();
    if line.as_bytes().first() != Some(&kind) {
        return Err(format!("not a value: {line}").into());
    }
    Ok(Some((line[1..].parse()?, &bytes[end + 1..])))
}

fn push_key(user: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(b"user:");
    out.extend_from_slice(Digits::of(user).bytes());
    out.extend_from_slice(b":online");
}

fn push_redis_key(user: u32, out: &mut Vec<u8>) {
    let digits = Digits::of(user);
    out.push(b'$');
    out.extend_from_slice(Digits::of(digits.bytes().len() as u32 + 12).bytes());
    out.extend_from_slice(b"\r\n");
    push_key(user, out);
    out.extend_from_slice(b"\r\n");
}

fn push_bulk(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'$');
    out.extend_from_slice(Digits::of(bytes.len() as u32).bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// A number in decimal. `write!` takes several times as long.
struct Digits {
    bytes: [u8; 10],
    start: usize,
}

impl Digits {
    fn of(mut number: u32) -> Digits {
        let (mut bytes, mut start) = ([0; 10], 10);
        loop {
            start -= 1;
            bytes[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return Digits { bytes, start };
            }
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}
