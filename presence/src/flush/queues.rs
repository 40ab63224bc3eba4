//! Work that waits for a node writer, in three queues: users who have just connected go before the
//! users of a flush, and these before the users of a refill.

use std::future::poll_fn;
use std::ops::Range;
use std::task::Poll;

use tokio::sync::mpsc::{self, Receiver, Sender};

use super::work::{Batch, Work};
use crate::limits::{BATCH_QUEUE, CONNECT_QUEUE, REFILL_QUEUE};

/// In the order in which work is done.
#[derive(Clone, Copy, Debug)]
enum Rank {
    Connect,
    Flush,
    /// And what is done when all else is, a barrier.
    Refill,
}

const RANKS: usize = Rank::Refill as usize + 1;

/// What of the waiting work may be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    All,
    /// Users who have just connected.
    Connects,
    /// All but those.
    Batches,
    Nothing,
}

impl Wanted {
    fn ranks(self) -> Range<usize> {
        const BATCHES: usize = Rank::Flush as usize;
        match self {
            Wanted::All => 0..RANKS,
            Wanted::Connects => 0..BATCHES,
            Wanted::Batches => BATCHES..RANKS,
            Wanted::Nothing => 0..0,
        }
    }
}

fn rank(work: &Work) -> Rank {
    match work {
        Work::Connect(..) => Rank::Connect,
        Work::Shard(batch) if batch.is_refill() => Rank::Refill,
        Work::Shard(_) => Rank::Flush,
        Work::Barrier(_) => Rank::Refill,
    }
}

/// How work comes to a node writer, which ends with the last clone.
#[derive(Clone, Debug)]
pub(super) struct WorkSender([Sender<Work>; RANKS]);

/// What waits for a node writer.
#[derive(Debug)]
pub(super) struct WorkQueues {
    queues: [Receiver<Work>; RANKS],
    /// Batches of which a part is rendered: each goes before what is in its queue.
    begun: [Option<Box<Batch>>; RANKS],
}

/// Empty queues.
pub(super) fn work_queues() -> (WorkSender, WorkQueues) {
    let (connects, connects_out) = mpsc::channel(CONNECT_QUEUE);
    let (batches, batches_out) = mpsc::channel(BATCH_QUEUE);
    let (refills, refills_out) = mpsc::channel(REFILL_QUEUE);
    let queues = WorkQueues {
        queues: [connects_out, batches_out, refills_out],
        begun: Default::default(),
    };
    (WorkSender([connects, batches, refills]), queues)
}

impl WorkSender {
    /// Gives the work back if there is no room.
    pub(super) fn try_send(&self, work: Work) -> Result<(), Work> {
        self.0[rank(&work) as usize]
            .try_send(work)
            .map_err(mpsc::error::TrySendError::into_inner)
    }

    /// Whether the node writer has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.0.iter().all(Sender::is_closed)
    }

    /// Gives the work back if the node writer has ended.
    pub(super) async fn send(&self, work: Work) -> Result<(), Work> {
        let queue = &self.0[rank(&work) as usize];
        queue.send(work).await.map_err(|error| error.0)
    }
}

impl WorkQueues {
    /// The first that waits, if there is any.
    pub(super) fn try_next(&mut self, wanted: Wanted) -> Option<Work> {
        let ranks = wanted.ranks();
        let begun = &mut self.begun[ranks.clone()];
        begun
            .iter_mut()
            .zip(&mut self.queues[ranks])
            .find_map(|(begun, queue)| {
                let begun = begun.take().map(Work::Shard);
                begun.or_else(|| queue.try_recv().ok())
            })
    }

    /// Waits for the first. `None` when there is nothing left and nobody to send more. Cancelling
    /// it loses nothing.
    pub(super) async fn next(&mut self, wanted: Wanted) -> Option<Work> {
        poll_fn(|cx| {
            if let Some(work) = self.try_next(wanted) {
                return Poll::Ready(Some(work));
            }
            let mut is_over = true;
            for queue in &mut self.queues[wanted.ranks()] {
                match queue.poll_recv(cx) {
                    Poll::Ready(Some(work)) => return Poll::Ready(Some(work)),
                    Poll::Ready(None) => {}
                    Poll::Pending => is_over = false,
                }
            }
            if is_over {
                Poll::Ready(None)
            } else {
                Poll::Pending
            }
        })
        .await
    }

    /// The rest of a batch, which goes before all else of its rank.
    pub(super) fn put_back(&mut self, batch: Box<Batch>) {
        let rank = if batch.is_refill() {
            Rank::Refill
        } else {
            Rank::Flush
        };
        self.begun[rank as usize] = Some(batch);
    }

    /// Whether part of a batch is still to be rendered.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.iter().any(Option::is_some)
    }

    /// The batches of which a part is rendered.
    pub(super) fn take_begun(&mut self) -> impl Iterator<Item = Box<Batch>> {
        self.begun.iter_mut().filter_map(Option::take)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    use presenced_memcached::Cluster;
    use presenced_session::clock::Clock;
    use tokio::sync::oneshot;

    use super::super::node_flush::{NodeFlush, Waiting};
    use super::super::state::Presence;
    use super::super::work::{BatchGuard, ShardClaim};
    use super::*;
    use crate::slot::Slot;
    use crate::users::SlotGuard;
    use crate::{Config, Record};

    fn connect() -> Work {
        let flush = Arc::new(NodeFlush::new(Duration::ZERO, 0));
        let waiting = Waiting::new(&flush, Duration::ZERO);
        Work::Connect(Slot::new(0, 0), SlotGuard::default(), waiting)
    }

    fn refill(shard: usize) -> Work {
        let guard = BatchGuard::Refill {
            since_s: 1,
            shard,
            flush: Arc::new(NodeFlush::new(Duration::ZERO, 0)),
            clock: Clock::start(),
            _slots: SlotGuard::default(),
        };
        Work::Shard(Box::new(Batch::new(shard, vec![0, 1], Arc::new(guard))))
    }

    fn flush(shard: usize) -> Work {
        let cluster = Cluster::new([], presenced_memcached::Config::default());
        let config = Config::new(Record::new("{userId}", "edge-1", 0, 1).unwrap());
        let presence = Presence::new(&config, cluster.into(), Clock::start(), Arc::default());
        let (round, _) = Arc::new(presence).begin(shard);
        let claim = ShardClaim::take(&Arc::new(AtomicU64::new(0)), shard).unwrap();
        let guard = BatchGuard::new(round, 0, claim);
        Work::Shard(Box::new(Batch::new(shard, vec![0, 1], Arc::new(guard))))
    }

    fn name(work: Option<Work>) -> String {
        match work {
            None => "nothing".into(),
            Some(Work::Connect(..)) => "connect".into(),
            Some(Work::Shard(batch)) if batch.is_refill() => format!("refill {}", batch.shard),
            Some(Work::Shard(batch)) => format!("flush {}", batch.shard),
            Some(Work::Barrier(_)) => "barrier".into(),
        }
    }

    /// All that waits, in its order.
    fn all(queues: &mut WorkQueues) -> Vec<String> {
        let waiting = std::iter::from_fn(|| queues.try_next(Wanted::All));
        waiting.map(|work| name(Some(work))).collect()
    }

    async fn waits(next: impl Future<Output = Option<Work>>) -> bool {
        tokio::select! {
            biased;
            _ = next => false,
            () = async {} => true,
        }
    }

    #[tokio::test]
    async fn whatever_came_first_connects_go_before_flushes_and_these_before_refills() {
        let (sender, mut queues) = work_queues();
        let barrier = Work::Barrier(oneshot::channel().0);
        for work in [refill(1), barrier, flush(2), flush(3), connect()] {
            sender.try_send(work).unwrap();
        }
        let expected = ["connect", "flush 2", "flush 3", "refill 1", "barrier"];
        assert_eq!(all(&mut queues), expected);
    }

    #[tokio::test]
    async fn the_rest_of_a_batch_goes_before_its_like_and_behind_what_is_more_urgent() {
        let (sender, mut queues) = work_queues();
        for work in [flush(1), refill(2)] {
            let Work::Shard(batch) = work else {
                unreachable!()
            };
            queues.put_back(batch);
        }
        assert!(queues.has_begun());
        for work in [refill(3), flush(4), connect()] {
            sender.try_send(work).unwrap();
        }
        assert_eq!(name(queues.try_next(Wanted::Nothing)), "nothing");
        assert_eq!(name(queues.try_next(Wanted::Connects)), "connect");
        assert_eq!(name(queues.try_next(Wanted::Connects)), "nothing");
        sender.try_send(connect()).unwrap();
        assert_eq!(name(queues.try_next(Wanted::Batches)), "flush 1");
        let expected = ["connect", "flush 4", "refill 2", "refill 3"];
        assert_eq!(all(&mut queues), expected);
        assert!(!queues.has_begun());
    }

    #[tokio::test]
    async fn each_queue_is_bounded_and_holds_up_no_other() {
        let (sender, mut queues) = work_queues();
        let taken = (0..).take_while(|&shard| sender.try_send(refill(shard)).is_ok());
        assert_eq!(taken.count(), REFILL_QUEUE);
        sender.try_send(flush(2)).unwrap();
        sender.try_send(connect()).unwrap();
        assert_eq!(all(&mut queues).len(), REFILL_QUEUE + 2);
    }

    #[tokio::test]
    async fn it_is_over_when_nobody_can_send_and_nothing_is_left() {
        let (sender, mut queues) = work_queues();
        assert!(waits(queues.next(Wanted::All)).await);
        sender.try_send(refill(1)).unwrap();
        assert!(waits(queues.next(Wanted::Connects)).await);
        drop(sender);
        assert_eq!(name(queues.next(Wanted::All).await), "refill 1");
        assert_eq!(name(queues.next(Wanted::All).await), "nothing");
    }
}
