//! One connection that carries a pipeline of commands that write.
//!
//! One task owns it; there is no future for a command. The owner renders commands into
//! [`Writer::push`] while there is [`Writer::room`], and awaits [`Writer::progress`],
//! which writes what the socket takes and reads replies in between: a client that only writes
//! deadlocks when both socket buffers are full.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use presenced_net::Watchable;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

use super::MemcachedError;
use super::greeting::{META_NOOP, greet};
use super::misfit::Misfit;
use super::node::{Node, Up};
use super::pipeline::{Outcome, Pipeline};
use super::same_server::{self, Checked};
use super::stream::Stream;
use super::window::Window;
use crate::limits::{CHECK_PAUSE, READ_BYTES, WRITE_BYTES};

/// One connection to one node, for `set`s. `T` names a command to its owner.
#[derive(Debug)]
pub struct Writer<T> {
    stream: Stream,
    pipeline: Pipeline<T>,
    window: Window,
    timeout: Duration,
    /// As long as it ever was, so that commands are rendered in place and nothing is zeroed for
    /// each.
    out: Vec<u8>,
    /// Bytes of `out` that are to be sent.
    filled: usize,
    /// Of those, bytes that the socket has taken.
    sent: usize,
    inbox: Vec<u8>,
    /// Bytes of `inbox` that hold the start of a reply.
    kept: usize,
    /// When the last whole reply came, or the first command of those in flight was sent.
    progress_at: Instant,
    /// The origin of the window's times.
    dialled_at: Instant,
    checked: Checked,
    up: Up,
}

impl<T> Writer<T> {
    /// Connects and greets: a stopped memcached still accepts connections, so only one that
    /// answers `version` is up.
    ///
    /// # Errors
    ///
    /// If the node does not accept the connection, does not answer in time, or refuses our
    /// credentials.
    pub async fn dial(node: &Arc<Node>) -> Result<Writer<T>, MemcachedError> {
        let began = Instant::now();
        let mut stream = node.dial().await?;
        // Done by the kernels: it tells how far away the node is, however busy memcached is.
        let dialling = began.elapsed();
        greet(&mut stream, node).await?;
        let checked = same_server::check(&mut stream, node).await?;
        // A `set` that the kernel delivers after we gave it up could replace a newer entry.
        stream.set_reset_on_close(true)?;
        Ok(Writer {
            stream,
            pipeline: Pipeline::new(node.write_command()),
            window: node.window(dialling),
            timeout: node.timeout(),
            out: Vec::with_capacity(WRITE_BYTES + 1024),
            filled: 0,
            sent: 0,
            inbox: vec![0; READ_BYTES],
            kept: 0,
            progress_at: Instant::now(),
            dialled_at: Instant::now(),
            checked,
            up: node.writer_is_up(),
        })
    }

    /// How many more commands may be pushed now.
    pub fn room(&self) -> usize {
        if self.filled >= WRITE_BYTES {
            return 0;
        }
        self.window.size().saturating_sub(self.pipeline.len())
    }

    /// Adds the command that `render` writes to the start of what it is given, at least `room`
    /// bytes, and whose length it returns.
    #[inline]
    pub fn push(&mut self, item: T, room: usize, render: impl FnOnce(&mut [u8]) -> usize) {
        if self.pipeline.is_empty() {
            self.progress_at = Instant::now();
        }
        if self.out.len() < self.filled + room {
            self.out.resize(self.filled + room, 0);
        }
        self.filled += render(&mut self.out[self.filled..]);
        self.pipeline.push(item);
        if self.pipeline.is_group_full() {
            self.close_group();
        }
    }

    /// Has memcached tell when it has done all that was pushed, if it would not do so by itself.
    fn close_group(&mut self) {
        if self.pipeline.close_group() {
            let end = self.filled + META_NOOP.len();
            self.out.resize(self.out.len().max(end), 0);
            self.out[self.filled..end].copy_from_slice(META_NOOP);
            self.filled = end;
        }
    }

    /// Returns when it is no longer known that the connection leads to the server that the probe
    /// asks: then it is to be made anew when nothing is in flight.
    pub fn unchecked(&self) -> impl Future<Output = ()> + Send + use<T> {
        let (node, sentinel) = (self.up.shared(), self.checked.sentinel);
        let again_at = self.dialled_at + CHECK_PAUSE;
        async move {
            sleep_until(again_at).await;
            node.another_sentinel(sentinel).await;
        }
    }

    /// Commands without a reply.
    pub fn in_flight(&self) -> usize {
        self.pipeline.len()
    }

    /// Whether no more commands may be in flight.
    pub fn is_full(&self) -> bool {
        self.pipeline.len() >= self.window.size()
    }

    /// Whether at most half a window is in flight: time to fill it again.
    pub fn is_half_free(&self) -> bool {
        self.pipeline.len() <= self.window.size() / 2
    }

    /// Waits until commands were written or replies read, and handles them. With nothing in
    /// flight it waits for the connection to end. Cancelling it loses nothing.
    ///
    /// # Errors
    ///
    /// If the connection ended, or memcached said what does not fit; the writer is of no more use
    /// then.
    pub async fn progress(
        &mut self,
        mut answered: impl FnMut(T, Outcome),
    ) -> Result<(), MemcachedError> {
        let deadline = self.progress_at + self.timeout;
        let waiting = !self.pipeline.is_empty();
        let step = poll_fn(|cx| self.poll_step(cx, &mut answered));
        if !waiting {
            return step.await;
        }
        tokio::select! {
            biased;
            step = step => step,
            () = sleep_until(deadline) => Err(MemcachedError::Timeout(self.timeout)),
        }
    }

    /// Whether someone is to be woken when there is something to do ([`Writer::progress`]), or the
    /// owner looks by the clock ([`Writer::step`]), which is cheaper where much is in flight.
    ///
    /// # Errors
    ///
    /// If the runtime refuses the socket; the writer is of no more use then.
    pub fn set_watched(&mut self, watched: bool) -> Result<(), MemcachedError> {
        Ok(self.stream.set_watched(watched)?)
    }

    /// Writes what the socket takes and reads what has come, without waiting. Says whether there
    /// was anything to do.
    ///
    /// # Errors
    ///
    /// If the connection ended, or memcached said what does not fit or nothing for too long; the
    /// writer is of no more use then.
    pub async fn step(
        &mut self,
        mut answered: impl FnMut(T, Outcome),
    ) -> Result<bool, MemcachedError> {
        let step = poll_fn(|cx| match self.poll_step(cx, &mut answered) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => Poll::Ready(Ok(true)),
            Poll::Pending => Poll::Ready(Ok(false)),
        });
        let moved = step.await?;
        if !self.pipeline.is_empty() && self.progress_at.elapsed() >= self.timeout {
            return Err(MemcachedError::Timeout(self.timeout));
        }
        Ok(moved)
    }

    /// Closes the connection and returns what was never answered, in order. If there is any, what
    /// memcached has not received yet is dropped.
    pub fn into_unanswered(mut self) -> impl Iterator<Item = T> {
        if !self.pipeline.is_empty() {
            // Closed here and now, before the end of this writer would take the reset back.
            self.stream = Stream::Tcp(Watchable::Lost);
        }
        std::mem::take(&mut self.pipeline).into_unanswered()
    }

    fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        answered: &mut impl FnMut(T, Outcome),
    ) -> Poll<Result<(), MemcachedError>> {
        let wrote = match self.poll_write(cx) {
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => true,
            Poll::Pending => false,
        };
        match self.poll_read(cx, answered) {
            Poll::Pending if wrote => Poll::Ready(Ok(())),
            read => read,
        }
    }

    /// Ready when something was written.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), MemcachedError>> {
        let rendered = self.pipeline.len() - self.window.in_flight();
        if rendered > 0 {
            self.window.wrote(rendered, self.dialled_at.elapsed());
        }
        self.close_group();
        let mut wrote = false;
        while self.sent < self.filled {
            let rest = &self.out[self.sent..self.filled];
            match Pin::new(&mut self.stream).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(MemcachedError::Closed)),
                Poll::Ready(Ok(count)) => {
                    self.sent += count;
                    wrote = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => break,
            }
        }
        if self.sent == self.filled {
            (self.filled, self.sent) = (0, 0);
            // TLS may keep some; the others have nothing to flush.
            if let Poll::Ready(Err(error)) = Pin::new(&mut self.stream).poll_flush(cx) {
                return Poll::Ready(Err(error.into()));
            }
        }
        if wrote {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    /// Ready when something was read.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        answered: &mut impl FnMut(T, Outcome),
    ) -> Poll<Result<(), MemcachedError>> {
        let mut buffer = ReadBuf::new(&mut self.inbox[self.kept..]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        let count = buffer.filled().len();
        if count == 0 {
            return Poll::Ready(Err(MemcachedError::Closed));
        }
        let filled = self.kept + count;
        let in_flight = self.pipeline.len();
        let taken = self
            .pipeline
            .read(&self.inbox[..filled], answered)
            .map_err(MemcachedError::OutOfStep)?;
        if let Some(reply) = self.pipeline.take_refusal() {
            self.up.node().refuses(&reply);
        }
        self.inbox.copy_within(taken..filled, 0);
        self.kept = filled - taken;
        if self.kept == self.inbox.len() {
            return Poll::Ready(Err(MemcachedError::OutOfStep(Misfit::new(
                "a reply without end",
                &self.inbox,
            ))));
        }
        if taken > 0 {
            // Part of a reply is no progress: a node could send a byte now and then for ever.
            self.progress_at = Instant::now();
            let answered = in_flight - self.pipeline.len();
            let now = self.progress_at - self.dialled_at;
            self.window.answered(answered, now);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T> Drop for Writer<T> {
    fn drop(&mut self) {
        if self.pipeline.is_empty() {
            // All is answered, so a reset would only look like a fault to whoever watches.
            let _ = self.stream.set_reset_on_close(false);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::sleep;

    use super::*;
    use crate::network::{Dialler, Network};
    use crate::{Cluster, Config, ConnectOptions, NodeSpec};

    /// A node whose every connection is served by `serve`.
    pub(crate) fn node<F>(serve: impl Fn(DuplexStream) -> F + Send + Sync + 'static) -> Arc<Node>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let dialler = Dialler::new(move |_| {
            let (ours, theirs) = duplex(512);
            tokio::spawn(serve(theirs));
            Box::pin(async { Ok(Stream::Simulated(Box::new(ours))) })
        });
        let network = Network {
            dialler,
            ..Network::default()
        };
        let connect = ConnectOptions {
            network,
            ..ConnectOptions::default()
        };
        let config = Config {
            connect,
            ..Config::default()
        };
        let node = "127.0.0.1:1".parse::<NodeSpec>().unwrap().into();
        Cluster::new([node], config).topology().nodes()[0].clone()
    }

    #[tokio::test(start_paused = true)]
    async fn part_of_a_reply_is_no_progress_and_whole_replies_are() {
        let limit = ConnectOptions::default().timeout;
        let node = node(move |mut stream| async move {
            stream.write_all(b"VERSION 1\r\n").await.unwrap();
            // Three whole replies, each in time; then a byte now and then, for ever.
            for reply in ["STORED\r\n"; 3] {
                sleep(limit * 4 / 5).await;
                stream.write_all(reply.as_bytes()).await.unwrap();
            }
            while stream.write_all(b"S").await.is_ok() {
                sleep(limit * 4 / 5).await;
            }
        });
        let mut writer = Writer::dial(&node).await.unwrap();
        for number in 0..4 {
            writer.push(number, 64, |out| {
                let set = b"set k 0 0 1\r\nv\r\n";
                out[..set.len()].copy_from_slice(set);
                set.len()
            });
        }
        let (began, mut stored) = (Instant::now(), Vec::new());
        let error = loop {
            let step = writer.progress(|number, outcome| {
                assert_eq!(outcome, Outcome::Stored);
                stored.push(number);
            });
            if let Err(error) = step.await {
                break error;
            }
        };
        assert!(matches!(error, MemcachedError::Timeout(_)), "{error}");
        assert_eq!(stored, [0, 1, 2]);
        assert!(began.elapsed() < limit * 4, "{:?}", began.elapsed());
    }
}
