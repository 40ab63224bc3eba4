//! Every bound of sessions that is not a setting, each with its unit in its name and its reason
//! beside it.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

/// Time between two pings of a session, unless set otherwise: most proxies cut what is idle for 60
/// s.
pub const PING_INTERVAL: Duration = Duration::from_secs(25);

/// Time for the answer to a ping, unless set otherwise: a phone that changes networks has it.
pub const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a worker lets ready sessions gather, unless set otherwise: less CPU for as much more
/// latency, which nobody sees.
pub const COALESCE: Duration = Duration::from_millis(5);

/// Longest message (all its fragments) and longest frame from a client, in bytes, unless set
/// otherwise: a pull of 500 users with ids of 120 bytes fits.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// The most that `--max-message` may be, in bytes: a message is decoded in one piece, in some
/// milliseconds for this.
pub const MESSAGE_BYTES_CEILING: usize = 16 * 1024 * 1024;

/// Most fragments a message may come in (RFC 6455 §5.4 sets none): stops a message of empty
/// fragments that would never end.
pub const FRAGMENTS_MAX: usize = 1024;

/// Where longer messages are allowed, as many fragments as the longest has with this many bytes
/// each.
pub const FRAGMENT_BYTES_MIN: usize = 64;

/// How long a message or a frame may take to arrive whole, once it has begun. An honest client
/// sends its 128 KiB over 2G in that time.
pub const MESSAGE_TIME_MAX: Duration = Duration::from_secs(30);

/// The worker's read buffer in bytes. What one wake may take from one session, so it also bounds
/// how long a flooding session holds up the others.
pub const SCRATCH_BYTES: usize = 64 * 1024;

/// Most bytes kept for a client that does not read, unless set otherwise: the largest pull answer
/// and some pongs.
pub const OUTBOX_BYTES_MAX: usize = 512 * 1024;

/// Memory that a worker has in all for begun messages and for clients that do not read, in bytes.
/// Sessions that want more when it is used up end; without it the limits of each session would add
/// up to more than a machine has.
pub const REST_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Frames of any kind that a session may send in a second on average, unless set otherwise.
pub const FRAMES_PER_SECOND_MAX: u32 = 20;

/// So much time's worth of frames may come at once: a page that has just woken.
pub const FRAMES_BURST_TIME: Duration = Duration::from_secs(10);

/// What a malformed message costs more than another, in frames: at the usual rate a client may send
/// one a second for ever, and ten at once.
pub const MALFORMED_FRAMES: u32 = 19;

/// The most that any message may cost more than another, as time's worth of frames: where the rate
/// is low, a first one must not end a session.
pub const DEAR_TIME_MAX: Duration = Duration::from_secs(5);

/// A client is told that its session's time is over soon at a random moment, at least this long
/// before the end: enough to get a new token, and to try again a few times.
pub const EXPIRY_WARNING_MIN: Duration = Duration::from_secs(60);

/// And at most this long before it: a minute over which the clients of a fleet are spread.
pub const EXPIRY_WARNING_MAX: Duration = Duration::from_secs(120);

/// Sessions that a worker ends or warns in one tick because of their time: when a hundred thousand
/// tokens end in the same second, heartbeats are still heard in between.
pub const EXPIRIES_PER_TICK: usize = 1000;

/// Time by which a worker's wheel may fall behind the clock in all, before the worker looks at all
/// sessions for those whose time may be over meanwhile.
pub const EXPIRY_LAG_MAX: Duration = Duration::from_secs(10);

/// The most that `--ping-interval` may be: times of sessions are kept in 32 bits of µs, 71 minutes.
pub const PING_INTERVAL_MAX: Duration = Duration::from_secs(3600);

/// Close frame sent to TCP connection dropped: what the peer may take to answer (RFC 6455 §7.1.1).
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// The text of a close frame in bytes: what a control frame has room for beside the code (RFC 6455
/// §5.5).
pub const CLOSE_REASON_BYTES_MAX: usize = 123;

/// Time between two looks of the ping wheel.
pub const WHEEL_TICK: Duration = Duration::from_millis(10);

/// Most time the wheel makes up for in one turn after a stall: no burst of pings.
pub const WHEEL_CATCH_UP: Duration = Duration::from_millis(500);

/// Sessions that became ready, handed over by one `epoll_wait`.
pub const EVENTS_PER_POLL: usize = 1024;

/// Times that a worker asks the poll before it turns to its other work.
pub const POLLS_PER_LOOK: usize = 16;

/// New sessions that a worker takes at once, before it turns to its other work.
pub const OPENED_PER_TURN: usize = 64;

/// Orders and new sessions that wait for a worker; their senders wait too.
pub const WORKER_QUEUE: usize = 1024;

const _: () = assert!(MESSAGE_BYTES_MAX <= MESSAGE_BYTES_CEILING);
const _: () = assert!(2 * DEAR_TIME_MAX.as_secs() <= FRAMES_BURST_TIME.as_secs());
