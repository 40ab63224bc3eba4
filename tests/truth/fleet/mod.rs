//! Two edges on the same memcached: one has the users, the other is asked for them.

mod asker;
mod edges;
mod memcached;
mod middle;
mod nodes;
mod table;
mod users;

use std::time::Duration;

use presenced_testkit::process::Process;
use presenced_testkit::until;
use tokio::time::sleep;

use asker::Asker;
use table::Row;
use users::Users;

/// Short, so that a row is over soon; what is left of the TTL is as much as a marker needs.
const FLAGS: &[&str] = &[
    "--ttl=12s",
    "--ping-interval=2s",
    "--ping-timeout=1500ms",
    "--flush-interval=500ms",
    "--drain=2s",
    "--max-messages-per-second=100000",
    "--resolve-interval=500ms",
];
/// What [`FLAGS`] say.
pub(crate) const TTL: Duration = Duration::from_secs(12);
/// TTL less ping interval, ping timeout and flush interval.
pub(crate) const HEADROOM: Duration = Duration::from_secs(8);
/// With sessions, in each row.
pub(crate) const USERS: usize = 50;
/// After a fault: what was written before it has expired by then.
const AFTERMATH: Duration = Duration::from_secs(14);

/// The flags of an edge called `id` with the nodes that `nodes` says.
pub(crate) fn flags(id: &str, nodes: &str) -> Vec<String> {
    flags_with(1, id, nodes)
}

fn flags_with(workers: u32, id: &str, nodes: &str) -> Vec<String> {
    let own = [
        format!("--server-id={id}"),
        format!("--workers={workers}"),
        nodes.to_owned(),
    ];
    let common = FLAGS.iter().map(ToString::to_string);
    common.chain(own).collect()
}

/// Starts an edge.
pub(crate) async fn edge(id: &str, nodes: &str) -> Process {
    edge_with(1, id, nodes).await
}

/// The same with more workers, and so with more connections to each node.
pub(crate) async fn edge_with(workers: u32, id: &str, nodes: &str) -> Process {
    let flags = flags_with(workers, id, nodes);
    Process::start(&flags.iter().map(String::as_str).collect::<Vec<_>>()).await
}

/// Users at one edge, and another that is asked for them.
pub(crate) struct Fleet {
    pub(crate) users: Users,
    pub(crate) asker: Asker,
    pub(crate) home: Process,
    pub(crate) other: Process,
}

impl Fleet {
    /// With the nodes that the flag says. Returns when misses are believed.
    pub(crate) async fn on(nodes: &str) -> Fleet {
        let [home, other] = [edge("home", nodes).await, edge("other", nodes).await];
        Fleet::of(home, other).await
    }

    /// With one node.
    pub(crate) async fn on_node(node: &str) -> Fleet {
        Fleet::on(&format!("--memcached={node}")).await
    }

    /// Of edges that run. Returns when misses are believed.
    pub(crate) async fn of(home: Process, other: Process) -> Fleet {
        let fleet = Fleet::untrusting(home, other).await;
        fleet.asker.believes_misses().await;
        // The start is no fault; what is measured is what follows.
        fleet.asker.take();
        fleet
    }

    /// The same where misses need not be believed, now or ever.
    pub(crate) async fn untrusting(home: Process, other: Process) -> Fleet {
        let users = Users::gather(USERS, home.edge()).await;
        let asker = Asker::start(users.clone(), other.edge());
        Fleet {
            users,
            asker,
            home,
            other,
        }
    }

    /// Watches for what comes of the fault until misses are believed again; then judges.
    pub(crate) async fn judge(&self, row: &Row) {
        sleep(AFTERMATH).await;
        self.asker.believes_misses().await;
        self.all_here().await;
        row.judge(&self.asker.take());
    }

    /// No session was lost for good.
    pub(crate) async fn all_here(&self) {
        let users = self.users.names().len();
        until("all users have sessions", TTL, async || {
            self.users.open() == users
        })
        .await;
    }
}
