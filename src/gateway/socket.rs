//! A connection for hyper that the runtime watches only when it must wait.
//!
//! Most requests are there when their connection is accepted, and the answer fits the socket's
//! buffer: such a connection is never registered with the runtime, which saves two system calls
//! and the runtime's record of it. hyper asks for more than the request all the same, so it is not
//! the socket that knows when waiting begins, but whoever drives hyper: see [`Hold`].

use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpStream as BareTcp};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use hyper::rt::ReadBufCursor;
use presenced_net::Watchable;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::limits::{HEAD_READ_BYTES, LINE_BYTES_MAX};

/// A connection for hyper that the runtime watches only when it must wait.
#[derive(Debug)]
pub(super) struct Socket {
    /// What was read before hyper asked for it.
    ahead: Vec<u8>,
    stream: Watchable<TcpStream>,
    hold: Hold,
    line: Line,
}

/// The line of the first request: its bytes so far, or `None` once it has ended.
#[derive(Debug)]
struct Line(Option<usize>);

impl Line {
    fn is_too_long(&self) -> bool {
        self.0.is_some_and(|bytes| bytes > LINE_BYTES_MAX)
    }

    /// Looks at what is read next.
    fn look_at(&mut self, bytes: &[u8]) -> io::Result<()> {
        let so_far = self.0.filter(|_| !bytes.contains(&b'\n'));
        self.0 = so_far.map(|so_far| so_far + bytes.len());
        match self.is_too_long() {
            true => Err(io::ErrorKind::InvalidData.into()),
            false => Ok(()),
        }
    }
}

/// What the driver of hyper says to the socket, and sees of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Hold(Arc<State>);

#[derive(Debug, Default)]
struct State {
    may_wait: AtomicBool,
    is_leaving: AtomicBool,
    has_read: AtomicBool,
    has_unwritten: AtomicBool,
}

impl Hold {
    /// Allows waiting; true the first time. As long as not, a socket that has nothing is pending,
    /// and no one is told when it has: the driver of hyper allows waiting when hyper has nothing
    /// else to do, and polls it again.
    pub(super) fn begin_waiting(&self) -> bool {
        !self.0.may_wait.swap(true, Ordering::Relaxed)
    }

    /// The connection is about to be closed: what has come by now is still to be read, even if the
    /// runtime does not know of it yet.
    pub(super) fn leave(&self) {
        self.0.is_leaving.store(true, Ordering::Relaxed);
    }

    /// See [`Hold::leave`].
    pub(super) fn is_leaving(&self) -> bool {
        self.0.is_leaving.load(Ordering::Relaxed)
    }

    /// Whether hyper has read something since this was asked last.
    pub(super) fn has_read(&self) -> bool {
        self.0.has_read.swap(false, Ordering::Relaxed)
    }

    fn may_wait(&self) -> bool {
        self.0.may_wait.load(Ordering::Relaxed)
    }

    /// An end is nothing that was read.
    fn note_read(&self, count: usize) {
        self.0.has_read.fetch_or(count > 0, Ordering::Relaxed);
    }

    /// Whether hyper has written all that it had.
    pub(super) fn has_written(&self) -> bool {
        !self.0.has_unwritten.load(Ordering::Relaxed)
    }
}

impl Socket {
    /// For a stream that does not block, after `ahead` was read from it.
    pub(super) fn new(stream: BareTcp, ahead: Vec<u8>) -> Socket {
        Socket {
            ahead,
            stream: Watchable::Unwatched(stream),
            hold: Hold::default(),
            line: Line(Some(0)),
        }
    }

    /// Whether the first request's line is longer than the URI that it bears may be. hyper gets no
    /// more of it, as it would call it a head that is too long.
    pub(super) fn is_line_too_long(&self) -> bool {
        self.line.is_too_long()
    }

    /// Its driver's hold on it.
    pub(super) fn hold(&self) -> Hold {
        self.hold.clone()
    }

    /// Whether there is something for hyper already.
    pub(super) fn has_read(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// What was read before hyper asked for it.
    pub(super) fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// What was read ahead, to be taken.
    pub(super) fn ahead_mut(&mut self) -> &mut Vec<u8> {
        &mut self.ahead
    }

    /// Hyper has read this and was not to: it stands before what was read ahead.
    pub(super) fn put_back(&mut self, read: &[u8]) {
        self.ahead.splice(..0, read.iter().copied());
    }

    /// Reads more before hyper asks for it, as soon as there is something.
    ///
    /// # Errors
    ///
    /// There will be nothing more.
    pub(super) async fn read_ahead(&mut self) -> io::Result<()> {
        let stream = self.stream.watch()?;
        loop {
            stream.readable().await?;
            // On the stack only now: whoever waits for long has no buffer.
            let mut bytes = [0; HEAD_READ_BYTES];
            match stream.try_read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.ahead.extend_from_slice(&bytes[..count]);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Hyper gets no more of the first `count` bytes that were read ahead.
    pub(super) fn skip(&mut self, count: usize) {
        self.ahead.drain(..count.min(self.ahead.len()));
    }

    /// Returns when there is something to read, an end or an error included.
    pub(super) async fn readable(&mut self) -> io::Result<()> {
        self.stream.watch()?.readable().await
    }

    /// Whether there is something to read that the runtime may not know of yet.
    pub(super) fn has_come(&self) -> bool {
        let socket = self.stream.socket();
        let peeked = socket.and_then(|socket| socket.peek(&mut [MaybeUninit::uninit()]));
        peeked.is_ok_and(|count| count > 0)
    }

    /// Writes a few bytes without waiting.
    ///
    /// # Errors
    ///
    /// The peer is gone, or does not read: only a part of them was written.
    pub(super) fn say(&self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() || self.stream.socket()?.send(bytes)? == bytes.len() {
            return Ok(());
        }
        Err(io::ErrorKind::WriteZero.into())
    }

    /// Writes all of `bytes`, however long it takes.
    ///
    /// # Errors
    ///
    /// The peer is gone.
    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.watch()?.write_all(bytes).await
    }

    /// Writes what it takes at once, and ends this side.
    pub(super) fn say_last(&self, bytes: &[u8]) {
        if let Ok(socket) = self.stream.socket() {
            // A peer that is gone misses nothing.
            let _ = socket.send(bytes);
            let _ = socket.shutdown(Shutdown::Write);
        }
    }

    /// The stream and what was read ahead and not taken by hyper.
    pub(super) fn into_std(self) -> io::Result<(BareTcp, Vec<u8>)> {
        Ok((self.stream.into_bare()?, self.ahead))
    }

    fn read_now(&mut self, bytes: &mut [u8]) -> Option<io::Result<usize>> {
        let read = match &mut self.stream {
            Watchable::Unwatched(stream) => stream.read(bytes),
            Watchable::Watched(stream) if self.hold.is_leaving() => {
                (&*socket2::SockRef::from(&*stream)).read(bytes)
            }
            Watchable::Watched(_) | Watchable::Lost => return None,
        };
        (!would_block(&read)).then_some(read)
    }
}

fn would_block<T>(result: &io::Result<T>) -> bool {
    let error = result.as_ref().err();
    error.is_some_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

impl hyper::rt::Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buffer.remaining().min(HEAD_READ_BYTES);
        if !self.ahead.is_empty() {
            let count = room.min(self.ahead.len());
            let this = &mut *self;
            this.line.look_at(&this.ahead[..count])?;
            buffer.put_slice(&this.ahead[..count]);
            this.ahead.drain(..count);
            this.hold.note_read(count);
            return Poll::Ready(Ok(()));
        }
        let mut bytes = [0; HEAD_READ_BYTES];
        if let Some(read) = self.read_now(&mut bytes[..room]) {
            let read = &bytes[..read?];
            self.line.look_at(read)?;
            buffer.put_slice(read);
            self.hold.note_read(read.len());
            return Poll::Ready(Ok(()));
        }
        if !self.hold.may_wait() {
            return Poll::Pending;
        }
        let mut bytes = ReadBuf::new(&mut bytes[..room]);
        ready!(Pin::new(self.stream.watch()?).poll_read(context, &mut bytes))?;
        self.line.look_at(bytes.filled())?;
        buffer.put_slice(bytes.filled());
        self.hold.note_read(bytes.filled().len());
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // Until it is asked to flush, hyper may have more.
        self.hold.0.has_unwritten.store(true, Ordering::Relaxed);
        // Even one that is watched, as the runtime does not know yet what a new one takes.
        let written = self.stream.socket()?.send(bytes);
        if !would_block(&written) {
            return Poll::Ready(written);
        }
        if !self.hold.may_wait() {
            return Poll::Pending;
        }
        Pin::new(self.stream.watch()?).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A TCP stream has no buffer of its own.
        self.hold.0.has_unwritten.store(false, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
