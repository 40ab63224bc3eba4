//! memcached's text protocol for [`tokio_util::codec::Framed`]: [`ClientCodec`] and
//! [`ServerCodec`].
//!
//! All that is said of the bytes is said by `presenced-protocol`; here is only what a `Framed` asks
//! for. What is decoded owns its bytes and shares the memory that they were read into: no value is
//! copied. The price is that two counts of references go up and down for each value, and that a
//! kept slice keeps its whole read buffer: an entry of 100 bytes that is kept may hold megabytes of
//! what came with it. What is fastest of all, and keeps nothing, is to parse the buffer in place,
//! as [`Pipeline`](crate::pipeline::Pipeline), [`Values`](crate::values::Values) and the embedded
//! store do.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use presenced_protocol::reply::{self, Reply, ReplyError};
use presenced_protocol::request::{self, Next, Parsed, Received, Request};
use presenced_protocol::{Limits, encode};
use thiserror::Error;
use tokio_util::codec::{Decoder, Encoder};

/// The client's end: requests go out, replies come in.
///
/// Encodes [`Request`]s, and, as those for many keys or with flags are not values,
/// anything that writes with [`encode`]:
///
/// ```
/// # use bytes::BytesMut;
/// # use futures_util::SinkExt;
/// # use presenced_memcached::codec::{ClientCodec, CodecError};
/// # use presenced_protocol::{Key, encode, meta::Flag};
/// # use tokio_util::codec::Framed;
/// # async fn example(stream: tokio::net::TcpStream) -> Result<(), CodecError> {
/// # let key = Key::new(b"a").unwrap();
/// let mut framed = Framed::new(stream, ClientCodec::default());
/// framed
///     .send(|out: &mut BytesMut| encode::meta_get(out, key, [Flag::ReturnValue]))
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct ClientCodec {
    parser: reply::Parser,
}

/// Why a [`ClientCodec`] can't go on. The connection is of no more use.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The socket's, or the other side ended within a reply.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What came is no reply.
    #[error(transparent)]
    Reply(#[from] ReplyError),
}

impl ClientCodec {
    /// For replies within `limits`.
    pub fn new(limits: Limits) -> ClientCodec {
        ClientCodec {
            parser: reply::Parser::new(limits),
        }
    }
}

impl Decoder for ClientCodec {
    type Item = Reply<Bytes>;
    type Error = CodecError;

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Reply<Bytes>>, CodecError> {
        Ok(self.parser.take(input)?)
    }
}

impl Encoder<Request<'_>> for ClientCodec {
    type Error = CodecError;

    fn encode(&mut self, request: Request<'_>, out: &mut BytesMut) -> Result<(), CodecError> {
        encode::request(out, &request);
        Ok(())
    }
}

impl<F: FnOnce(&mut BytesMut)> Encoder<F> for ClientCodec {
    type Error = CodecError;

    fn encode(&mut self, write: F, out: &mut BytesMut) -> Result<(), CodecError> {
        write(out);
        Ok(())
    }
}

/// The server's end: requests come in, replies go out.
///
/// What comes of a refused value is thrown away, and never taken for requests; the answer is given
/// when all of it has come.
#[derive(Clone, Debug, Default)]
pub struct ServerCodec {
    limits: Limits,
    parser: request::Parser,
    /// What is answered once a refused value has come whole.
    due: Option<Reply<&'static [u8]>>,
}

/// What a client asks.
#[derive(Clone, Debug)]
pub enum Asked {
    /// A request.
    Request(WholeRequest),
    /// Something that is no request.
    Bad {
        /// What memcached answers; `None` if no answer is wanted.
        answer: Option<Reply<&'static [u8]>>,
        /// The connection is to be closed then: nothing more that comes is a request.
        close: bool,
    },
}

/// The bytes of one request, from the first to the last.
#[derive(Clone, Debug)]
pub struct WholeRequest {
    bytes: Bytes,
    limits: Limits,
}

impl ServerCodec {
    /// For requests within `limits`.
    pub fn new(limits: Limits) -> ServerCodec {
        ServerCodec {
            limits,
            parser: request::Parser::new(limits),
            due: None,
        }
    }
}

impl Decoder for ServerCodec {
    type Item = Asked;
    type Error = io::Error;

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Asked>, io::Error> {
        loop {
            match self.parser.parse(input) {
                Parsed::Incomplete => return Ok(None),
                Parsed::Request { consumed, .. } => {
                    return Ok(Some(Asked::Request(WholeRequest {
                        bytes: input.split_to(consumed).freeze(),
                        limits: self.limits,
                    })));
                }
                Parsed::Swallowed { consumed, ended } => {
                    input.advance(consumed);
                    if let Some(answer) = self.due.take_if(|_| ended) {
                        let (answer, close) = (Some(answer), false);
                        return Ok(Some(Asked::Bad { answer, close }));
                    }
                }
                Parsed::Bad {
                    answer,
                    noreply,
                    consumed,
                    next,
                } => {
                    let answer = (!noreply).then(|| answer.reply());
                    input.advance(consumed);
                    if next == Next::Swallow {
                        self.due = answer;
                        continue;
                    }
                    let (answer, close) = (answer.or(self.due.take()), next == Next::Close);
                    return Ok(Some(Asked::Bad { answer, close }));
                }
            }
        }
    }
}

impl Encoder<Reply<&[u8]>> for ServerCodec {
    type Error = io::Error;

    fn encode(&mut self, reply: Reply<&[u8]>, out: &mut BytesMut) -> Result<(), io::Error> {
        encode::reply(out, &reply);
        Ok(())
    }
}

impl Encoder<Reply<Bytes>> for ServerCodec {
    type Error = io::Error;

    fn encode(&mut self, reply: Reply<Bytes>, out: &mut BytesMut) -> Result<(), io::Error> {
        encode::reply_bytes(out, &reply);
        Ok(())
    }
}

impl WholeRequest {
    /// What it asks, parsed again: a request borrows, and what comes out of a codec can't.
    pub fn request(&self) -> Received<'_> {
        match request::Parser::new(self.limits).parse(&self.bytes) {
            Parsed::Request { request, .. } => request,
            _ => unreachable!("it was a request when it was decoded"),
        }
    }

    /// Its bytes; [`Bytes::slice_ref`] makes a value that outlives the request of a part of them.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}
