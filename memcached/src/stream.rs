//! The bytes of a connection, whatever carries them.

use std::fmt;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use std::net::TcpStream as BareTcp;
use std::os::unix::net::UnixStream as BareUnix;

use futures_util::FutureExt;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::yield_now;
use tokio_rustls::client::TlsStream;

use super::MemcachedError;
use super::tls::Tls;

/// A connection to a node, of any kind.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
    /// Over TCP, encrypted.
    Tls(Box<TlsStream<TcpStream>>),
    /// Over TCP, not watched by the runtime: no one is woken when it can be read or written.
    BareTcp(BareTcp),
    /// The same over a Unix socket.
    BareUnix(BareUnix),
    /// What a simulation carries.
    Simulated(Box<dyn SimulatedStream>),
    /// There is none any more.
    Lost,
}

/// A connection in a simulation.
pub trait SimulatedStream: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {
    /// Whether there is anything to read, the end included, that a read does not find at once. In memory
    /// there is not.
    ///
    /// # Errors
    ///
    /// If the connection is broken.
    fn has_unread(&self) -> io::Result<bool> {
        Ok(false)
    }

    /// Whether bytes that the peer has not received are dropped when the connection is closed.
    fn set_reset_on_close(&self, reset: bool) {
        let _ = reset;
    }
}

impl SimulatedStream for DuplexStream {}

impl Stream {
    /// Encrypts what goes over TCP; over a Unix socket there is no TLS.
    pub(super) async fn encrypt(self, tls: &Tls, host: &str) -> Result<Stream, MemcachedError> {
        match self {
            Stream::Tcp(stream) => Ok(Stream::Tls(Box::new(tls.connect(host, stream).await?))),
            Stream::Unix(_) | Stream::BareUnix(_) => Ok(self),
            Stream::Tls(_) | Stream::BareTcp(_) | Stream::Simulated(_) | Stream::Lost => {
                Err(MemcachedError::Connect(io::ErrorKind::Unsupported.into()))
            }
        }
    }

    /// Takes the socket out of the runtime's poll, if it can be.
    ///
    /// While it is watched, each of memcached's small writes wakes this thread, which costs both sides
    /// more than the replies themselves. Whoever has one that is not watched looks by the clock.
    ///
    /// # Errors
    ///
    /// What the system says; the stream is lost then.
    pub fn unwatch(&mut self) -> io::Result<()> {
        *self = match std::mem::replace(self, Stream::Lost) {
            Stream::Tcp(stream) => Stream::BareTcp(stream.into_std()?),
            Stream::Unix(stream) => Stream::BareUnix(stream.into_std()?),
            other => other,
        };
        Ok(())
    }

    /// Puts it back.
    ///
    /// # Errors
    ///
    /// What the system says; the stream is lost then.
    pub fn watch(&mut self) -> io::Result<()> {
        *self = match std::mem::replace(self, Stream::Lost) {
            Stream::BareTcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            Stream::BareUnix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
            other => other,
        };
        Ok(())
    }

    /// Fails if there is anything to read, or the other side has ended the connection. A question may only
    /// be sent after it: what has come before a question would be taken for its answer.
    ///
    /// # Errors
    ///
    /// [`MemcachedError`] if there is something to read, or the connection has ended.
    pub async fn expect_silence(&mut self) -> Result<(), MemcachedError> {
        loop {
            // The socket no longer has what TLS has decrypted.
            match self.read(&mut [0]).now_or_never() {
                Some(Ok(0)) => return Err(MemcachedError::Closed),
                Some(Ok(_)) => return Err(MemcachedError::OutOfStep("a reply without a question")),
                Some(Err(error)) => return Err(error.into()),
                None if !self.has_unread()? => return Ok(()),
                // It came after the runtime's last look at its sockets, or is no more than TLS's own messages.
                None => yield_now().await,
            }
        }
    }

    /// Whether the socket has bytes, or has been closed by the other side, asked without the runtime.
    fn has_unread(&self) -> io::Result<bool> {
        let socket = match self {
            Stream::Tcp(stream) => SockRef::from(stream),
            Stream::Unix(stream) => SockRef::from(stream),
            Stream::Tls(stream) => SockRef::from(stream.get_ref().0),
            Stream::BareTcp(stream) => SockRef::from(stream),
            Stream::BareUnix(stream) => SockRef::from(stream),
            Stream::Simulated(stream) => return stream.has_unread(),
            Stream::Lost => return Err(io::ErrorKind::NotConnected.into()),
        };
        match socket.peek(&mut [MaybeUninit::uninit()]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            peeked => peeked.map(|_| true),
        }
    }

    /// What becomes of bytes that the peer has not acknowledged when the socket is closed, by us or by
    /// the end of the process: they are dropped and the peer gets a reset, or the kernel goes on sending
    /// them, for minutes if it must. Over a Unix socket bytes are with the peer at once.
    ///
    /// # Errors
    ///
    /// What the system says to the option.
    pub fn set_reset_on_close(&self, reset: bool) -> io::Result<()> {
        let socket = match self {
            Stream::Tcp(stream) => SockRef::from(stream),
            Stream::Tls(stream) => SockRef::from(stream.get_ref().0),
            Stream::BareTcp(stream) => SockRef::from(stream),
            Stream::Simulated(stream) => {
                stream.set_reset_on_close(reset);
                return Ok(());
            }
            Stream::Unix(_) | Stream::BareUnix(_) | Stream::Lost => return Ok(()),
        };
        socket.set_linger(reset.then_some(Duration::ZERO))
    }
}

/// What would block is pending, and no one is told when it would not.
fn polled<T>(done: io::Result<T>) -> Poll<io::Result<T>> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        done => Poll::Ready(done),
    }
}

fn lost<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

macro_rules! each_kind {
    ($self:ident, $stream:ident => $call:expr, $bare:ident => $bare_call:expr) => {
        match $self.get_mut() {
            Stream::Tcp($stream) => $call,
            Stream::Unix($stream) => $call,
            Stream::Tls($stream) => $call,
            Stream::BareTcp($bare) => $bare_call,
            Stream::BareUnix($bare) => $bare_call,
            Stream::Simulated($stream) => $call,
            Stream::Lost => lost(),
        }
    };
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each_kind!(
            self,
            stream => Pin::new(stream).poll_read(cx, buffer),
            bare => polled(bare.read(buffer.initialize_unfilled())).map_ok(|count| buffer.advance(count))
        )
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each_kind!(self, stream => Pin::new(stream).poll_write(cx, bytes), bare => polled(bare.write(bytes)))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_kind!(self, stream => Pin::new(stream).poll_flush(cx), _bare => Poll::Ready(Ok(())))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_kind!(self, stream => Pin::new(stream).poll_shutdown(cx), _bare => Poll::Ready(Ok(())))
    }
}
