//! One client's connection: reads what has come, answers all of it, writes the answers at once.
//!
//! Bytes are read, and answers made, in buffers that all connections of a thread share; what a
//! connection keeps to itself is a request that has not come whole and answers that the socket did
//! not take, mostly nothing. While there are such answers nothing is read, so a client that
//! doesn't read is, in the end, not read from either: its requests wait in the kernel's buffers and
//! at its own end.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::{io, mem};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::conversation::{Conversation, NextStep};
use super::open::Open;
use super::store::Store;
use crate::limits::{KEPT_BYTES, LEFT_BYTES_MAX, READ_BYTES, WRITES_PER_TURN};

thread_local! {
    static SHARED: RefCell<Shared> = RefCell::new(Shared {
        input: vec![0; LEFT_BYTES_MAX + READ_BYTES],
        out: Vec::new(),
    });
}

/// What the connections of a thread take turns with; never held while one waits.
struct Shared {
    input: Vec<u8>,
    out: Vec<u8>,
}

/// A client and what it has sent so far.
pub(super) struct Connection<S> {
    stream: S,
    store: Arc<Store>,
    conversation: Conversation,
    /// Requests that are not whole, or not answered yet.
    input: Vec<u8>,
    /// Replies that the socket did not take.
    unsent: Vec<u8>,
    /// How many of them have been sent by now.
    sent: usize,
    next_step: NextStep,
    /// Counts it for as long as it lives.
    _open: Open,
}

/// How a turn ended.
enum Turn {
    /// All that has come is answered.
    Done,
    /// There is more to do at once.
    More,
    /// The conversation is over.
    End,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(stream: S, open: Open) -> Connection<S> {
        let store = Arc::clone(open.store());
        Connection {
            stream,
            conversation: Conversation::new(store.value_bytes_max()),
            store,
            input: Vec::new(),
            unsent: Vec::new(),
            sent: 0,
            next_step: NextStep::Read,
            _open: open,
        }
    }

    /// Serves the client until it quits, hangs up, or makes no progress for the idle timeout.
    ///
    /// # Errors
    ///
    /// What the socket says.
    pub(super) async fn run(mut self) -> io::Result<()> {
        let idle = self.store.options().idle_timeout;
        loop {
            let turn = poll_fn(|context| self.poll_turn(context));
            let turn = match idle {
                None => turn.await,
                Some(idle) => timeout(idle, turn).await.unwrap_or(Ok(Turn::End)),
            };
            match turn? {
                Turn::Done => {}
                Turn::More => yield_now().await,
                Turn::End => return Ok(()),
            }
        }
    }

    /// Sends what is left to send; then answers what is left to answer, or else reads and answers.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Turn>> {
        ready!(self.poll_unsent(context))?;
        if self.next_step == NextStep::Close {
            return Poll::Ready(Ok(Turn::End));
        }
        SHARED.with_borrow_mut(|Shared { input, out }| {
            if self.next_step == NextStep::Write {
                let left = mem::take(&mut self.input);
                return self.poll_answer(context, &left, out);
            }
            let left = self.input.len();
            if left > LEFT_BYTES_MAX {
                self.input.resize(left + READ_BYTES, 0);
                let mut own = mem::take(&mut self.input);
                let read = self.poll_read(context, &mut own, left);
                own.truncate(
                    left + if let Poll::Ready(Ok(read)) = read {
                        read
                    } else {
                        0
                    },
                );
                self.input = own;
                if ready!(read)? == 0 {
                    return Poll::Ready(Ok(Turn::End));
                }
                let own = mem::take(&mut self.input);
                return self.poll_answer(context, &own, out);
            }
            input[..left].copy_from_slice(&self.input);
            let read = ready!(self.poll_read(context, input, left))?;
            if read == 0 {
                return Poll::Ready(Ok(Turn::End));
            }
            self.poll_answer(context, &input[..left + read], out)
        })
    }

    /// Reads into `buffer` from `start` on; 0 is the end.
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
        start: usize,
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(&mut buffer[start..]);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        let read = buffer.filled().len();
        self.store.traffic().read(read);
        Poll::Ready(Ok(read))
    }

    /// Answers the requests in `input`, sends the replies, and keeps what could not be done now.
    fn poll_answer(
        &mut self,
        context: &mut Context<'_>,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Poll<io::Result<Turn>> {
        let now = self.store.now();
        let mut start = 0;
        let mut sent = Poll::Ready(Ok(()));
        for _ in 0..WRITES_PER_TURN {
            let (done, next_step) =
                self.conversation
                    .answer(&self.store, &input[start..], now, out);
            start += done;
            self.next_step = next_step;
            sent = self.poll_send(context, out);
            out.clear();
            if next_step != NextStep::Write || !matches!(sent, Poll::Ready(Ok(()))) {
                break;
            }
        }
        out.shrink_to(KEPT_BYTES);
        self.input = input[start..].to_vec();
        ready!(sent)?;
        Poll::Ready(Ok(match self.next_step {
            NextStep::Close => Turn::End,
            NextStep::Write => Turn::More,
            NextStep::Read if input.len() >= READ_BYTES => Turn::More,
            NextStep::Read => Turn::Done,
        }))
    }

    /// Sends `out`, and keeps what the socket does not take.
    fn poll_send(&mut self, context: &mut Context<'_>, out: &[u8]) -> Poll<io::Result<()>> {
        let mut sent = 0;
        while sent < out.len() {
            match Pin::new(&mut self.stream).poll_write(context, &out[sent..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => sent += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.unsent = out[sent..].to_vec();
                    self.sent = 0;
                    self.store.traffic().written(sent);
                    return Poll::Pending;
                }
            }
        }
        self.store.traffic().written(sent);
        Poll::Ready(Ok(()))
    }

    fn poll_unsent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.unsent.len() {
            let unsent = &self.unsent[self.sent..];
            let count = ready!(Pin::new(&mut self.stream).poll_write(context, unsent))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
            self.store.traffic().written(count);
        }
        self.unsent = Vec::new();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}
