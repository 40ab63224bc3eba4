//! One client's connection: reads what has come, answers all of it, writes the answers at once.
//!
//! Bytes are read, and answers made, in buffers that all connections of a thread share; what a
//! connection keeps to itself is a request that has not come whole and answers that the socket did
//! not take, mostly nothing. It counts against the store's memory limit, a value from when its
//! length is read. While there are such answers nothing is read, so a client that doesn't read is,
//! in the end, not read from either: its requests wait in the kernel's buffers and at its own end.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::{io, mem};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::conversation::{Conversation, NextStep};
use super::hold::Hold;
use super::no_room::NoRoom;
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
    /// How long the input is, or is going to be, as far as is known.
    input_bytes: usize,
    /// Counts long input, and what is unsent, against the memory limit.
    hold: Hold,
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
            hold: Hold::new(Arc::clone(&store)),
            store,
            input: Vec::new(),
            input_bytes: 0,
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
                Some(idle) => timeout(idle, turn).await.unwrap_or_else(|_| {
                    self.store.traffic().idle_kicks.fetch_add(1, Relaxed);
                    Ok(Turn::End)
                }),
            };
            match turn? {
                Turn::Done => {}
                Turn::More => {
                    self.store.traffic().yields.fetch_add(1, Relaxed);
                    yield_now().await;
                }
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
                return self.poll_answer_own(context, out, false);
            }
            let left = self.input.len();
            if self.input_bytes > LEFT_BYTES_MAX {
                // No more than the request has, so that nothing that follows is copied.
                let end = input.len().min(self.input_bytes - left);
                let read = ready!(self.poll_read(context, &mut input[..end]))?;
                if read == 0 {
                    return Poll::Ready(Ok(Turn::End));
                }
                self.input.extend_from_slice(&input[..read]);
                return self.poll_answer_own(context, out, read == end);
            }
            input[..left].copy_from_slice(&self.input);
            let read = ready!(self.poll_read(context, &mut input[left..]))?;
            if read == 0 {
                return Poll::Ready(Ok(Turn::End));
            }
            let input = &input[..left + read];
            let (done, sent) = self.poll_answer(context, input, out);
            self.keep(&input[done..]);
            self.turn(sent, input.len() >= READ_BYTES)
        })
    }

    /// The same for what the connection has collected of its own. `more` may have come already.
    fn poll_answer_own(
        &mut self,
        context: &mut Context<'_>,
        out: &mut Vec<u8>,
        more: bool,
    ) -> Poll<io::Result<Turn>> {
        let mut own = mem::take(&mut self.input);
        if self.next_step == NextStep::Read && own.len() >= self.input_bytes {
            // An item takes the place of the value.
            self.input_bytes = 0;
            self.account()?;
        }
        let (done, sent) = self.poll_answer(context, &own, out);
        if done > 0 {
            self.keep(&own[done..]);
        } else {
            match self.next_step {
                NextStep::Read => own.reserve_exact(self.input_bytes.saturating_sub(own.len())),
                NextStep::Write | NextStep::Close => own.shrink_to_fit(),
            }
            self.input = own;
        }
        self.turn(sent, more)
    }

    /// Keeps what is left of the input, in a buffer for all of the request that has begun there.
    fn keep(&mut self, left: &[u8]) {
        self.input = Vec::with_capacity(self.input_bytes);
        if self.next_step != NextStep::Close {
            self.input.extend_from_slice(left);
        }
    }

    /// How a turn has ended; `more` may have come already.
    fn turn(&self, sent: Poll<io::Result<()>>, more: bool) -> Poll<io::Result<Turn>> {
        ready!(sent)?;
        Poll::Ready(Ok(match self.next_step {
            NextStep::Close => Turn::End,
            NextStep::Write => Turn::More,
            NextStep::Read if more => Turn::More,
            NextStep::Read => Turn::Done,
        }))
    }

    /// Reads into `buffer`; 0 is the end.
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        let read = buffer.filled().len();
        self.store.traffic().read(read);
        Poll::Ready(Ok(read))
    }

    /// Answers the requests in `input` and sends the replies. Returns how many bytes of it are done
    /// with, and whether all is sent. What is to be kept counts against the memory limit then.
    fn poll_answer(
        &mut self,
        context: &mut Context<'_>,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> (usize, Poll<io::Result<()>>) {
        let now = self.store.now();
        let mut start = 0;
        // A connection that met a fault may have left something in what all of a thread share.
        out.clear();
        let mut sent = Poll::Ready(Ok(()));
        for _ in 0..WRITES_PER_TURN {
            let rest = &input[start..];
            let (done, next_step) = self.conversation.answer(&self.store, rest, now, out);
            start += self.advance(rest, done, next_step);
            if next_step == NextStep::Read && self.account().is_err() {
                let rest = &input[start..];
                let (done, next_step) = self.conversation.refuse_begun(&self.store, rest, now, out);
                start += self.advance(rest, done, next_step);
            }
            sent = self.poll_send(context, out);
            out.clear();
            if self.next_step != NextStep::Write || !matches!(sent, Poll::Ready(Ok(()))) {
                break;
            }
        }
        out.shrink_to(KEPT_BYTES);
        // An answer can't be taken back: where there is no memory for the rest of it, this is the
        // end.
        match self.account() {
            Ok(()) => (start, sent),
            Err(no_room) => {
                self.store.traffic().unread.fetch_add(1, Relaxed);
                (start, Poll::Ready(Err(no_room.into())))
            }
        }
    }

    /// Notes how to go on with the input when `done` bytes of it are done with, and returns these.
    fn advance(&mut self, input: &[u8], done: usize, next_step: NextStep) -> usize {
        let left = input.len() - done;
        self.next_step = next_step;
        self.input_bytes = match (next_step, self.conversation.need()) {
            (NextStep::Close, _) => 0,
            // A line grows by doubling, so that it is not copied at each read.
            (NextStep::Read, 0) if left >= LEFT_BYTES_MAX => (left + 1).next_power_of_two(),
            (NextStep::Read, need) => left.max(need),
            (NextStep::Write, _) => left,
        };
        done
    }

    /// Counts what is kept, if it is much, against the memory limit.
    fn account(&mut self) -> Result<(), NoRoom> {
        let kept = [self.input_bytes, self.unsent.len()];
        let counted = kept.into_iter().filter(|&bytes| bytes > LEFT_BYTES_MAX);
        self.hold.resize(counted.sum())
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
        self.account()?;
        Poll::Ready(Ok(()))
    }
}

impl From<NoRoom> for io::Error {
    fn from(_: NoRoom) -> io::Error {
        io::ErrorKind::OutOfMemory.into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::task::Waker;

    use super::*;
    use crate::store::Options;

    /// A client that sends its bytes in pieces, one a read, and takes every answer.
    struct Pieces<'a> {
        rest: &'a [u8],
        piece: usize,
        answers: Vec<u8>,
    }

    impl AsyncRead for Pieces<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let bytes = self.piece.min(buffer.remaining()).min(self.rest.len());
            let (piece, rest) = self.rest.split_at(bytes);
            buffer.put_slice(piece);
            self.rest = rest;
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Pieces<'_> {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.answers.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Sends `input` in such pieces. Returns the answers, and at how many places long input was
    /// kept: each further place is a copy of all of it.
    fn places(input: &[u8], piece: usize) -> (String, usize) {
        let store = Arc::new(Store::new(Options::new(64 << 20)));
        let stream = Pieces {
            rest: input,
            piece,
            answers: Vec::new(),
        };
        let mut connection = Connection::new(stream, Open::new(&store).unwrap());
        let mut places = HashSet::new();
        let mut context = Context::from_waker(Waker::noop());
        while !connection.stream.rest.is_empty() {
            let turn = connection.poll_turn(&mut context);
            assert!(matches!(turn, Poll::Ready(Ok(_))), "it takes all and ends");
            if connection.input_bytes > LEFT_BYTES_MAX {
                assert!(connection.input.capacity() <= connection.input_bytes);
                assert_eq!(connection.hold_bytes(), connection.input_bytes);
                places.insert((connection.input.as_ptr(), connection.input.capacity()));
            }
        }
        assert_eq!(connection.hold_bytes(), 0);
        let answers = String::from_utf8_lossy(&connection.stream.answers).into_owned();
        (answers, places.len())
    }

    impl<S> Connection<S> {
        fn hold_bytes(&self) -> usize {
            usize::try_from(self.store.counters().held_bytes).unwrap()
        }
    }

    /// The work for it grows with its length, however small the pieces are that it comes in.
    #[test]
    fn a_begun_value_stays_where_it_is() {
        let mut input = b"get a\r\nset a 0 0 200000\r\n".to_vec();
        input.extend(vec![b'v'; 200_000]);
        input.extend(b"\r\nmn\r\n");
        for piece in [1, 999, 8192, 8193, 65_536, 1_000_000] {
            let (answers, places) = places(&input, piece);
            assert_eq!(answers, "END\r\nSTORED\r\nMN\r\n");
            assert_eq!(places, 1, "in pieces of {piece}");
        }
    }

    /// Its length is not known before its end: it is copied when it has doubled.
    #[test]
    fn a_begun_line_is_seldom_copied() {
        let line = format!("get{}\r\nmn\r\n", " k".repeat(120_000));
        for piece in [7, 999, 50_000, 65_536] {
            let (answers, places) = places(line.as_bytes(), piece);
            assert_eq!(answers, "END\r\nMN\r\n");
            // 16, 32, 64, 128 and 256 KiB.
            assert!(places <= 5, "{places} in pieces of {piece}");
        }
    }
}
