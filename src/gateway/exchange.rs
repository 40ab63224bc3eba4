//! What the driver of an HTTP connection and hyper's service have in common.

use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use presenced_session::clock::Clock;
use tokio::time::sleep;

use super::Gateway;
use super::caller::Caller;
use super::handshake::Upgraded;
use super::held_poll::HeldPoll;
use super::progress::{Event, Phase, Progress};
use super::refusal::Refusal;
use super::shared_places::Place;
use super::socket::Hold;
use crate::limits::DEADLINE_LOOK;

/// What the driver of a connection and the service have in common.
#[derive(Debug)]
pub(super) struct Exchange {
    clock: Clock,
    /// Where the connection comes from, which may be a proxy that says of each request where that
    /// comes from.
    pub(super) peer: Caller,
    /// Whether it is such a proxy.
    is_forwarded: bool,
    /// Where its request comes from; `peer` while none is under way.
    caller: Mutex<Caller>,
    pub(super) place: Place,
    progress: Mutex<Progress>,
    /// Whether the last request has a body, which may not have been read.
    pub(super) has_body: AtomicBool,
    pub(super) upgrade: OnceLock<(Upgraded, Caller)>,
    held: Mutex<Option<HeldPoll>>,
}

impl Exchange {
    pub(super) fn begin(gateway: &Gateway, peer: Caller, place: Place, has_sent: bool) -> Exchange {
        let clock = gateway.clock;
        let keep_alive = gateway.live.get().keep_alive;
        let exchange = Exchange {
            clock,
            peer,
            is_forwarded: gateway.proxies.forward(peer.0),
            caller: Mutex::new(peer),
            place,
            progress: Mutex::new(Progress::new(clock.now(), has_sent, keep_alive)),
            has_body: AtomicBool::new(false),
            upgrade: OnceLock::new(),
            held: Mutex::new(None),
        };
        exchange.stands(*exchange.progress());
        exchange
    }

    /// Lets the place know what the connection waits for, and since when. Both go by one time: who has been awaited
    /// long enough to be told to leave has no time left.
    fn stands(&self, progress: Progress) {
        let since = self.clock.instant(progress.began());
        self.place.stands_since(progress.phase().standing(), since);
    }

    pub(super) fn is_upgraded(&self) -> bool {
        self.upgrade.get().is_some()
    }

    /// The request is a poll that has to wait.
    pub(super) fn hold(&self, held: HeldPoll) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
    }

    /// Whether it is that.
    pub(super) fn is_held(&self) -> bool {
        let held = self.held.lock();
        held.unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Takes it out.
    pub(super) fn held(&self) -> Option<HeldPoll> {
        let held = self.held.lock();
        held.unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the connection among those of the caller of its request, from the head of the request
    /// on.
    pub(super) fn is_of(&self, caller: Caller, gateway: &Gateway) -> Result<(), Refusal> {
        if !self.is_forwarded {
            return Ok(());
        }
        *self.caller() = caller;
        self.place.belongs_to(caller.0).map_err(|full| {
            gateway.places.log_refusal(full, caller.0);
            full.into()
        })
    }

    pub(super) fn note(&self, event: Event) {
        self.progress().note(event, self.clock.now());
    }

    /// The place is another's now; returns whether the connection has to end at once, and not only soon.
    pub(super) fn leave(&self) -> bool {
        let now = self.clock.now();
        let mut progress = self.progress();
        progress.leave(now);
        progress.deadline() <= now
    }

    fn caller(&self) -> MutexGuard<'_, Caller> {
        self.caller.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts and logs a refusal of the request that is under way, or coming.
    pub(super) fn refused(&self, refusal: Refusal, gateway: &Gateway) {
        let caller = *self.caller();
        gateway.refused(refusal, Some(caller));
    }

    /// Looks at what the socket has done while hyper was polled.
    pub(super) fn look(&self, hold: &Hold) {
        if hold.has_read() {
            self.note(Event::Read);
        }
        if hold.has_written() {
            self.note(Event::Written);
        }
        self.progress()
            .set_begun_record(hold.has_begun_record(), self.clock.now());
        // A session needs no place.
        if self.is_upgraded() || !self.progress().has_changed() {
            return;
        }
        let progress = *self.progress();
        self.stands(progress);
        if progress.phase() == Phase::Idle && self.is_forwarded {
            *self.caller() = self.peer;
            self.place.back_to(self.peer.0);
        }
    }

    /// Returns when the deadline has passed without having been moved.
    pub(super) async fn overdue(&self) {
        loop {
            let deadline = self.progress().deadline();
            let left = deadline.saturating_sub(self.clock.now());
            if left.is_zero() {
                return;
            }
            // The deadline may have been moved nearer.
            sleep(left.min(DEADLINE_LOOK)).await;
        }
    }
}

/// The body of a request, whose end the exchange takes note of.
#[derive(Debug)]
pub(super) struct Arriving {
    body: Incoming,
    exchange: Arc<Exchange>,
}

impl Arriving {
    pub(super) fn new(body: Incoming, exchange: Arc<Exchange>) -> Arriving {
        Arriving { body, exchange }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.exchange.note(Event::Body);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
