//! The bytes of a connection, whatever carries them.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use futures_util::FutureExt;
use presenced_net::Watchable;
use presenced_net::tls::TlsStream;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::yield_now;

use super::MemcachedError;
use super::misfit::Misfit;
use super::tls::{self, Tls};
use crate::limits::PEER_WORDS_BYTES_MAX;

/// A connection to a node, of any kind.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(Watchable<TcpStream>),
    /// Over a Unix socket.
    Unix(Watchable<UnixStream>),
    /// Over TCP, encrypted.
    Tls(Box<TlsStream<TcpStream>>),
    /// What a simulation carries.
    Simulated(Box<dyn SimulatedStream>),
}

/// A connection in a simulation.
pub trait SimulatedStream: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {
    /// Whether there is anything to read, the end included, that a read does not find at once. In
    /// memory there is not.
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
            Stream::Tcp(Watchable::Watched(stream)) => Ok(Stream::Tls(Box::new(
                tls::connect(tls, host, stream).await?,
            ))),
            Stream::Unix(_) => Ok(self),
            Stream::Tcp(_) | Stream::Tls(_) | Stream::Simulated(_) => {
                Err(MemcachedError::Connect(io::ErrorKind::Unsupported.into()))
            }
        }
    }

    /// Takes the socket out of the runtime's poll, if it can be, or puts it back.
    ///
    /// While it is watched, each of memcached's small writes wakes this thread, which costs both
    /// sides more than the replies themselves. Whoever has one that is not watched looks by the
    /// clock.
    ///
    /// # Errors
    ///
    /// What the system says; the stream is lost then.
    pub fn set_watched(&mut self, watched: bool) -> io::Result<()> {
        match (self, watched) {
            (Stream::Tcp(stream), true) => stream.watch().map(drop),
            (Stream::Tcp(stream), false) => stream.unwatch().map(drop),
            (Stream::Unix(stream), true) => stream.watch().map(drop),
            (Stream::Unix(stream), false) => stream.unwatch().map(drop),
            (Stream::Tls(_) | Stream::Simulated(_), _) => Ok(()),
        }
    }

    /// Fails if there is anything to read, or the other side has ended the connection. A question
    /// may only be sent after it: what has come before a question would be taken for its answer.
    ///
    /// # Errors
    ///
    /// [`MemcachedError`] if there is something to read, or the connection has ended.
    pub async fn expect_silence(&mut self) -> Result<(), MemcachedError> {
        loop {
            // The socket no longer has what TLS has decrypted.
            let mut words = [0; PEER_WORDS_BYTES_MAX];
            match self.read(&mut words).now_or_never() {
                Some(Ok(0)) => return Err(MemcachedError::Closed),
                Some(Ok(count)) => {
                    let misfit = Misfit::new("a reply without a question", &words[..count]);
                    return Err(MemcachedError::OutOfStep(misfit));
                }
                Some(Err(error)) => return Err(error.into()),
                None if !self.has_unread()? => return Ok(()),
                // It came after the runtime's last look at its sockets, or is no more than TLS's
                // own messages.
                None => yield_now().await,
            }
        }
    }

    /// Whether the socket has bytes, or has been closed by the other side, asked without the
    /// runtime.
    fn has_unread(&self) -> io::Result<bool> {
        let socket = match self {
            Stream::Tcp(stream) => stream.socket()?,
            Stream::Unix(stream) => stream.socket()?,
            Stream::Tls(stream) => SockRef::from(stream.get_ref().0),
            Stream::Simulated(stream) => return stream.has_unread(),
        };
        match socket.peek(&mut [MaybeUninit::uninit()]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            peeked => peeked.map(|_| true),
        }
    }

    /// What becomes of bytes that the peer has not acknowledged when the socket is closed, by us or
    /// by the end of the process: they are dropped and the peer gets a reset, or the kernel goes on
    /// sending them, for minutes if it must. Over a Unix socket bytes are with the peer at once.
    ///
    /// # Errors
    ///
    /// What the system says to the option.
    pub fn set_reset_on_close(&self, reset: bool) -> io::Result<()> {
        let socket = match self {
            Stream::Tcp(stream) => stream.socket()?,
            Stream::Tls(stream) => SockRef::from(stream.get_ref().0),
            Stream::Simulated(stream) => {
                stream.set_reset_on_close(reset);
                return Ok(());
            }
            Stream::Unix(_) => return Ok(()),
        };
        socket.set_linger(reset.then_some(Duration::ZERO))
    }
}

macro_rules! each_kind {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp($stream) => $call,
            Stream::Unix($stream) => $call,
            Stream::Tls($stream) => $call,
            Stream::Simulated($stream) => $call,
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
        each_kind!(self, stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each_kind!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_kind!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_kind!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
