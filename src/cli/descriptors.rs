//! What fits into the limit of open files: sessions, HTTP connections, memcached, the admin address and the
//! embedded store each have a share, and these add up to it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Flags, SettingsError};
use crate::gateway::Capacity;
use crate::gateway::places::Room;
use crate::limits::{
    ADMIN_CONNECTIONS_MAX, AWAITED_MIN, DESCRIPTORS_MAX, DESCRIPTORS_PER_THREAD,
    HTTP_CONNECTIONS_MAX, HTTP_CONNECTIONS_PEER_SHARE, HTTP_DESCRIPTORS_MIN, IDLE_MIN, LOBBY_MAX,
    NODES_TO_COME, REFUSED_SESSIONS_MAX, STORE_CONNECTIONS_MIN, TURNED_AWAY_MAX,
};

/// Shares of the descriptors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shares {
    pub(super) sessions_max: usize,
    pub(super) http: Capacity,
    pub(super) store_connections_max: u32,
}

/// What all threads and connections that are no client's need.
#[derive(Clone, Copy, Debug)]
struct Fixed {
    /// Polls, timers, listeners, the log.
    threads: usize,
    memcached: usize,
    admin: usize,
}

impl Fixed {
    fn new(workers: usize, nodes: usize) -> Fixed {
        // Each worker has two connections to a node, the probe two more. Some nodes may come, where the list
        // can change.
        let of_node = 2 * workers + 2;
        Fixed {
            threads: (workers + 1) * DESCRIPTORS_PER_THREAD,
            memcached: (nodes.max(1) + NODES_TO_COME) * of_node,
            // As many again may be about to be closed for others.
            admin: 2 * ADMIN_CONNECTIONS_MAX,
        }
    }

    fn sum(self) -> usize {
        self.threads + self.memcached + self.admin
    }
}

impl Flags {
    /// Divides the descriptors. With a low limit HTTP and the embedded store have less than usual, so that most
    /// of what is left is for sessions; what flags ask for is given or refused.
    pub(super) fn shares(&self, workers: usize, nodes: usize) -> Result<Shares, SettingsError> {
        let allowed = raise_limit();
        let fixed = Fixed::new(workers, nodes);
        let left = allowed.saturating_sub(fixed.sum());
        let store = match nodes {
            0 => {
                let usual = presenced_store::limits::CONNECTIONS_MAX as usize;
                // This server's own connections come first.
                usual
                    .min(left / 4)
                    .max(2 * workers + 2 + STORE_CONNECTIONS_MIN)
            }
            _ => 0,
        };
        let http = (left / 4).min(HTTP_DESCRIPTORS_MIN).max(left / 16);
        let http = self.http_capacity(workers, http)?;
        let of_http = http.descriptors(self.doors(workers));
        let others = fixed.sum() + store + of_http;
        let room = allowed.saturating_sub(others);
        let wanted = self
            .limits
            .max_sessions
            .map_or(room, |wanted| usize::try_from(wanted).unwrap_or(usize::MAX));
        if room == 0 || wanted > room {
            refuse!(
                "{}: the limit of open files (ulimit -n) is {allowed}, of which {} are for memcached, {} for \
                 HTTP connections, {} for the admin address, {store} for the embedded store and {} for \
                 threads; that leaves {room} for sessions",
                self.asked(workers),
                fixed.memcached,
                of_http,
                fixed.admin,
                fixed.threads
            );
        }
        Ok(Shares {
            sessions_max: wanted,
            http,
            store_connections_max: store as u32,
        })
    }

    /// The flags that ask for descriptors, and what they say. Where none is given, it is the threads that take
    /// more than there is.
    fn asked(&self, workers: usize) -> String {
        let limits = &self.limits;
        let given = [
            ("--max-sessions", limits.max_sessions),
            (
                "--max-http-connections",
                limits.max_http_connections.map(u64::from),
            ),
            ("--workers", self.network.workers.map(u64::from)),
        ];
        let given = given
            .into_iter()
            .filter_map(|(flag, value)| Some(format!("{flag} {}", value?)));
        let given: Vec<_> = given.collect();
        match given.is_empty() {
            true => format!("--workers {workers} (one for each core)"),
            false => given.join(" and "),
        }
    }

    /// Listeners for clients: one for each worker and address.
    fn doors(&self, workers: usize) -> usize {
        workers * self.network.listen.len()
    }

    /// HTTP connections that there may be, with a share of `descriptors` for them, unless flags ask for more.
    fn http_capacity(&self, workers: usize, descriptors: usize) -> Result<Capacity, SettingsError> {
        let limits = &self.limits;
        let doors = self.doors(workers);
        let usual = Capacity {
            room: Room {
                max: workers * HTTP_CONNECTIONS_MAX,
                per_peer_max: 0,
                leaving_max: workers * TURNED_AWAY_MAX,
                idle_min: IDLE_MIN,
                awaited_min: AWAITED_MIN,
                silent_may_evict: false,
            },
            lobby_max: LOBBY_MAX,
            turned_away_max: TURNED_AWAY_MAX,
            refused_sessions_max: (workers * REFUSED_SESSIONS_MAX).min(descriptors / 8).max(1),
        };
        let mut http = usual.within(descriptors, doors);
        if let Some(max) = limits.max_http_connections {
            http.room.max = max as usize;
        }
        let max = http.room.max;
        let per_address = limits.max_http_connections_per_address;
        let per_address = per_address.map(|max| max as usize);
        if let Some(per_address) = per_address.filter(|per_address| *per_address > max) {
            refuse!(
                "--max-http-connections-per-address {per_address} must be at most \
                 --max-http-connections, which is {max}"
            );
        }
        let half = max.div_ceil(HTTP_CONNECTIONS_PEER_SHARE);
        http.room.per_peer_max = per_address.unwrap_or(half);
        Ok(http)
    }
}

/// What a listener takes at least: itself, what watches the polls that it holds, and what is accepted before it is
/// decided.
const OF_LISTENER: usize = 3;

impl Capacity {
    /// Descriptors that all of it takes.
    fn descriptors(&self, doors: usize) -> usize {
        let of_door = self.lobby_max + self.turned_away_max + OF_LISTENER;
        let of_all = self.room.max + self.room.leaving_max + self.refused_sessions_max;
        of_all + doors * of_door
    }

    /// The same in proportion, so that it takes `descriptors` at most, or as little as can be.
    fn within(self, descriptors: usize, doors: usize) -> Capacity {
        let fixed = doors * OF_LISTENER + self.refused_sessions_max;
        let usual = self.descriptors(doors) - fixed;
        let descriptors = descriptors.saturating_sub(fixed);
        let part = |count: usize| match descriptors < usual {
            true => (count * descriptors / usual).max(1),
            false => count,
        };
        Capacity {
            room: Room {
                max: part(self.room.max),
                leaving_max: part(self.room.leaving_max),
                ..self.room
            },
            lobby_max: part(self.lobby_max),
            turned_away_max: part(self.turned_away_max),
            refused_sessions_max: self.refused_sessions_max,
        }
    }
}

/// Raises the soft limit of open files to the hard one; returns what is allowed.
fn raise_limit() -> usize {
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
    // So that sums of shares are numbers.
    usize::try_from(allowed)
        .unwrap_or(usize::MAX)
        .min(DESCRIPTORS_MAX)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn however_many_addresses_there_are_http_takes_no_more_than_its_share() {
        for addresses in [1, 2, 7, 30] {
            let listen = vec!["127.0.0.1:0"; addresses].join(",");
            let flags = Flags::try_parse_from(["presenced", "--listen", &listen]).unwrap();
            for (workers, share) in [(1, 200), (1, 1024), (2, 1500), (8, 4096), (8, 1 << 20)] {
                let doors = flags.doors(workers);
                // With less there is one of each all the same.
                let share = share.max(64 * doors);
                let http = flags.http_capacity(workers, share).unwrap();
                let taken = http.descriptors(doors);
                assert!(taken <= share, "{taken} of {share}: {http:?}");
            }
        }
    }
}
