//! Connections for which there is no place: each is told so before anything of it is read, and
//! closed when it has heard it.

use std::io::Write;
use std::net::{Shutdown, TcpStream as BareTcp};

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::parting::hear_out;
use crate::limits::PARTING_TIME;

/// Those who were told, and may not have heard it yet.
#[derive(Debug)]
pub(super) struct TurnedAway {
    max: usize,
    lingering: JoinSet<()>,
}

impl TurnedAway {
    /// Nobody yet; at most `max` at once.
    pub(super) fn new(max: usize) -> TurnedAway {
        TurnedAway {
            max,
            lingering: JoinSet::new(),
        }
    }

    /// Answers with `last`, and closes the connection.
    pub(super) fn turn_away(&mut self, mut stream: BareTcp, last: &[u8]) {
        while self.lingering.try_join_next().is_some() {}
        // A new socket takes so few bytes at once.
        let told = stream.write(last);
        if told.is_err() || stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        // Beyond that they are closed at once, and may miss the answer.
        if self.lingering.len() < self.max
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            self.lingering.spawn(hear_out(stream, PARTING_TIME));
        }
    }
}
