//! Who waits for the answer to a poll that is held: its listener is told which poll it is, and the answer.

use tokio::sync::mpsc;

/// A poll among those that a listener holds.
pub(super) type Key = usize;

/// The body of the answer to a poll; `None` if its session has ended without one.
pub(super) type Body = Option<Vec<u8>>;

/// Who is told the answer to a poll that is held.
#[derive(Debug)]
pub(super) struct HeldWaiter {
    key: Key,
    answers: mpsc::UnboundedSender<(Key, Body)>,
    is_done: bool,
}

impl HeldWaiter {
    pub(super) fn new(key: Key, answers: mpsc::UnboundedSender<(Key, Body)>) -> HeldWaiter {
        HeldWaiter {
            key,
            answers,
            is_done: false,
        }
    }

    /// Tells it the answer; gives that back if nobody waits any more.
    pub(super) fn send(mut self, body: Vec<u8>) -> Result<(), Vec<u8>> {
        self.is_done = true;
        let sent = self.answers.send((self.key, Some(body)));
        sent.map_err(|lost| lost.0.1.unwrap_or_default())
    }

    /// Nobody waits any more.
    pub(super) fn leave(mut self) {
        self.is_done = true;
    }
}

impl Drop for HeldWaiter {
    fn drop(&mut self) {
        if !self.is_done {
            // The listener may be gone.
            let _ = self.answers.send((self.key, None));
        }
    }
}
