//! One client's connection: reads what has come, answers all of it, writes the answers at once.
//!
//! While an answer is being written nothing is read, so a client that doesn't read is, in the end,
//! not read from either: its requests wait in the kernel's buffers and at its own end.

use std::{io, sync::Arc};

use presenced_protocol::{
    Limits, Next, Parsed, Reply, Request, encode,
    limits::{GET_LINE_BYTES_MAX, VALUE_BYTES_MAX},
    request::{self, Keys},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{
    Store,
    execute::{self, After},
    serve::Open,
    stats,
};

/// Bytes asked for in one read: a hundred `set`s for one system call, and no more than 16 MiB for a
/// thousand idle connections.
const READ_BYTES: usize = 16 * 1024;

/// Answers are written once there are so many bytes of them, and at the latest when no whole request
/// is left. With one value more this is all that a connection holds for a slow reader.
const WRITE_BYTES: usize = 64 * 1024;

/// Buffers that grew beyond this for a large value are given back once they are empty, so that
/// idle connections are small.
const KEPT_BYTES: usize = 64 * 1024;

/// What a remote client is told that asks for `stats` or `flush_all`.
const NOT_LOCAL: Reply<&'static [u8]> = Reply::ClientError(b"only for clients on this machine");

// A value that arrives in pieces, or a long `get`, is all that the input can hold back.
const _: () = assert!(GET_LINE_BYTES_MAX < VALUE_BYTES_MAX);
const _: () = assert!(READ_BYTES <= KEPT_BYTES && WRITE_BYTES <= KEPT_BYTES);

/// A client and what it has sent so far.
pub(super) struct Connection<S> {
    stream: S,
    store: Arc<Store>,
    parser: request::Parser,
    /// Whether it may ask for `stats` and `flush_all`. The protocol has no authentication, so who
    /// is on this machine is all there is to go by.
    local: bool,
    input: Vec<u8>,
    /// Where in `input` the next request begins.
    start: usize,
    /// Bytes still to come of a value that was refused.
    swallow: usize,
    out: Vec<u8>,
    /// Counts it for as long as it lives.
    _open: Open,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(stream: S, open: Open, local: bool) -> Connection<S> {
        let store = Arc::clone(open.store());
        let value_bytes_max = VALUE_BYTES_MAX.min(store.bytes_max);
        Connection {
            stream,
            parser: request::Parser::new(Limits {
                value_bytes_max,
                ..Limits::default()
            }),
            store,
            local,
            input: Vec::new(),
            start: 0,
            swallow: 0,
            out: Vec::new(),
            _open: open,
        }
    }

    /// Serves the client until it quits or hangs up.
    ///
    /// # Errors
    ///
    /// What the socket says.
    pub(super) async fn run(mut self) -> io::Result<()> {
        loop {
            let after = self.answer().await?;
            self.write().await?;
            if after == After::Close || self.read().await? == 0 {
                return Ok(());
            }
        }
    }

    /// Answers every whole request in the input.
    async fn answer(&mut self) -> io::Result<After> {
        loop {
            self.drop_swallowed();
            if self.out.len() >= WRITE_BYTES {
                self.write().await?;
            }
            match self.parser.parse(&self.input[self.start..]) {
                Parsed::Incomplete => return Ok(After::Continue),
                Parsed::Request {
                    request: Request::Get { keys, with_cas },
                    consumed,
                } => {
                    send_values(&mut self.stream, &self.store, keys, with_cas, &mut self.out)
                        .await?;
                    self.start += consumed;
                }
                Parsed::Request { request, consumed } => {
                    let after = carry_out(&self.store, &request, self.local, &mut self.out);
                    self.start += consumed;
                    if after == After::Close {
                        return Ok(after);
                    }
                }
                Parsed::Bad {
                    answer,
                    noreply,
                    consumed,
                    next,
                } => {
                    execute::refuse(&mut self.store.lock(), &answer, noreply, &mut self.out);
                    self.start += consumed;
                    match next {
                        Next::Continue => {}
                        Next::Swallow(bytes) => self.swallow = bytes,
                        Next::Close => return Ok(After::Close),
                    }
                }
            }
        }
    }

    fn drop_swallowed(&mut self) {
        let bytes = self.swallow.min(self.input.len() - self.start);
        self.start += bytes;
        self.swallow -= bytes;
    }

    /// Sends all answers so far.
    async fn write(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.out).await?;
        empty(&mut self.out);
        Ok(())
    }

    /// Reads what there is, at least one byte; 0 is the end.
    async fn read(&mut self) -> io::Result<usize> {
        self.input.drain(..self.start);
        self.start = 0;
        if self.input.is_empty() {
            empty(&mut self.input);
        }
        self.input.reserve(READ_BYTES);
        self.stream.read_buf(&mut self.input).await
    }
}

/// Looks up the keys and sends what is found, so much at a time that the answer never has to be held
/// whole; what is left for the next write stays in `out`.
async fn send_values<S: AsyncWrite + Unpin>(
    stream: &mut S,
    store: &Store,
    mut keys: Keys<'_>,
    with_cas: bool,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    loop {
        let now = store.clock.now();
        if execute::get(
            &mut store.lock(),
            &mut keys,
            with_cas,
            now,
            out,
            WRITE_BYTES,
        ) {
            return Ok(());
        }
        if out.len() >= WRITE_BYTES {
            stream.write_all(out).await?;
            empty(out);
        }
    }
}

fn carry_out(store: &Store, request: &Request<'_>, local: bool, out: &mut Vec<u8>) -> After {
    let now = store.clock.now();
    match request {
        Request::Stats { .. } | Request::FlushAll { .. } if !local => {
            encode::reply(out, &NOT_LOCAL);
        }
        Request::Stats { arguments } if *arguments == Keys::default() => {
            stats::write(out, &store.server(), &store.lock(), now);
        }
        request => return execute::execute(&mut store.lock(), request, now, out),
    }
    After::Continue
}

fn empty(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(KEPT_BYTES);
}
