//! Connected clients: thousands that mostly sleep, on one worker.
//!
//! - [`worker`]: the owner of everything session-like on one core, and its loop.
//! - [`service`]: what sessions are for; [`presence`]: who is online, and who asks for it.
//! - [`transport`]: what carries them; [`memory`]: a connection for tests and simulations.
//! - `ready`: when the worker looks at its sessions.
//! - [`table`] (pure): where sessions live; `rest`: what most of them have nothing of.
//! - [`wheel`] (pure): whose turn it is to be pinged or judged.
//! - [`gate`] (pure): what of RFC 6455 must hold before a frame reaches the codec.
//! - [`codec`] (pure): fastwebsockets' frames in place.
//! - [`assembly`] (pure): messages out of fragments.
//! - [`bucket`] (pure): how much a session may send.
//! - [`message`] (pure): what a client of presence may say.

pub mod assembly;
pub mod bucket;
pub mod codec;
pub mod gate;
pub mod memory;
pub mod message;
mod owing;
pub mod presence;
mod ready;
mod rest;
pub mod service;
pub mod table;
pub mod transport;
pub mod wheel;
pub mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many sessions there are and may be, over all workers.
#[derive(Debug)]
pub struct Seats {
    taken: AtomicUsize,
    max: usize,
}

impl Seats {
    /// At most `max` sessions.
    pub fn new(max: usize) -> Seats {
        Seats {
            taken: AtomicUsize::new(0),
            max,
        }
    }

    fn take(&self) -> bool {
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        if taken >= self.max {
            self.free();
            return false;
        }
        true
    }

    /// A session has ended.
    pub fn free(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }

    /// Sessions that have a seat.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// A seat that is taken; given back when dropped, unless it was handed over.
#[derive(Debug)]
pub struct Seat(Option<Arc<Seats>>);

impl Seat {
    /// Takes a seat, if there is one.
    pub fn take(seats: &Arc<Seats>) -> Option<Seat> {
        seats.take().then(|| Seat(Some(seats.clone())))
    }

    /// The session has it now, and frees it when it ends.
    pub fn hand_over(mut self) {
        self.0 = None;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(seats) = &self.0 {
            seats.free();
        }
    }
}
