//! fastwebsockets over memory: one codec for all sessions of a worker.
//!
//! The gate hands over whole frames only, so the codec is always at a frame's boundary and one
//! poll with a waker that does nothing decodes a frame. Ping, pong and close are answered by the
//! session, never by the codec. After an error the codec is made anew: nothing of one session's
//! bytes may reach the next.

use std::cell::Cell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocket, WebSocketError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::end::End;

/// See the module's page.
pub struct Codec {
    socket: WebSocket<Pipe>,
    input: Rc<Input>,
    payload_bytes_max: usize,
}

impl std::fmt::Debug for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Codec")
            .field("payload_bytes_max", &self.payload_bytes_max)
            .finish()
    }
}

impl Codec {
    /// For payloads of at most `payload_bytes_max`, which the gate has checked.
    pub fn new(payload_bytes_max: usize) -> Codec {
        let input = Rc::new(Input::default());
        Codec {
            socket: socket(input.clone(), payload_bytes_max),
            input,
            payload_bytes_max,
        }
    }

    /// Decodes `frame`, exactly one whole frame, and hands its unmasked payload to `with`. A text
    /// frame that ends its own message has been checked to be UTF-8.
    #[inline]
    pub fn decode<R>(&mut self, frame: &[u8], with: impl FnOnce(&[u8]) -> R) -> Result<R, End> {
        self.input.fill(frame);
        let polled = pin!(self.socket.read_frame()).poll(&mut Context::from_waker(Waker::noop()));
        match polled {
            Poll::Ready(Ok(decoded)) if self.input.is_empty() => Ok(with(&decoded.payload)),
            Poll::Ready(Err(error)) => {
                self.renew();
                Err(end_of(&error))
            }
            Poll::Ready(Ok(_)) | Poll::Pending => {
                self.renew();
                Err(End::Internal)
            }
        }
    }

    fn renew(&mut self) {
        *self = Codec::new(self.payload_bytes_max);
    }
}

/// The gate has refused all else that fastwebsockets knows as an error.
fn end_of(error: &WebSocketError) -> End {
    match error {
        WebSocketError::InvalidUTF8 => End::Text,
        WebSocketError::FrameTooLarge => End::TooBig,
        WebSocketError::UnexpectedEOF | WebSocketError::IoError(_) => End::Internal,
        _ => End::Protocol,
    }
}

fn socket(input: Rc<Input>, payload_bytes_max: usize) -> WebSocket<Pipe> {
    let mut socket = WebSocket::after_handshake(Pipe(input), Role::Server);
    socket.set_auto_pong(false);
    socket.set_auto_close(false);
    // Its limit is exclusive.
    socket.set_max_message_size(payload_bytes_max + 1);
    socket
}

/// Appends one frame from the server: whole, not masked (RFC 6455 §5.1).
pub fn encode(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    let mut head = [0; 16];
    let mut frame = Frame::new(true, opcode, None, Payload::Borrowed(payload));
    let length = frame.fmt_head(&mut head);
    out.extend_from_slice(&head[..length]);
    out.extend_from_slice(payload);
}

/// Appends a close frame with `code`.
pub fn encode_close(out: &mut Vec<u8>, code: u16) {
    encode(out, OpCode::Close, &code.to_be_bytes());
}

/// Appends the answer to a close frame that bore `code`, if any (RFC 6455 §5.5.1).
pub fn encode_close_echo(out: &mut Vec<u8>, code: Option<u16>) {
    match code {
        Some(code) => encode_close(out, code),
        None => encode(out, OpCode::Close, &[]),
    }
}

/// The code of a client's close payload, nothing if it has none (RFC 6455 §5.5.1, §7.4).
pub fn close_code(payload: &[u8]) -> Result<Option<u16>, End> {
    match payload {
        [] => Ok(None),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            // Those of the RFC and of IANA's registry that may be sent, and all that anyone may use.
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(End::Protocol);
            }
            std::str::from_utf8(reason).map_err(|_| End::Text)?;
            Ok(Some(code))
        }
        [_] => Err(End::Protocol),
    }
}

/// The frame to decode and how much of it the codec has taken.
#[derive(Default)]
struct Input {
    bytes: Cell<Vec<u8>>,
    taken: Cell<usize>,
    length: Cell<usize>,
}

impl Input {
    fn fill(&self, frame: &[u8]) {
        let mut bytes = self.bytes.take();
        bytes.clear();
        bytes.extend_from_slice(frame);
        self.bytes.set(bytes);
        self.taken.set(0);
        self.length.set(frame.len());
    }

    fn is_empty(&self) -> bool {
        self.taken.get() == self.length.get()
    }
}

/// The codec's stream: reads the input, is never written to.
struct Pipe(Rc<Input>);

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let input = &self.0;
        if input.is_empty() {
            return Poll::Pending;
        }
        let bytes = input.bytes.take();
        let taken = input.taken.get();
        let count = buffer.remaining().min(bytes.len() - taken);
        buffer.put_slice(&bytes[taken..taken + count]);
        input.taken.set(taken + count);
        input.bytes.set(bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [7, 77, 177, 7];
        let mut frame = vec![first, 0x80 | payload.len() as u8];
        frame.extend_from_slice(&mask);
        frame.extend(
            payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        frame
    }

    #[test]
    fn a_frame_is_unmasked_and_an_error_does_not_reach_the_next() {
        let mut codec = Codec::new(100);
        let text = masked(0x81, b"hello");
        assert_eq!(codec.decode(&text, <[u8]>::to_vec), Ok(b"hello".to_vec()));
        assert_eq!(
            codec.decode(&masked(0x81, b"\xff\xfe"), drop_payload),
            Err(End::Text)
        );
        assert_eq!(
            codec.decode(&text[..7], drop_payload),
            Err(End::Internal),
            "cut"
        );
        assert_eq!(codec.decode(&text, <[u8]>::to_vec), Ok(b"hello".to_vec()));
        let full = masked(0x82, &[1; 100]);
        assert_eq!(
            codec.decode(&full, <[u8]>::len),
            Ok(100),
            "the limit is inclusive"
        );
        assert_eq!(codec.decode(&masked(0x8a, b""), <[u8]>::len), Ok(0));
    }

    fn drop_payload(_: &[u8]) {}

    #[test]
    fn close_payloads() {
        let close = |code: u16, reason: &[u8]| close_code(&[&code.to_be_bytes(), reason].concat());
        assert_eq!(close_code(b""), Ok(None));
        assert_eq!(close_code(b"x"), Err(End::Protocol));
        for code in [
            1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999,
            4000, 4999,
        ] {
            assert_eq!(close(code, b"bye"), Ok(Some(code)));
        }
        for code in [
            0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535,
        ] {
            assert_eq!(close(code, b""), Err(End::Protocol), "{code}");
        }
        assert_eq!(close(1000, b"\xff"), Err(End::Text));
    }

    #[test]
    fn frames_from_the_server_are_whole_and_not_masked() {
        let mut out = Vec::new();
        encode_close(&mut out, 1012);
        encode(&mut out, OpCode::Text, &[b'x'; 126]);
        assert_eq!(out[..4], [0x88, 2, 0x03, 0xf4]);
        assert_eq!(out[4..8], [0x81, 126, 0, 126]);
        assert_eq!(out.len(), 8 + 126);
    }
}
