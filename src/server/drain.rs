//! A stop that makes nobody blink.

use std::future::pending;
use std::mem::take;

use futures_util::future::join_all;
use presenced_session::worker::WorkerCommand;
use tokio::time::{sleep, timeout};

use super::Server;
use crate::limits::{DRAIN_SLACK, LAST_FLUSH_TIME_MAX};

impl Server {
    /// From now on `/readyz` says 503 and HTTP connections end with their next answer, so that
    /// balancers turn to other servers before this one refuses anyone. Clients that come meanwhile
    /// are served.
    pub fn announce_departure(&self) {
        self.departure.announce();
    }

    /// Stops so that a deploy makes nobody blink: not ready, no new sessions; all users are written
    /// once more with a TTL that lasts until they are back elsewhere; then their sessions are
    /// closed with 1012, spread evenly over the drain time, each when no `set` of its user is under
    /// way. Ends when no session is left.
    pub async fn drain(mut self) {
        self.announce_departure();
        self.seats.close();
        let ended = join_all(take(&mut self.ended));
        tokio::select! {
            () = self.write_and_close() => {}
            // All workers have waited for their last session for as long as they may.
            _ = ended => {}
            // A session whose handshake was accepted before has its seat by now: no other can come.
            () = self.seats.emptied() => {}
        }
        self.stop.cancel();
    }

    /// The steps of a drain; never returns.
    async fn write_and_close(&self) {
        let over = self.config.drain;
        // A reply that takes longer does not come: the connection is given up.
        let grace = self.config.memcached.connect.timeout + DRAIN_SLACK;
        self.presence
            .begin_last_flush(over.as_secs_f64().ceil() as u32);
        // Before the first session is closed: a `set` that came later could replace the entry of
        // the server that its user is on by then. A node that does not answer is given up.
        let flush = timeout(LAST_FLUSH_TIME_MAX, self.flush_all());
        let mut is_written = flush.await.unwrap_or(false);
        if !is_written {
            tracing::warn!("closing sessions before memcached has acknowledged all their users");
        }
        for worker in &self.workers {
            // A worker that is gone has no sessions to drain.
            let _ = worker
                .commands
                .send(WorkerCommand::Drain { over, grace })
                .await;
        }
        // Of sessions that are there still, when memcached is back.
        let write_the_rest = async {
            while !is_written {
                sleep(self.presence.flush_interval()).await;
                is_written = self.flush_all().await;
            }
            pending::<()>().await;
        };
        // What is under way now must not arrive when its user's session is closed.
        let _ = timeout(over + grace, write_the_rest).await;
        self.presence.stop_writing();
        pending::<()>().await;
    }

    /// Whether memcached has acknowledged all that was pending.
    async fn flush_all(&self) -> bool {
        let flushes = self.workers.iter().map(|worker| worker.flusher.flush_all());
        !join_all(flushes).await.contains(&false)
    }
}
