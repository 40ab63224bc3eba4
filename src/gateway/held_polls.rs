//! Where polls wait that have nothing to answer yet: all of a listener's in one place, without a task, a buffer or the
//! runtime's record of each connection.
//!
//! Nothing is read meanwhile. What a client sends stays in the kernel, up to a bound, and its end is noticed before
//! what it has sent is read.

use std::convert::Infallible;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use presenced_session::readiness::watch;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventFlags};
use rustix::io::ioctl_fionread;
use slab::Slab;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::held_poll::Held;
use super::held_waiter::{Body, HeldWaiter, Key};
use super::pipe::{HeldWait, PollWait};
use crate::limits::HELD_POLLS_PER_LOOK;

/// The client has ended its side at least, or the connection is broken.
const GONE: EventFlags = EventFlags::RDHUP
    .union(EventFlags::HUP)
    .union(EventFlags::ERR);

/// The polls of a listener that wait.
#[derive(Debug)]
pub(super) struct HeldPolls {
    held: Slab<(Held, HeldWait)>,
    epoll: AsyncFd<OwnedFd>,
    answers: mpsc::UnboundedReceiver<(Key, Body)>,
    sender: mpsc::UnboundedSender<(Key, Body)>,
}

impl HeldPolls {
    /// None yet.
    ///
    /// # Errors
    ///
    /// The system has no descriptor for their epoll, or the runtime cannot watch it.
    pub(super) fn new() -> io::Result<HeldPolls> {
        let (sender, answers) = mpsc::unbounded_channel();
        Ok(HeldPolls {
            held: Slab::new(),
            epoll: watch(epoll::create(epoll::CreateFlags::CLOEXEC)?)?,
            answers,
            sender,
        })
    }

    /// Holds a poll until [`HeldPolls::next`] returns it, or its client is gone. Returns it if its answer has come before.
    ///
    /// # Errors
    ///
    /// The system cannot watch the connection, which is closed with this.
    pub(super) fn hold(&mut self, held: Held, wait: PollWait) -> io::Result<Option<(Held, Body)>> {
        let entry = self.held.vacant_entry();
        let key = entry.key();
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        let data = epoll::EventData::new_u64(key as u64);
        epoll::add(&self.epoll, &held.connection.transport, data, flags)?;
        match wait.hold(HeldWaiter::new(key, self.sender.clone())) {
            Ok(wait) => {
                entry.insert((held, wait));
                Ok(None)
            }
            Err(body) => {
                epoll::delete(&self.epoll, &held.connection.transport)?;
                Ok(Some((held, body)))
            }
        }
    }

    /// The next poll that is answered, which is held no more. May be cancelled. A client that sends more than
    /// `ahead_max` bytes while it waits is let go, as one that has hung up is; its session ends.
    ///
    /// # Errors
    ///
    /// What the system says to the look at the connections.
    pub(super) async fn next(&mut self, ahead_max: impl Fn() -> usize) -> io::Result<(Held, Body)> {
        loop {
            let (key, body) = tokio::select! {
                biased;
                Some(answer) = self.answers.recv() => answer,
                looked = look(&mut self.held, &self.epoll, &ahead_max) => match looked? {},
            };
            if let Some((held, _)) = self.held.try_remove(key) {
                // Its connection is watched by the runtime from now on.
                epoll::delete(&self.epoll, &held.connection.transport)?;
                return Ok((held, body));
            }
        }
    }
}

/// Lets go of those whose clients are gone, for ever.
async fn look(
    held: &mut Slab<(Held, HeldWait)>,
    epoll: &AsyncFd<OwnedFd>,
    ahead_max: impl Fn() -> usize,
) -> io::Result<Infallible> {
    loop {
        let mut readable = epoll.readable().await?;
        if look_once(held, epoll.get_ref(), &ahead_max)? == 0 {
            readable.clear_ready();
        }
    }
}

/// Looks at the next connections of which there is news; how many those are.
fn look_once(
    held: &mut Slab<(Held, HeldWait)>,
    epoll: &OwnedFd,
    ahead_max: impl Fn() -> usize,
) -> io::Result<usize> {
    let mut events = [MaybeUninit::uninit(); HELD_POLLS_PER_LOOK];
    let (events, _) = epoll::wait(epoll, &mut events, Some(&Timespec::default()))?;
    for event in &*events {
        let (flags, data) = (event.flags, event.data);
        let key = data.u64() as Key;
        let Some((polled, wait)) = held.get(key) else {
            continue;
        };
        let has_sent =
            || ioctl_fionread(&polled.connection.transport).unwrap_or(u64::from(u32::MAX));
        let is_gone =
            flags.intersects(GONE) || polled.ahead.len() as u64 + has_sent() > ahead_max() as u64;
        // Otherwise its answer is on its way.
        if is_gone && wait.leave() {
            held.remove(key).0.close();
        }
    }
    Ok(events.len())
}
