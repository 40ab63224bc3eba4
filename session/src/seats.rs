//! How many sessions there are and may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Set in the count of seats when no more are given. It is in one word with the count, so that a
/// seat is either counted before that or refused.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// How many sessions there are and may be, over all workers, those in their handshake included.
#[derive(Debug)]
pub struct Seats {
    taken: AtomicUsize,
    max: usize,
    /// Told of [`Seats::close`].
    closed: Notify,
    /// Told when the last seat is free after [`Seats::close`].
    emptied: Notify,
}

impl Seats {
    /// At most `max` sessions.
    pub fn new(max: usize) -> Seats {
        Seats {
            taken: AtomicUsize::new(0),
            max,
            closed: Notify::new(),
            emptied: Notify::new(),
        }
    }

    fn take(&self) -> bool {
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        if taken & CLOSED != 0 || taken >= self.max {
            self.free();
            return false;
        }
        true
    }

    /// A session has ended.
    pub(super) fn free(&self) {
        if self.taken.fetch_sub(1, Ordering::Relaxed) == CLOSED + 1 {
            self.emptied.notify_one();
        }
    }

    /// Sessions that have a seat.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed) & !CLOSED
    }

    /// Sessions that there may be.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Gives no more seats.
    pub fn close(&self) {
        self.taken.fetch_or(CLOSED, Ordering::Relaxed);
        self.closed.notify_waiters();
    }

    /// Whether there are no more for good.
    pub fn is_closed(&self) -> bool {
        self.taken.load(Ordering::Relaxed) & CLOSED != 0
    }

    /// Returns when there are no more for good.
    pub async fn closed(&self) {
        // Before the look: it hears of all that comes after it.
        let closed = self.closed.notified();
        if !self.is_closed() {
            closed.await;
        }
    }

    /// Returns when no seat is taken. Call it after [`Seats::close`], in one place.
    pub async fn emptied(&self) {
        while self.taken() > 0 {
            self.emptied.notified().await;
        }
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
    pub(super) fn hand_over(mut self) {
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

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn seats_that_are_closed_are_given_to_no_one_and_empty_when_the_last_is_free() {
        let seats = Arc::new(Seats::new(2));
        let (first, second) = (Seat::take(&seats), Seat::take(&seats));
        assert!(first.is_some() && Seat::take(&seats).is_none());
        drop(second);
        let mut context = Context::from_waker(Waker::noop());
        let mut closed = pin!(seats.closed());
        assert!(closed.as_mut().poll(&mut context).is_pending());
        seats.close();
        assert!(closed.as_mut().poll(&mut context).is_ready());
        assert!(pin!(seats.closed()).poll(&mut context).is_ready());
        assert!(seats.is_closed() && Seat::take(&seats).is_none());
        assert_eq!(seats.taken(), 1);

        let mut emptied = pin!(seats.emptied());
        assert!(emptied.as_mut().poll(&mut context).is_pending());
        // Who is refused does not count as the last.
        assert!(Seat::take(&seats).is_none());
        assert!(emptied.as_mut().poll(&mut context).is_pending());
        drop(first);
        assert!(emptied.as_mut().poll(&mut context).is_ready());
        assert!(Seat::take(&seats).is_none());
        assert!(pin!(seats.emptied()).poll(&mut context).is_ready());
    }
}
