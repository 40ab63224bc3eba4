//! The contract of [`Transport`], for each transport of the tree, and for one that buffers as TLS
//! does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests may"
)]

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::RawFd;

use presenced_session::memory::Memory;
use presenced_session::transport::Transport;

/// More than the buffer of any layer, so that it is read and written in pieces.
const MANY: usize = 100_000;

/// How much is read at once; not a multiple of [`RECORD`].
const READ: usize = 1_500;

/// How much the buffering transports take from below at once.
const RECORD: usize = 1_024;

/// The other end of a transport.
trait Peer {
    /// Sends bytes, and returns when they have arrived.
    fn send(&mut self, bytes: &[u8], transport: &impl Arrived);

    /// What has come from the server, up to `count` bytes if they come at all.
    fn receive(&mut self, count: usize) -> Vec<u8>;

    /// Ends its side.
    fn hang_up(&mut self, transport: &impl Arrived);

    /// Whether the server's side has ended.
    fn has_end(&mut self) -> bool;
}

/// Lets a peer wait until what it sent has come.
trait Arrived {
    /// Returns when `count` bytes, or the end, can be read.
    fn wait_for(&self, count: usize);
}

impl Arrived for TcpStream {
    fn wait_for(&self, count: usize) {
        let mut all = vec![0; count.max(1)];
        while !self.peek(&mut all).is_ok_and(|found| found >= count) {
            std::thread::yield_now();
        }
    }
}

impl Arrived for Memory {
    fn wait_for(&self, _: usize) {}
}

impl<T: Arrived, const DRAINS: bool> Arrived for Buffering<T, DRAINS> {
    fn wait_for(&self, count: usize) {
        self.below.wait_for(count);
    }
}

impl Peer for TcpStream {
    fn send(&mut self, bytes: &[u8], transport: &impl Arrived) {
        self.write_all(bytes).unwrap();
        transport.wait_for(bytes.len());
    }

    fn receive(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn hang_up(&mut self, transport: &impl Arrived) {
        self.shutdown(std::net::Shutdown::Write).unwrap();
        transport.wait_for(0);
    }

    fn has_end(&mut self) -> bool {
        self.read(&mut [0]).unwrap() == 0
    }
}

impl Peer for Memory {
    fn send(&mut self, bytes: &[u8], _: &impl Arrived) {
        Memory::send(self, bytes);
    }

    fn receive(&mut self, count: usize) -> Vec<u8> {
        let bytes = Memory::take(self);
        self.set_room(count);
        bytes
    }

    fn hang_up(&mut self, _: &impl Arrived) {
        Memory::hang_up(self);
    }

    fn has_end(&mut self) -> bool {
        self.is_finished()
    }
}

/// Takes whole records from below, as TLS does. With `DRAINS` it keeps the contract.
struct Buffering<T, const DRAINS: bool> {
    below: T,
    record: VecDeque<u8>,
}

impl<T, const DRAINS: bool> Buffering<T, DRAINS> {
    fn new(below: T) -> Self {
        let record = VecDeque::new();
        Buffering { below, record }
    }
}

impl<T: Read, const DRAINS: bool> Read for Buffering<T, DRAINS> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut count = 0;
        while count < buffer.len() {
            if self.record.is_empty() {
                let mut record = [0; RECORD];
                match self.below.read(&mut record) {
                    Ok(bytes) => self.record.extend(&record[..bytes]),
                    Err(_) if count > 0 => break,
                    Err(error) => return Err(error),
                }
                if self.record.is_empty() {
                    break;
                }
            }
            count += self.record.read(&mut buffer[count..])?;
            if !DRAINS {
                break;
            }
        }
        Ok(count)
    }
}

impl<T: Write, const DRAINS: bool> Write for Buffering<T, DRAINS> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.below.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.below.flush()
    }
}

impl<T: Transport, const DRAINS: bool> Transport for Buffering<T, DRAINS> {
    fn descriptor(&self) -> Option<RawFd> {
        self.below.descriptor()
    }

    fn finish(&self) {
        self.below.finish();
    }
}

/// Bytes none of which looks like its neighbours.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at * 31 % 251) as u8).collect()
}

fn would_block<T: std::fmt::Debug>(result: &io::Result<T>) -> bool {
    matches!(result, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Reads as the worker does: until a read is short.
fn read_once(transport: &mut impl Transport) -> io::Result<Vec<u8>> {
    let (mut all, mut buffer) = (Vec::new(), [0; READ]);
    loop {
        match transport.read(&mut buffer) {
            Ok(count) => {
                all.extend_from_slice(&buffer[..count]);
                if count < READ {
                    return Ok(all);
                }
            }
            // The read before was not short, but it was the last.
            Err(error) if error.kind() == ErrorKind::WouldBlock && !all.is_empty() => {
                return Ok(all);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Checks the contract, and says what is broken.
fn conforms<T: Transport + Arrived>(mut transport: T, mut peer: impl Peer) -> Result<(), String> {
    if !would_block(&read_once(&mut transport)) {
        return Err("an idle transport has something to read".into());
    }
    for count in [1, RECORD, READ, READ + 1, 3 * RECORD, 20_000] {
        peer.send(&bytes(count), &transport);
        let read = read_once(&mut transport).map_err(|error| error.to_string())?;
        if read.len() < count {
            return Err(format!(
                "{} of {count} bytes before a short read",
                read.len()
            ));
        }
        assert!(read == bytes(count), "other bytes");
        if !would_block(&read_once(&mut transport)) {
            return Err("something to read after a short read".into());
        }
    }
    written_goes_out(&mut transport, &mut peer)?;
    peer.send(b"last", &transport);
    peer.hang_up(&transport);
    if read_once(&mut transport).ok().as_deref() != Some(b"last") {
        return Err("the last bytes are lost".into());
    }
    if transport.read(&mut [0; READ]).ok() != Some(0) {
        return Err("the peer's end is not seen".into());
    }
    transport
        .write_all(b"bye")
        .map_err(|error| error.to_string())?;
    transport.finish();
    if peer.receive(3) != b"bye" || !peer.has_end() {
        return Err("finish lost what was written".into());
    }
    Ok(())
}

/// Without a flush, in order, with nothing lost where the peer reads slowly.
fn written_goes_out(transport: &mut impl Transport, peer: &mut impl Peer) -> Result<(), String> {
    // More than the buffers of two sockets hold.
    let all = bytes(200 * MANY);
    let (mut sent, mut received) = (0, Vec::new());
    let mut times_full = 0;
    while received.len() < all.len() {
        while sent < all.len() {
            match transport.write(&all[sent..]) {
                Ok(0) => return Err("a write that takes nothing".into()),
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    times_full += 1;
                    break;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        received.extend(peer.receive((sent - received.len()).min(MANY)));
    }
    assert!(received == all, "other bytes");
    if times_full == 0 {
        return Err("it was never full, so this checked nothing".into());
    }
    Ok(())
}

fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (transport, _) = listener.accept().unwrap();
    transport.set_nonblocking(true).unwrap();
    (transport, peer)
}

fn memory() -> (Memory, Memory) {
    let memory = Memory::default();
    memory.set_room(MANY);
    (memory.clone(), memory)
}

#[test]
fn tcp_keeps_the_contract() {
    let (transport, peer) = tcp();
    assert_eq!(conforms(transport, peer), Ok(()));
}

#[test]
fn memory_keeps_the_contract() {
    let (transport, peer) = memory();
    assert_eq!(conforms(transport, peer), Ok(()));
}

#[test]
fn a_transport_that_buffers_keeps_it_if_it_drains_what_is_below() {
    let (transport, peer) = tcp();
    assert_eq!(conforms(Buffering::<_, true>::new(transport), peer), Ok(()));
    let (transport, peer) = memory();
    assert_eq!(conforms(Buffering::<_, true>::new(transport), peer), Ok(()));
}

#[test]
fn a_transport_that_keeps_something_back_is_found_out() {
    let (transport, peer) = tcp();
    let broken = conforms(Buffering::<_, false>::new(transport), peer).unwrap_err();
    assert!(broken.contains("before a short read"), "{broken}");
    let (transport, peer) = memory();
    let broken = conforms(Buffering::<_, false>::new(transport), peer).unwrap_err();
    assert!(broken.contains("before a short read"), "{broken}");
}
