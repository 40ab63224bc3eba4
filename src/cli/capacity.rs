//! How much fits: sessions within the limit of open files, HTTP connections of a worker.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Flags, SettingsError};
use crate::limits::{
    ADMIN_CONNECTIONS_MAX, DESCRIPTORS_PER_THREAD, HTTP_CONNECTIONS_MAX, NODES_TO_COME,
};

impl Flags {
    /// Each worker's share, at least one.
    pub(super) fn max_http_of_worker(&self, workers: usize) -> usize {
        self.limits
            .max_handshakes
            .map_or(HTTP_CONNECTIONS_MAX, |all| (all as usize).div_ceil(workers))
    }

    /// A session needs a descriptor: raises the soft limit to the hard one and stays below it.
    pub(super) fn max_sessions(
        &self,
        workers: usize,
        nodes: usize,
    ) -> Result<usize, SettingsError> {
        let limit = getrlimit(Resource::Nofile);
        let hard = limit.maximum.unwrap_or(u64::MAX);
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        let allowed = match setrlimit(Resource::Nofile, raised) {
            Ok(()) => hard,
            Err(_) => limit.current.unwrap_or(hard),
        };
        // With a low limit not all of it: sessions come first, and accepting rests when none is left.
        let reserved = self.other_descriptors(workers, nodes).min(allowed / 2);
        let room = (allowed - reserved).max(1);
        let wanted = self.limits.max_sessions.unwrap_or(room);
        if wanted > room {
            refuse!(
                "--max-sessions {wanted}: the limit of open files (ulimit -n) is {allowed}, and \
                 {reserved} of them are kept for other things; at most {room}"
            );
        }
        Ok(usize::try_from(wanted).unwrap_or(usize::MAX))
    }

    /// Descriptors for everything that is not a session.
    fn other_descriptors(&self, workers: usize, nodes: usize) -> u64 {
        // Some more may come, where the list can change.
        let nodes = nodes + NODES_TO_COME;
        let of_worker = self.max_http_of_worker(workers) + 2 * nodes + DESCRIPTORS_PER_THREAD;
        let of_store = match nodes == NODES_TO_COME {
            true => presenced_store::limits::CONNECTIONS_MAX as usize,
            false => 0,
        };
        let of_process = ADMIN_CONNECTIONS_MAX + nodes + of_store + DESCRIPTORS_PER_THREAD;
        (workers * of_worker + of_process) as u64
    }
}
