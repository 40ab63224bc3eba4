//! [`Watchable`]: a stream that the runtime watches, or does not.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream as BareTcp;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as BareUnix;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A stream of tokio's that can be taken out of the runtime and put back.
pub trait Pollable: AsyncRead + AsyncWrite + AsFd + Unpin + Sized {
    /// The same without the runtime.
    type Bare: Read + Write + AsFd + Unpin;

    /// Takes it out of the runtime.
    ///
    /// # Errors
    ///
    /// What the system says; the stream is gone then.
    fn into_bare(self) -> io::Result<Self::Bare>;

    /// Puts it into the current runtime. It must not block.
    ///
    /// # Errors
    ///
    /// What the system says, or the runtime; the stream is gone then.
    fn from_bare(bare: Self::Bare) -> io::Result<Self>;
}

impl Pollable for TcpStream {
    type Bare = BareTcp;

    fn into_bare(self) -> io::Result<BareTcp> {
        self.into_std()
    }

    fn from_bare(bare: BareTcp) -> io::Result<TcpStream> {
        TcpStream::from_std(bare)
    }
}

impl Pollable for UnixStream {
    type Bare = BareUnix;

    fn into_bare(self) -> io::Result<BareUnix> {
        self.into_std()
    }

    fn from_bare(bare: BareUnix) -> io::Result<UnixStream> {
        UnixStream::from_std(bare)
    }
}

/// A stream that the runtime watches, or does not.
///
/// Watching costs two system calls and a record in the runtime, and each byte that comes wakes the
/// thread. One that is not watched is read and written all the same, but nobody is woken when it can be:
/// its owner looks by the clock, or watches it when there is nothing else to do.
#[derive(Debug)]
pub enum Watchable<S: Pollable> {
    /// The runtime wakes its task.
    Watched(S),
    /// Nobody is woken.
    Unwatched(S::Bare),
    /// It could not be changed from one to the other; every use is an error.
    Lost,
}

impl<S: Pollable> Watchable<S> {
    /// Lets the runtime watch it, and returns it.
    ///
    /// # Errors
    ///
    /// What the system says; the stream is lost then.
    pub fn watch(&mut self) -> io::Result<&mut S> {
        if matches!(self, Watchable::Unwatched(_))
            && let Watchable::Unwatched(bare) = std::mem::replace(self, Watchable::Lost)
        {
            *self = Watchable::Watched(S::from_bare(bare)?);
        }
        match self {
            Watchable::Watched(stream) => Ok(stream),
            Watchable::Unwatched(_) | Watchable::Lost => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Takes it out of the runtime, and returns it.
    ///
    /// # Errors
    ///
    /// What the system says; the stream is lost then.
    pub fn unwatch(&mut self) -> io::Result<&mut S::Bare> {
        if matches!(self, Watchable::Watched(_))
            && let Watchable::Watched(stream) = std::mem::replace(self, Watchable::Lost)
        {
            *self = Watchable::Unwatched(stream.into_bare()?);
        }
        match self {
            Watchable::Unwatched(bare) => Ok(bare),
            Watchable::Watched(_) | Watchable::Lost => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// The stream, out of the runtime.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn into_bare(mut self) -> io::Result<S::Bare> {
        self.unwatch()?;
        match self {
            Watchable::Unwatched(bare) => Ok(bare),
            Watchable::Watched(_) | Watchable::Lost => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// The socket itself, for its options and for what is to be asked without the runtime.
    ///
    /// # Errors
    ///
    /// If the stream is lost.
    pub fn socket(&self) -> io::Result<SockRef<'_>> {
        match self {
            Watchable::Watched(stream) => Ok(SockRef::from(stream)),
            Watchable::Unwatched(bare) => Ok(SockRef::from(bare)),
            Watchable::Lost => Err(ErrorKind::NotConnected.into()),
        }
    }
}

/// What would block is pending, and nobody is woken when it would not.
fn polled<T>(done: io::Result<T>) -> Poll<io::Result<T>> {
    match done {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
        done => Poll::Ready(done),
    }
}

fn lost<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(ErrorKind::NotConnected.into()))
}

impl<S: Pollable> AsyncRead for Watchable<S> {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Watchable::Watched(stream) => Pin::new(stream).poll_read(context, buffer),
            Watchable::Unwatched(bare) => {
                let read = polled(bare.read(buffer.initialize_unfilled()));
                read.map_ok(|count| buffer.advance(count))
            }
            Watchable::Lost => lost(),
        }
    }
}

impl<S: Pollable> AsyncWrite for Watchable<S> {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Watchable::Watched(stream) => Pin::new(stream).poll_write(context, bytes),
            Watchable::Unwatched(bare) => polled(bare.write(bytes)),
            Watchable::Lost => lost(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Watchable::Watched(stream) => Pin::new(stream).poll_flush(context),
            // A socket has no buffer of its own in this process.
            Watchable::Unwatched(_) => Poll::Ready(Ok(())),
            Watchable::Lost => lost(),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut().watch() {
            Ok(stream) => Pin::new(stream).poll_shutdown(context),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;

    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn it_carries_the_same_bytes_watched_or_not() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut stream = Watchable::Watched(ours);
        let mut buffer = [0; 8];
        for watched in [false, true, false] {
            match watched {
                true => drop(stream.watch().unwrap()),
                false => drop(stream.unwatch().unwrap()),
            }
            assert!(
                stream.read(&mut buffer).now_or_never().is_none(),
                "nothing is there"
            );
            theirs.write_all(b"question").await.unwrap();
            assert_eq!(
                stream
                    .socket()
                    .unwrap()
                    .peek(&mut [MaybeUninit::uninit(); 8])
                    .unwrap(),
                8
            );
            if watched {
                stream.read_exact(&mut buffer).await.unwrap();
            } else {
                // What is there is read at once; nobody would be woken.
                stream
                    .read_exact(&mut buffer)
                    .now_or_never()
                    .unwrap()
                    .unwrap();
            }
            assert_eq!(&buffer, b"question");
            stream.write_all(b"answer").await.unwrap();
            theirs.read_exact(&mut buffer[..6]).await.unwrap();
            assert_eq!(&buffer[..6], b"answer");
        }
        stream.shutdown().await.unwrap();
        assert_eq!(theirs.read(&mut buffer).await.unwrap(), 0);
        assert!(stream.into_bare().is_ok());
    }

    #[tokio::test]
    async fn a_lost_stream_is_an_error_and_no_panic() {
        let mut stream: Watchable<TcpStream> = Watchable::Lost;
        assert!(stream.watch().is_err() && stream.unwatch().is_err() && stream.socket().is_err());
        assert!(stream.read(&mut [0]).await.is_err());
        assert!(stream.write(&[0]).await.is_err());
        assert!(stream.flush().await.is_err() && stream.shutdown().await.is_err());
        assert!(stream.into_bare().is_err());
    }
}
