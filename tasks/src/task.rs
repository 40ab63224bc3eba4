//! The kinds of work that are caught.

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// What a session's frames, answers and end take.
    Session,
    /// The begin of a session.
    Open,
    /// The turn of a worker's wheel: pings and what is due.
    Tick,
    /// A client's HTTP connection.
    Connection,
    /// A listener for clients.
    Listener,
    /// The admin listener and its connections.
    Admin,
    /// A connection that writes to a node.
    NodeWriter,
    /// The flush of a worker's shards.
    Flush,
    /// Users of a node written again.
    Refill,
    /// Pulls.
    LookUp,
    /// The probe of a node.
    Probe,
    /// Which nodes there are.
    Discovery,
    /// The keys of an identity provider.
    Keys,
    /// The store's connections and its upkeep.
    Store,
    /// The log of revocations, and the end of sessions that they bring.
    Revocations,
    /// Settings that are read again.
    Settings,
    /// What is said of certificates that expire.
    Certificates,
}

impl Task {
    /// All, in their order.
    pub const ALL: [Task; 17] = [
        Task::Session,
        Task::Open,
        Task::Tick,
        Task::Connection,
        Task::Listener,
        Task::Admin,
        Task::NodeWriter,
        Task::Flush,
        Task::Refill,
        Task::LookUp,
        Task::Probe,
        Task::Discovery,
        Task::Keys,
        Task::Store,
        Task::Revocations,
        Task::Settings,
        Task::Certificates,
    ];

    /// What it is called in logs and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Task::Session => "session",
            Task::Open => "open",
            Task::Tick => "tick",
            Task::Connection => "connection",
            Task::Listener => "listener",
            Task::Admin => "admin",
            Task::NodeWriter => "node_writer",
            Task::Flush => "flush",
            Task::Refill => "refill",
            Task::LookUp => "look_up",
            Task::Probe => "probe",
            Task::Discovery => "discovery",
            Task::Keys => "keys",
            Task::Store => "store",
            Task::Revocations => "revocations",
            Task::Settings => "settings",
            Task::Certificates => "certificates",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_in_order_and_have_names_of_their_own() {
        for (index, task) in Task::ALL.iter().enumerate() {
            assert_eq!(*task as usize, index);
            let same = Task::ALL
                .iter()
                .filter(|other| other.label() == task.label());
            assert_eq!(same.count(), 1, "{task:?}");
        }
    }
}
