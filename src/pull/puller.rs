//! How pulls are asked, wherever they come from.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use presenced_presence::UserId;
use presenced_presence::flush::Presence;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::batcher::Batcher;
use super::question::{Asker, Question};
use super::{Answer, NoAnswer, Pulls};
use crate::limits::CROWDED_USERS;

/// Asks questions of one worker's batcher.
#[derive(Clone, Debug)]
pub struct Puller {
    /// Each session and each connection has a few questions under way at most.
    questions: UnboundedSender<Question>,
    presence: Arc<Presence>,
    pulls: Arc<Pulls>,
    /// Users of its pulls without an answer.
    waiting: Arc<AtomicUsize>,
}

/// Users who are asked for, until there is an answer or nobody waits for it.
struct Waiting {
    count: Arc<AtomicUsize>,
    users: usize,
}

impl Waiting {
    fn new(count: &Arc<AtomicUsize>, users: usize) -> Waiting {
        count.fetch_add(users, Ordering::Relaxed);
        Waiting {
            count: count.clone(),
            users,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.count.fetch_sub(self.users, Ordering::Relaxed);
    }
}

impl Puller {
    /// Starts a batcher, one of `tasks`; it ends with the last clone of its puller.
    pub fn start(presence: &Arc<Presence>, pulls: &Arc<Pulls>, tasks: &mut JoinSet<()>) -> Puller {
        // It is emptied each time the batcher is polled, and what waits there is bounded.
        let (sender, questions) = mpsc::unbounded_channel();
        tasks.spawn(Batcher::new(presence, pulls).run(questions));
        Puller {
            questions: sender,
            presence: presence.clone(),
            pulls: pulls.clone(),
            waiting: Arc::default(),
        }
    }

    /// Whether so many users wait that whoever asks for more while they do is refused. To read a
    /// question costs more than to refuse it.
    pub fn is_crowded(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > CROWDED_USERS
    }

    /// The asker of a user's pulls.
    pub fn asker(&self, user: &UserId) -> Asker {
        Asker {
            id: self.presence.users().hasher().hash_one(user.as_str()),
            has_rate: true,
        }
    }

    /// The asker of a back end's pulls, to which no rate applies.
    pub fn service(&self, user: &UserId) -> Asker {
        Asker {
            has_rate: false,
            ..self.asker(user)
        }
    }

    /// The answer to a pull of nobody, by which clients learn that their connection is alive: it
    /// needs no look-up, and costs its asker nothing.
    pub fn nobody(&self) -> Answer {
        self.pulls.metrics.pulls.add(1);
        Answer::default()
    }

    /// Asks which of `users` are online.
    ///
    /// # Errors
    ///
    /// Why there is no answer; the question may be asked again.
    pub fn ask(
        &self,
        asker: Asker,
        users: Vec<UserId>,
    ) -> impl Future<Output = Result<Answer, NoAnswer>> + Send + 'static {
        let asked_at = Instant::now();
        self.pulls.metrics.pulls.add(1);
        self.pulls.metrics.users.add(users.len() as u64);
        let charged = self.pulls.charge(asker, users.len());
        let waiting = Waiting::new(&self.waiting, users.len());
        let (reply, answer) = oneshot::channel();
        let question = Question {
            asker,
            users,
            asked_at,
            reply,
        };
        if charged.is_ok() {
            // Without a batcher nobody will reply.
            let _ = self.questions.send(question);
        }
        let pulls = self.pulls.clone();
        async move {
            let _waiting = waiting;
            charged.map_err(NoAnswer::Refused)?;
            let answer = answer.await.unwrap_or(Err(NoAnswer::Stopping))?;
            pulls.metrics.unknown.add(answer.unknown.len() as u64);
            pulls.metrics.seconds.observe(asked_at.elapsed());
            Ok(answer)
        }
    }
}
