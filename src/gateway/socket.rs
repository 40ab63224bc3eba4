//! A connection for hyper that the runtime watches only when it must wait.
//!
//! Most requests are there when their connection is accepted, and the answer fits the socket's
//! buffer: such a connection is never registered with the runtime, which saves two system calls
//! and the runtime's record of it. hyper asks for more than the request all the same, so it is not
//! the socket that knows when waiting begins, but whoever drives hyper: see [`Patience`].

use std::io::{self, Read};
use std::net::TcpStream as BareTcp;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use hyper::rt::ReadBufCursor;
use presenced_net::Watchable;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::limits::HEAD_READ_BYTES;

/// A connection for hyper that the runtime watches only when it must wait.
#[derive(Debug)]
pub(super) struct Socket {
    /// What was read before hyper asked for it.
    ahead: Vec<u8>,
    stream: Watchable<TcpStream>,
    patience: Patience,
}

/// Whether to wait. As long as not, a socket that has nothing is pending, and no one is told when
/// it has: the driver of hyper allows waiting when hyper has nothing else to do, and polls it again.
#[derive(Clone, Debug, Default)]
pub(super) struct Patience(Arc<AtomicBool>);

impl Patience {
    /// Allows waiting; true the first time.
    pub(super) fn begin(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }

    fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Socket {
    /// For a stream that does not block, after `ahead` was read from it.
    pub(super) fn new(stream: BareTcp, ahead: Vec<u8>) -> Socket {
        Socket {
            ahead,
            stream: Watchable::Unwatched(stream),
            patience: Patience::default(),
        }
    }

    /// Its driver's hold on it.
    pub(super) fn patience(&self) -> Patience {
        self.patience.clone()
    }

    /// Whether there is something for hyper already.
    pub(super) fn has_read(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Returns when there is something to read, an end or an error included.
    pub(super) async fn readable(&mut self) -> io::Result<()> {
        self.stream.watch()?.readable().await
    }

    /// The stream and what was read ahead and not taken by hyper.
    pub(super) fn into_std(self) -> io::Result<(BareTcp, Vec<u8>)> {
        Ok((self.stream.into_bare()?, self.ahead))
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
            buffer.put_slice(&self.ahead[..count]);
            self.ahead.drain(..count);
            return Poll::Ready(Ok(()));
        }
        let mut bytes = [0; HEAD_READ_BYTES];
        if let Watchable::Unwatched(stream) = &mut self.stream {
            let read = stream.read(&mut bytes[..room]);
            if !would_block(&read) {
                buffer.put_slice(&bytes[..read?]);
                return Poll::Ready(Ok(()));
            }
            if !self.patience.has_begun() {
                return Poll::Pending;
            }
        }
        let mut bytes = ReadBuf::new(&mut bytes[..room]);
        ready!(Pin::new(self.stream.watch()?).poll_read(context, &mut bytes))?;
        buffer.put_slice(bytes.filled());
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // Even one that is watched, as the runtime does not know yet what a new one takes.
        let written = self.stream.socket()?.send(bytes);
        if !would_block(&written) {
            return Poll::Ready(written);
        }
        if !self.patience.has_begun() {
            return Poll::Pending;
        }
        Pin::new(self.stream.watch()?).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A TCP stream has no buffer of its own.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
