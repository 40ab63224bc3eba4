//! A connection for hyper that the runtime watches only when it must wait; with TLS, once its handshake is done.
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
use presenced_session::connection::{Connection, Tls};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::sealed::Sealed;
use crate::limits::{HEAD_READ_BYTES, LINE_BYTES_MAX, SENT_TOGETHER_BYTES_MAX};

/// A connection for hyper that the runtime watches only when it must wait.
#[derive(Debug)]
pub(super) struct Socket {
    /// What was read before hyper asked for it; with TLS, what was in its records.
    ahead: Vec<u8>,
    stream: Watchable<TcpStream>,
    tls: Option<Sealed>,
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
    has_begun_record: AtomicBool,
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

    /// Whether a record of TLS has come in part.
    pub(super) fn has_begun_record(&self) -> bool {
        self.0.has_begun_record.load(Ordering::Relaxed)
    }

    fn note_begun_record(&self, is_begun: bool) {
        self.0.has_begun_record.store(is_begun, Ordering::Relaxed);
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
    /// For a connection that does not block, after `ahead` was read from it.
    pub(super) fn new(connection: impl Into<Connection<BareTcp>>, ahead: Vec<u8>) -> Socket {
        let Connection { transport, tls } = connection.into();
        Socket {
            ahead,
            stream: Watchable::Unwatched(transport),
            tls: tls.map(|tls| Sealed::new(tls, Vec::new())),
            hold: Hold::default(),
            line: Line(Some(0)),
        }
    }

    /// A TLS handshake was made of what was read so far. `rest` is what came behind it, and `last` what is still to be said
    /// in it: it goes out with the answer, if a request is there.
    ///
    /// # Errors
    ///
    /// The connection has to end.
    pub(super) fn secure(&mut self, tls: Tls, rest: &[u8], last: Vec<u8>) -> io::Result<()> {
        let tls = self.tls.insert(Sealed::new(tls, last));
        tls.open(rest, &mut self.ahead)?;
        if self.ahead.is_empty() {
            // What is not taken now goes out with what is written next.
            let _ = self.send_unsent();
        }
        Ok(())
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
        loop {
            if self.has_ended() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let stream = self.stream.watch()?;
            stream.readable().await?;
            // On the stack only now: whoever waits for long has no buffer.
            let mut bytes = [0; HEAD_READ_BYTES];
            match stream.try_read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    let before = self.ahead.len();
                    self.take(&bytes[..count])?;
                    if self.ahead.len() > before {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes what was read.
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            self.ahead.extend_from_slice(bytes);
            return Ok(());
        };
        let opened = tls.open(bytes, &mut self.ahead);
        // An alert, or a key update. What is not taken now goes out with what is written next.
        let _ = self.send_unsent();
        opened
    }

    /// Whether TLS has come to its end, so that nothing more is read.
    fn has_ended(&self) -> bool {
        self.tls.as_ref().is_some_and(Sealed::has_ended)
    }

    /// Sends what was sealed, without waiting.
    ///
    /// # Errors
    ///
    /// The peer is gone, or does not read: something is still to be sent.
    fn send_unsent(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while !tls.unsent().is_empty() {
                let count = self.stream.socket()?.send(tls.unsent())?;
                tls.sent(count);
            }
        }
        Ok(())
    }

    /// Seals all of `bytes`.
    fn seal_all(tls: &mut Sealed, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = tls.seal(bytes)?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Hyper gets no more of the first `count` bytes that were read ahead.
    pub(super) fn skip(&mut self, count: usize) {
        self.ahead.drain(..count.min(self.ahead.len()));
    }

    /// Returns when there is something to read, an end or an error included.
    pub(super) async fn readable(&mut self) -> io::Result<()> {
        if self.has_ended() {
            return Ok(());
        }
        let stream = self.stream.watch()?;
        match self.tls {
            None => stream.readable().await,
            // The runtime may not know yet that what came with the handshake has been read.
            Some(_) => stream.peek(&mut [0]).await.map(drop),
        }
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
    pub(super) fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            Socket::seal_all(tls, bytes)?;
            return self.send_unsent();
        }
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
        let Some(tls) = &mut self.tls else {
            let mut rest = bytes;
            while !rest.is_empty() {
                let sent = send_some(&mut self.stream, rest).await?;
                rest = &rest[sent..];
            }
            return Ok(());
        };
        Socket::seal_all(tls, bytes)?;
        send_all(&mut self.stream, tls).await
    }

    /// Writes what it takes at once, and ends this side.
    pub(super) fn say_last(&mut self, bytes: &[u8]) {
        // A peer that is gone misses nothing.
        let _ = self.say(bytes);
        self.close();
        if let Ok(socket) = self.stream.socket() {
            let _ = socket.shutdown(Shutdown::Write);
        }
    }

    /// Writes all of `bytes`, however long it takes, and ends this side. Returns the stream, of which nothing more is to be
    /// made.
    ///
    /// # Errors
    ///
    /// The peer is gone.
    pub(super) async fn write_last(mut self, bytes: &[u8]) -> io::Result<TcpStream> {
        match &mut self.tls {
            None => self.stream.watch()?.write_all(bytes).await?,
            Some(tls) => {
                Socket::seal_all(tls, bytes)?;
                tls.close();
                send_all(&mut self.stream, tls).await?;
            }
        }
        let mut stream = self.into_watched()?;
        stream.shutdown().await?;
        Ok(stream)
    }

    /// The end of TLS, if the peer takes so few bytes now.
    fn close(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.close();
            let _ = self.send_unsent();
        }
    }

    /// The stream, of which nothing more is to be made.
    pub(super) fn into_watched(mut self) -> io::Result<TcpStream> {
        self.tls = None;
        self.stream.watch()?;
        match std::mem::replace(&mut self.stream, Watchable::Lost) {
            Watchable::Watched(stream) => Ok(stream),
            Watchable::Unwatched(_) | Watchable::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// The connection and what was read ahead and not taken by hyper.
    pub(super) fn into_connection(mut self) -> io::Result<(Connection<BareTcp>, Vec<u8>)> {
        self.send_unsent()?;
        let tls = match self.tls.take().map(Sealed::into_tls) {
            // Its next record would come in the middle of another.
            Some(None) => return Err(io::ErrorKind::WriteZero.into()),
            tls => tls.flatten(),
        };
        let stream = std::mem::replace(&mut self.stream, Watchable::Lost);
        let transport = stream.into_bare()?;
        let connection = Connection { transport, tls };
        Ok((connection, std::mem::take(&mut self.ahead)))
    }

    /// What hyper is to get next.
    fn poll_read_bytes(
        &mut self,
        context: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(read) = self.read_now(bytes) {
            return Poll::Ready(read);
        }
        if !self.hold.may_wait() {
            return Poll::Pending;
        }
        let mut bytes = ReadBuf::new(bytes);
        ready!(Pin::new(self.stream.watch()?).poll_read(context, &mut bytes))?;
        Poll::Ready(Ok(bytes.filled().len()))
    }

    /// Sends what was sealed.
    fn poll_unsent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(tls) = &mut self.tls {
            while !tls.unsent().is_empty() {
                let sent = poll_send(&mut self.stream, &self.hold, context, tls.unsent());
                tls.sent(ready!(sent)?);
            }
        }
        Poll::Ready(Ok(()))
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
        while self.tls.is_some() && self.ahead.is_empty() {
            let mut bytes = [0; HEAD_READ_BYTES];
            let count = match self.has_ended() {
                true => 0,
                false => ready!(self.poll_read_bytes(context, &mut bytes))?,
            };
            if count == 0 {
                return Poll::Ready(Ok(()));
            }
            self.take(&bytes[..count])?;
            let is_begun = self.tls.as_ref().is_some_and(Sealed::has_begun_record);
            self.hold.note_begun_record(is_begun);
        }
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
        let count = ready!(self.poll_read_bytes(context, &mut bytes[..room]))?;
        self.line.look_at(&bytes[..count])?;
        buffer.put_slice(&bytes[..count]);
        self.hold.note_read(count);
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
        let waits = self.tls.as_ref().map_or(0, |tls| tls.unsent().len());
        if waits > SENT_TOGETHER_BYTES_MAX {
            // What is sealed can't be taken back, so little more than one record waits.
            ready!(self.poll_unsent(context))?;
        }
        let this = &mut *self;
        match &mut this.tls {
            None => poll_send(&mut this.stream, &this.hold, context, bytes),
            Some(tls) => {
                let count = tls.seal(bytes)?;
                if let Poll::Ready(Err(error)) = self.poll_unsent(context) {
                    return Poll::Ready(Err(error));
                }
                Poll::Ready(Ok(count))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A TCP stream has no buffer of its own.
        ready!(self.poll_unsent(context))?;
        self.hold.0.has_unwritten.store(false, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(tls) = &mut self.tls {
            tls.close();
        }
        ready!(self.poll_unsent(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Sends what was sealed, however long it takes. What was sent is known even if this is cancelled.
async fn send_all(stream: &mut Watchable<TcpStream>, tls: &mut Sealed) -> io::Result<()> {
    while !tls.unsent().is_empty() {
        let sent = send_some(stream, tls.unsent()).await?;
        tls.sent(sent);
    }
    Ok(())
}

/// Sends some of `bytes`: at once if the peer takes them, without the runtime, which knows of a new connection only later what
/// it takes.
async fn send_some(stream: &mut Watchable<TcpStream>, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = stream.socket()?.send(bytes);
    if would_block(&sent) {
        sent = stream.watch()?.write(bytes).await;
    }
    match sent {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        sent => sent,
    }
}

fn poll_send(
    stream: &mut Watchable<TcpStream>,
    hold: &Hold,
    context: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    // Even one that is watched, as the runtime does not know yet what a new one takes.
    let written = stream.socket()?.send(bytes);
    if !would_block(&written) {
        return Poll::Ready(written);
    }
    if !hold.may_wait() {
        return Poll::Pending;
    }
    Pin::new(stream.watch()?).poll_write(context, bytes)
}

impl Drop for Socket {
    /// The peer of a connection that just ends is told that it does (RFC 8446 §6.1).
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::pin::pin;

    use futures_util::poll;
    use presenced_tls::{End, testing};
    use socket2::SockRef;
    use tokio::task::spawn_blocking;

    use super::*;

    #[tokio::test]
    async fn what_is_sealed_goes_out_once_even_if_sending_is_cancelled() {
        // More than the kernel takes at once.
        let said: Vec<_> = (0..1_000_000_u32).map(|number| number as u8).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for suite in testing::suites() {
            let mut client = BareTcp::connect(listener.local_addr().unwrap()).unwrap();
            let (transport, _) = listener.accept().unwrap();
            transport.set_nonblocking(true).unwrap();
            SockRef::from(&transport).set_send_buffer_size(1).unwrap();
            let (mut client_end, records) = testing::ends(suite);
            let partial = Vec::new();
            let tls = Some(Tls { records, partial });
            let mut socket = Socket::new(Connection { transport, tls }, Vec::new());
            assert!(poll!(pin!(socket.write_all(&said))).is_pending());
            let hears = spawn_blocking(move || {
                let mut heard = Vec::new();
                client.read_to_end(&mut heard).map(|_| heard)
            });
            socket.write_all(b"more").await.unwrap();
            socket.write_last(b"last").await.unwrap();
            let mut heard = hears.await.unwrap().unwrap();
            let opened = client_end.open(&mut heard, &mut Vec::new());
            assert_eq!(opened.end, Some(End::Closed), "{suite:?}");
            assert!(heard[..opened.data] == [&said[..], b"morelast"].concat());
        }
    }
}
