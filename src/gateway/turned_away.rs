//! Connections for which there is no place: each is told so before anything of it is read, and closed when it
//! has heard it.

use std::io::Write;
use std::net::{Shutdown, TcpStream as BareTcp};

use futures_util::FutureExt;
use http_body_util::{BodyExt, Collected};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::refusal::Refusal;
use super::response::{self, Answer};
use crate::limits::{LINGER_TIME, TURNED_AWAY_MAX};

/// Those who were told, and may not have heard it yet.
#[derive(Debug, Default)]
pub(super) struct TurnedAway {
    lingering: JoinSet<()>,
}

impl TurnedAway {
    /// Answers with what `refusal` says, and closes the connection.
    pub(super) fn turn_away(&mut self, mut stream: BareTcp, refusal: Refusal) {
        while self.lingering.try_join_next().is_some() {}
        // A new socket takes so few bytes at once.
        let told = stream.write(&bytes(refusal));
        if told.is_err() || stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        // Beyond that they are closed at once, and may miss the answer.
        if self.lingering.len() < TURNED_AWAY_MAX
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            self.lingering.spawn(linger(stream));
        }
    }
}

/// Reads on until the peer has ended its side, so that its kernel does not throw the answer away: one that is
/// closed with something unread is reset.
async fn linger(mut stream: TcpStream) {
    let mut scratch = [0; 1024];
    let reading = async { while stream.read(&mut scratch).await.is_ok_and(|count| count > 0) {} };
    let _ = timeout(LINGER_TIME, reading).await;
}

/// The answer to a request that is not read, as it goes over the wire; the connection ends with it.
pub(super) fn bytes(refusal: Refusal) -> Vec<u8> {
    let mut answer: Answer = response::refused(refusal);
    response::set_close(&mut answer);
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
