//! Where new connections wait for a place, for a moment: a burst through a proxy opens more connections than
//! may have a place, and most requests are answered within milliseconds.

use std::collections::VecDeque;
use std::future::pending;
use std::net::{IpAddr, TcpStream};

use tokio::time::{Instant, sleep_until};

use super::places::network;
use crate::limits::{LOBBY_LOOK, LOBBY_MAX, LOBBY_TIME};

/// A connection that was accepted.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub(super) stream: TcpStream,
    /// What it has sent by then.
    pub(super) ahead: Vec<u8>,
    pub(super) peer: IpAddr,
    pub(super) came_at: Instant,
}

impl Newcomer {
    /// Whether it has waited long enough.
    pub(super) fn has_waited(&self) -> bool {
        self.came_at.elapsed() >= LOBBY_TIME
    }
}

/// Those who wait, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Lobby {
    waiting: VecDeque<Newcomer>,
    /// When to look again whether there are places.
    look_at: Option<Instant>,
}

impl Lobby {
    /// Whether others of this peer wait, who come first.
    pub(super) fn has(&self, peer: IpAddr) -> bool {
        let same = |waiting: &Newcomer| network(waiting.peer) == network(peer);
        self.waiting.iter().any(same)
    }

    /// Lets it wait.
    ///
    /// # Errors
    ///
    /// Too many wait already; gives it back.
    pub(super) fn wait(&mut self, newcomer: Newcomer) -> Result<(), Newcomer> {
        if self.waiting.len() >= LOBBY_MAX {
            return Err(newcomer);
        }
        self.waiting.push_back(newcomer);
        let next_look = Instant::now() + LOBBY_LOOK;
        self.look_at.get_or_insert(next_look);
        Ok(())
    }

    /// Returns when it is time to look whether there are places for those who wait; never if nobody does.
    pub(super) async fn look(&mut self) {
        match self.look_at {
            Some(at) => sleep_until(at).await,
            None => pending().await,
        }
    }

    /// All who wait, to be given a place or to [`Lobby::wait`] on.
    pub(super) fn take_all(&mut self) -> VecDeque<Newcomer> {
        self.look_at = None;
        std::mem::take(&mut self.waiting)
    }
}
