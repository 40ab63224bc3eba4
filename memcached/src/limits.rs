//! Every bound of the client that is not a setting, each with its unit in its name and its reason
//! beside it.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::ops::RangeInclusive;
use std::time::Duration;

use presenced_protocol::key::KEY_BYTES_MAX;
use presenced_protocol::limits::LINE_BYTES_MAX;

/// Most time without a reply from memcached while commands are in flight.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a connection to memcached must have held before the next pause starts from the
/// shortest again: a node that answers and then hangs up is not dialled without pause.
pub const STABLE_AFTER: Duration = Duration::from_secs(5);

/// Time for a connection to memcached to be made.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// First and longest pause between two tries to connect to memcached; the pause doubles in
/// between and each is drawn at random below its bound (full jitter).
pub const BACKOFF_MIN: Duration = Duration::from_millis(50);

/// See [`BACKOFF_MIN`]. Less than a flush interval, so that a restart is soon noticed.
pub const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Failures in a row after which a node is ejected, unless set otherwise: a node that is restarted
/// within a second stays.
pub const EJECT_AFTER: u32 = 5;

/// How long an ejected node must have answered its probe before it is back on the ring: at first,
/// and at most. It doubles with each ejection, as each moves all of the node's users to others and
/// back.
pub const READMIT_AFTER_MIN: Duration = Duration::from_secs(3);
/// See [`READMIT_AFTER_MIN`].
pub const READMIT_AFTER_MAX: Duration = Duration::from_secs(120);

/// Time between two looks of the probe, or a flush interval if that is shorter: a node that hangs
/// is known so soon, for one small exchange.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Longest answer to a probe, in bytes: memcached's `stats` has some 3 KiB, its `stats items` a KiB
/// for each of up to 63 classes. Bounds what a node that never ends it can make us read.
pub const PROBE_ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Longest file with a list of nodes, in bytes: as many as there may be, each with a long name and a comment.
pub const NODE_LIST_BYTES_MAX: usize = 1 << 20;

/// Longest file with a user and a password, in bytes: memcached takes 256 at most.
pub const CREDENTIALS_BYTES_MAX: usize = 4096;

/// Longest file with certificates, in bytes: those of all public authorities together are a quarter of a MiB.
pub const TLS_CA_BYTES_MAX: usize = 4 << 20;

/// Time between two resolutions of names, unless set otherwise.
pub const RESOLVE_INTERVAL: Duration = Duration::from_secs(10);

/// Lifetime of an entry, unless set otherwise.
pub const ENTRY_TTL: Duration = Duration::from_secs(60);

/// Time in which everyone heard from is written once, unless set otherwise.
pub const FLUSH_INTERVAL: Duration = Duration::from_secs(5);

/// How much sooner than needed a heartbeat is written when all is well, unless set otherwise: with
/// the usual times of pings.
pub const HEADROOM: Duration = Duration::from_secs(10);

/// How often a probe checks whether this process is late with what it owes to the node: a user who
/// has just connected may wait for half a second, and a reader may not believe for a second that
/// they are not there.
pub const LATE_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// How long a change of the ring waits for nodes to answer the renewal of their markers, at most. A
/// node that works answers within milliseconds, and one that has not answered for this long may be
/// down: whoever moves from a node that was ejected should not wait for another.
pub const TELLING_TIME_MAX: Duration = Duration::from_secs(1);

/// How long a node that has left the list is watched, at most, while other edges use it. They learn
/// of the change within seconds where they read the same list, and within minutes where a name is
/// cached.
pub const LEAVING_TIME: Duration = Duration::from_secs(300);

/// How long edges may take to learn of a change of the ring until one that has not is warned of.
pub const RING_CHANGE_TIME: Duration = Duration::from_secs(60);

/// Former rings of its own that a process remembers for that: a node that comes and goes makes two
/// each time.
pub const FORMER_RINGS_MAX: usize = 16;

/// Time between two warnings that another edge has another ring.
pub const OTHER_RING_PAUSE: Duration = Duration::from_secs(600);

/// Least time between two checks whether a connection leads to the server that the probe asks: each
/// takes a new connection.
pub const CHECK_PAUSE: Duration = Duration::from_secs(10);

/// Time between two warnings that a node is several servers.
pub const SEVERAL_SERVERS_PAUSE: Duration = Duration::from_secs(600);

/// How often in a row a node that answers may fail to answer `stats` until it is taken for a proxy
/// that has none.
pub const STATS_TRIES: u32 = 3;

/// Time until such a node is asked again, and the most until one is whose answer cannot be read.
pub const STATS_RETRY: Duration = Duration::from_secs(60);

/// Time until a node is asked again whose answer to `stats` could not be read, an endless one say:
/// at first. It doubles with each failure in a row, as each may take [`PROBE_ANSWER_BYTES_MAX`] to
/// read.
pub const STATS_RETRY_MIN: Duration = Duration::from_secs(1);

/// What an item takes in memcached beside its key and value, in bytes: its head, a CAS number, ends
/// of line, and 8 more for what versions differ in.
pub const ITEM_OVERHEAD_BYTES: RangeInclusive<u64> = 48..=72;

/// Time for one name to be resolved.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Time between two looks into `--memcached-file`: a read of a small file.
pub const NODE_FILE_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes of what a peer said that are quoted in the log: enough for memcached's longest messages.
pub const PEER_WORDS_BYTES_MAX: usize = 100;

/// When TCP itself asks an idle peer whether it is there, and again how often and how many times:
/// ends a connection that a firewall has forgotten.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);

/// See [`KEEPALIVE_IDLE`].
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// See [`KEEPALIVE_IDLE`].
pub const KEEPALIVE_PROBES: u32 = 3;

/// Entries of a shared log for which one `incr` makes numbers, and that are written or asked for at
/// once: a few dozen KiB, which sockets take before anybody reads.
pub const LOG_BATCH: usize = 64;

/// Most quiet commands before an `mn` that is answered: as many as are rendered at once. A node
/// that suddenly becomes slow is not given up while it serves so many in a [`REPLY_TIMEOUT`]. Its
/// answer is four bytes, which costs next to nothing beside 128 commands.
pub const QUIET_GROUP_MAX: usize = 128;

/// Most `set` commands in flight on a TCP connection: keeps the fastest memcached busy while
/// replies travel.
pub const WINDOW_TCP: usize = 8192;

/// The same on a Unix socket, whose buffers are smaller and whose replies come sooner.
pub const WINDOW_UNIX: usize = 1024;

/// Commands that may always be in flight on a connection, and with which each begins: a few turns
/// of memcached, which serves 20 of a connection before the next. With fewer, a slow memcached
/// would wait for us.
pub const WINDOW_MIN: usize = 64;

/// Commands by which the window grows with each round once it is about right: a piece as it is
/// rendered. Twenty clients that grow at once add 10 ms of a fast memcached.
pub const WINDOW_STEP: usize = 128;

/// How much longer than the way there and back replies may take before the window grows no more, if
/// nothing else is set; above twice as much it is halved. A user who connects waits so long behind
/// what is in flight, and a fast memcached answers a whole window in less.
pub const REPLY_TARGET: Duration = Duration::from_millis(50);

/// For how long, and up to twice as long, the least time is remembered in which replies have come:
/// the way to a node seldom becomes longer, and with nothing forgotten a connection would take it
/// for a slow node for ever.
pub const WAY_PERIOD: Duration = Duration::from_secs(300);

/// Bytes rendered before they are written: one system call for some hundred commands.
pub const WRITE_BYTES: usize = 64 * 1024;

/// Keys in one `get` command, beside the sentinel and the marker: a longer command gains nothing
/// and holds up memcached's others.
pub const KEYS_PER_GET_MAX: usize = 100;

/// Buffer of a connection that asks, in bytes; it has one only while a question is under way. One
/// command and one reply of ours must fit; more makes large foreign values pass in fewer reads.
pub const LOOKUP_BUFFER_BYTES: usize = 64 * 1024;

/// Longest answer to one command of a look-up, in bytes: as many foreign values of a MiB as it has
/// keys, and more. memcached may keep values of a GiB, and a peer that claims to have some keeps a
/// worker busy with them.
pub const LOOKUP_ANSWER_BYTES_MAX: usize = 128 * 1024 * 1024;

/// memcached nodes that a ring may have: a user's node is kept in one byte.
pub const NODES_MAX: usize = 255;

/// Heaviest weight of a memcached node: beyond it the lightest would have hardly a point on the
/// ring.
pub const WEIGHT_MAX: u32 = 10_000;

/// Time between two warnings that a node evicts or refuses entries.
pub const WARNING_PAUSE: Duration = Duration::from_secs(60);

/// Longest value that a look-up shows, in bytes; of a longer one it says only that there is one.
pub const VALUE_BYTES_MAX: usize = 4096;

/// Replies read by one system call: 8,000 `STORED`.
pub(crate) const READ_BYTES: usize = 64 * 1024;

const _: () = {
    assert!(WINDOW_MIN <= WINDOW_UNIX && WINDOW_UNIX <= WINDOW_TCP);
    // `get` and its keys, each behind a space; a line and a value.
    assert!((KEYS_PER_GET_MAX + 2) * (KEY_BYTES_MAX + 1) + "get\r\n".len() <= LOOKUP_BUFFER_BYTES);
    assert!(LINE_BYTES_MAX + VALUE_BYTES_MAX + "\r\n".len() < LOOKUP_BUFFER_BYTES);
    assert!((KEYS_PER_GET_MAX + 2) * (1 << 20) < LOOKUP_ANSWER_BYTES_MAX);
};

/// How long a pipe that a setting names is waited for in silence.
pub const PIPE_PATIENCE: Duration = Duration::from_secs(1);
