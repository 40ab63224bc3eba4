//! What lies between an edge and a node: bytes on their way, and what becomes of them.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use presenced_memcached::stream::SimulatedStream;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf, WriteHalf,
};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Bytes on their way in one direction of a connection, at each of its ends.
pub(super) const WIRE_BYTES: usize = 64 * 1024;

/// How long bytes take from one end of a link to the other, if nothing else is said.
pub const LINK_DELAY: Duration = Duration::from_millis(1);

/// Replies that are lost or doubled, each a whole one.
const GARBLED: [&[u8]; 4] = [b"STORED\r\n", b"END\r\n", b"TOUCHED\r\n", b"NOT_FOUND\r\n"];

/// How long after an answer it comes once more, where answers are repeated: when the next question may have
/// been asked, or not.
const STALE_AFTER: Duration = Duration::from_millis(50);

/// How what writes entries begins.
const ENTRY_WRITTEN: &[u8] = b"set user:";

/// What lies between an edge and a node.
#[derive(Clone)]
pub(super) struct Link {
    /// Cuts that were made and not mended.
    pub(super) cuts: watch::Sender<u32>,
    pub(super) delay: watch::Sender<Duration>,
    /// Whether entries that the edge writes don't arrive.
    pub(super) holds_writes: watch::Sender<bool>,
    /// Whether connections that write end, and new ones are refused.
    pub(super) refuses: watch::Sender<bool>,
    /// Whether what a `get` is answered comes once more, later.
    pub(super) repeats_answers: Arc<AtomicBool>,
    /// What becomes of the next reply.
    pub(super) garble: Arc<Mutex<Option<Garble>>>,
    /// Connections that the edge has now.
    pub(super) open: Arc<AtomicUsize>,
}

/// What a link does to one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Garble {
    /// It never comes.
    Lose,
    /// It comes twice.
    Repeat,
}

impl Link {
    pub(super) fn new() -> Link {
        Link {
            cuts: watch::Sender::new(0),
            delay: watch::Sender::new(LINK_DELAY),
            holds_writes: watch::Sender::new(false),
            refuses: watch::Sender::new(false),
            repeats_answers: Arc::default(),
            garble: Arc::default(),
            open: Arc::default(),
        }
    }

    /// Returns when what was sent now has arrived.
    pub(super) async fn cross(&self) {
        let delay = *self.delay.borrow();
        sleep(delay).await;
        // The link itself has the other end.
        let _ = self.cuts.subscribe().wait_for(|cuts| *cuts == 0).await;
    }

    /// Returns when `bytes` of an edge may go on.
    pub(super) async fn let_on(&self, bytes: &[u8]) {
        if bytes.starts_with(ENTRY_WRITTEN) {
            let mut holds_writes = self.holds_writes.subscribe();
            // The link itself has the other end.
            let _ = holds_writes.wait_for(|holds_writes| !holds_writes).await;
        }
    }

    /// Returns when connections that write have to end.
    async fn refusal(&self) {
        // The link itself has the other end.
        let _ = self.refuses.subscribe().wait_for(|refuses| *refuses).await;
    }

    /// Whether `bytes` are a whole answer to a `get` that comes once more.
    fn repeats(&self, bytes: &[u8]) -> bool {
        let is_answer = bytes.starts_with(b"VALUE ") || bytes.starts_with(b"END");
        self.repeats_answers.load(Ordering::Relaxed) && is_answer && bytes.ends_with(b"END\r\n")
    }

    /// Loses or repeats the first reply of `bytes`, which begin with a reply, if that is due. Says what it
    /// did to which.
    pub(super) fn garble(&self, bytes: &mut Vec<u8>) -> Option<(Garble, &'static [u8])> {
        let mut due = self.garble.lock().unwrap_or_else(PoisonError::into_inner);
        let garble = (*due)?;
        let mut start = 0;
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            if let Some(reply) = GARBLED.into_iter().find(|reply| *reply == line) {
                let twice = reply.repeat(2);
                let instead = match garble {
                    Garble::Lose => &[][..],
                    Garble::Repeat => &twice,
                };
                bytes.splice(start..start + reply.len(), instead.iter().copied());
                *due = None;
                return Some((garble, reply));
            }
            start += line.len();
        }
        None
    }
}

pub(super) type Carrying = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Carries what an edge says over a link, until an end. When the link refuses those who write, `reset` ends both
/// directions.
pub(super) async fn carry_there(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    link: Link,
    reset: CancellationToken,
) {
    let mut bytes = Vec::with_capacity(WIRE_BYTES);
    let mut is_writer = false;
    loop {
        tokio::select! {
            biased;
            () = link.refusal(), if is_writer => return reset.cancel(),
            read = from.read_buf(&mut bytes) => if !matches!(read, Ok(1..)) {
                break;
            }
        }
        is_writer |= bytes.starts_with(ENTRY_WRITTEN);
        link.let_on(&bytes).await;
        link.cross().await;
        if to.write_all(&bytes).await.is_err() {
            return;
        }
        bytes.clear();
    }
    link.cross().await;
    let _ = to.shutdown().await;
}

/// The same of what a node says. `garble` may change what begins with a line.
pub(super) async fn carry_back(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    link: Link,
    garble: impl Fn(&Link, &mut Vec<u8>),
) {
    let mut bytes = Vec::with_capacity(WIRE_BYTES);
    let mut begins_line = true;
    while let Ok(1..) = from.read_buf(&mut bytes).await {
        let ends_line = bytes.ends_with(b"\n");
        if begins_line {
            garble(&link, &mut bytes);
        }
        let is_stale = begins_line && link.repeats(&bytes);
        begins_line = ends_line;
        link.cross().await;
        if to.write_all(&bytes).await.is_err() {
            return;
        }
        if is_stale {
            sleep(STALE_AFTER).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        bytes.clear();
    }
    link.cross().await;
    let _ = to.shutdown().await;
}

/// An edge's end of a connection.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) stream: DuplexStream,
    pub(super) resets: AtomicBool,
    /// Connections of its link.
    pub(super) open: Arc<AtomicUsize>,
    /// Throws away what is on its way.
    pub(super) reset: CancellationToken,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        if self.resets.load(Ordering::Relaxed) {
            self.reset.cancel();
        }
    }
}

impl SimulatedStream for Wire {
    fn set_reset_on_close(&self, reset: bool) {
        self.resets.store(reset, Ordering::Relaxed);
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
