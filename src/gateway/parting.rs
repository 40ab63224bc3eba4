//! The last bytes on a connection that is given up, so that they arrive.

use std::io::{self, Write};
use std::time::Duration;

use futures_util::FutureExt;
use http_body_util::{BodyExt, Collected};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Gateway;
use super::refusal::Refusal;
use super::response::{self, Answer};
use super::shared_places::Place;
use super::socket::Socket;
use crate::limits::{HEAD_READ_BYTES, PARTING_BYTES_MAX, PARTING_TIME};

/// Sends `last` and the end of the stream, and gives the peer `patience` to hang up.
pub(super) async fn part(socket: Socket, last: &[u8], patience: Duration) {
    let say = async {
        let stream = socket.write_last(last).await?;
        hear_out(stream, patience).await;
        io::Result::Ok(())
    };
    // A peer that goes away is no matter.
    let _ = timeout(patience, say).await;
}

/// Answers what `refusal` says on a connection that has a place, and hears the peer out until the
/// place is needed.
pub(super) async fn refuse(socket: Socket, refusal: Refusal, place: &Place) {
    part_with_place(socket, &refused(refusal), place, PARTING_TIME).await;
}

/// Sends what a connection that has a place takes of `last` at once, and the end of the stream; gives
/// the peer `patience` to hang up, unless the place is needed before.
pub(super) async fn part_with_place(
    mut socket: Socket,
    last: &[u8],
    place: &Place,
    patience: Duration,
) {
    socket.say_last(last);
    if let Ok(stream) = socket.into_watched() {
        tokio::select! {
            () = place.evicted() => {}
            () = hear_out(stream, patience) => {}
        }
    }
}

/// Reads on until the peer has ended its side, but not for longer than `patience`. To drop the
/// connection sooner would reset it when something of the peer comes, and the reset can overtake
/// what was sent.
pub(super) async fn hear_out(mut stream: TcpStream, patience: Duration) {
    let mut bytes = [0; HEAD_READ_BYTES];
    let mut left = PARTING_BYTES_MAX;
    let hear = async {
        while left > 0 {
            match stream.read(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(count) => left = left.saturating_sub(count),
            }
        }
    };
    let _ = timeout(patience, hear).await;
}

/// What a new connection is told that is refused before anything of it is read. With TLS, no answer can be sealed yet: all
/// that can be said is an alert (RFC 8446 §6.2).
pub(super) fn refused_unread(refusal: Refusal, gateway: &Gateway) -> Vec<u8> {
    match gateway.tls {
        Some(_) => presenced_tls::handshake::REFUSED.to_vec(),
        None => refused(refusal),
    }
}

/// The answer to a request that is not read, as it goes over the wire; the connection ends with it.
pub(super) fn refused(refusal: Refusal) -> Vec<u8> {
    let mut answer: Answer = response::refused(refusal);
    response::set_close(&mut answer);
    to_wire(answer)
}

/// An answer as it goes over the wire.
pub(super) fn to_wire(answer: Answer) -> Vec<u8> {
    let (head, body) = answer.into_parts();
    // It is there whole.
    let body = body.collect().now_or_never().and_then(Result::ok);
    let body = body.map(Collected::to_bytes).unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {}\r\n", head.status).into_bytes();
    for (name, value) in &head.headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            bytes.extend_from_slice(part);
        }
    }
    let _ = write!(bytes, "content-length: {}\r\n\r\n", body.len());
    bytes.extend_from_slice(&body);
    bytes
}
