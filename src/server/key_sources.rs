//! The tasks that fetch identity providers' keys, one for each source.

use std::sync::Arc;

use fastrand::Rng;
use presenced_tasks::{Task, keep_up};
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::swap::Swap;
use crate::tokens::KeySource;

/// The sources that are followed. A source is followed for as long as it is here.
#[derive(Debug)]
pub(super) struct KeySources {
    followed: Vec<(Arc<KeySource>, DropGuard)>,
    /// The same for those who look at them.
    shown: Arc<Swap<Vec<Arc<KeySource>>>>,
    runtime: Handle,
    stop: CancellationToken,
}

impl KeySources {
    /// None yet. Tasks run on this runtime, until `stop` at the latest; `shown` has the sources, too.
    pub(super) fn new(
        shown: Arc<Swap<Vec<Arc<KeySource>>>>,
        stop: CancellationToken,
    ) -> KeySources {
        KeySources {
            followed: Vec::new(),
            shown,
            runtime: Handle::current(),
            stop,
        }
    }

    /// Follows those of `sources` that are not followed yet, which it returns.
    pub(super) fn begin(&mut self, sources: &[Arc<KeySource>]) -> Vec<Arc<KeySource>> {
        let mut begun = Vec::new();
        for source in sources {
            if self
                .followed
                .iter()
                .any(|(own, _)| Arc::ptr_eq(own, source))
            {
                continue;
            }
            let stop = self.stop.child_token();
            let (followed, ended) = (source.clone(), stop.clone().drop_guard());
            let following = keep_up(Task::Keys, move || {
                let source = followed.clone();
                async move { source.follow(Rng::new()).await }
            });
            self.runtime
                .spawn(stop.run_until_cancelled_owned(following));
            self.followed.push((source.clone(), ended));
            begun.push(source.clone());
        }
        begun
    }

    /// Ends the tasks of all but `sources`, and shows these alone.
    pub(super) fn keep(&mut self, sources: Vec<Arc<KeySource>>) {
        let is_kept = |own: &Arc<KeySource>| sources.iter().any(|kept| Arc::ptr_eq(own, kept));
        self.followed.retain(|(own, _)| is_kept(own));
        self.shown.set(sources);
    }
}
