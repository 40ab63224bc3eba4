//! How much fits: sessions within the limit of open files, HTTP connections of a worker.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Flags, SettingsError};
use crate::gateway::places::Room;
use crate::limits::{
    ADMIN_CONNECTIONS_MAX, DESCRIPTORS_PER_THREAD, HTTP_CONNECTIONS_MAX,
    HTTP_CONNECTIONS_PEER_SHARE, IDLE_MIN, LOBBY_MAX, NODES_TO_COME, TURNED_AWAY_MAX,
};

impl Flags {
    /// HTTP connections that there may be.
    pub(super) fn http_room(&self, workers: usize) -> Result<Room, SettingsError> {
        let limits = &self.limits;
        let max = limits.max_http_connections.map(|max| max as usize);
        let max = max.unwrap_or(workers * HTTP_CONNECTIONS_MAX);
        let per_address = limits.max_http_connections_per_address;
        let per_address = per_address.map(|max| max as usize);
        if let Some(per_address) = per_address.filter(|per_address| *per_address > max) {
            refuse!(
                "--max-http-connections-per-address {per_address} must be at most \
                 --max-http-connections, which is {max}"
            );
        }
        Ok(Room {
            max,
            per_peer_max: per_address.unwrap_or(max.div_ceil(HTTP_CONNECTIONS_PEER_SHARE)),
            leaving_max: workers * TURNED_AWAY_MAX,
            idle_min: IDLE_MIN,
        })
    }

    /// A session needs a descriptor: raises the soft limit to the hard one and stays below it.
    pub(super) fn max_sessions(
        &self,
        workers: usize,
        nodes: usize,
        http: Room,
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
        let reserved = self
            .other_descriptors(http, workers, nodes)
            .min(allowed / 2);
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
    fn other_descriptors(&self, http: Room, workers: usize, nodes: usize) -> u64 {
        // Some more may come, where the list can change.
        let nodes = nodes + NODES_TO_COME;
        let listeners = self.network.listen.len();
        let of_worker = listeners * (LOBBY_MAX + TURNED_AWAY_MAX)
            + listeners
            + 2 * nodes
            + DESCRIPTORS_PER_THREAD;
        let of_store = match nodes == NODES_TO_COME {
            true => presenced_store::limits::CONNECTIONS_MAX as usize,
            false => 0,
        };
        let of_http = http.max + http.leaving_max;
        let of_process = ADMIN_CONNECTIONS_MAX + nodes + of_store + DESCRIPTORS_PER_THREAD;
        (workers * of_worker + of_http + of_process) as u64
    }
}
