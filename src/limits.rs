//! Every constant bound in one place, each with its unit in its name and its reason beside it.
//!
//! What an operator may want to change is a setting ([`crate::cli`]); what is here holds for
//! every deployment. Relations between the bounds are asserted when the crate is compiled.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::ops::RangeInclusive;
use std::time::Duration;

use presenced_memcached::limits::LEAVING_TIME;
use presenced_presence::limits::USER_ID_BYTES_MAX;
use presenced_session::limits::{
    MESSAGE_BYTES_CEILING, MESSAGE_BYTES_MAX, OUTBOX_BYTES_MAX, PING_INTERVAL_MAX,
};

/// How much more than a flush interval the headroom must be: two looks of the probe at a node, and
/// the second that memcached is exact to, before entries expire that could not be renewed.
pub const HEADROOM_SPARE: Duration = Duration::from_secs(5);

/// Most users that one pull may ask for: 500 entries of a screen, and one multi-get a node.
pub const PULL_USERS_MAX: usize = 500;

/// Longest body of an HTTP request, in bytes: the largest legal pull fits.
pub const BODY_BYTES_MAX: usize = 128 * 1024;

/// Pulls of one session that may be under way at once; a client sends the next after the answer.
pub const PULLS_PER_SESSION_MAX: u8 = 8;

/// Users a second whom one user may ask for, unless set otherwise: a screen of 50 every 50 ms, or all
/// 500 of a long list every half a second, on all devices together.
pub const PULL_USERS_PER_SECOND: u32 = 1000;

/// How long it is believed that a user is online, once that was looked up, unless set otherwise.
pub const PULL_CACHE: Duration = Duration::from_secs(1);

/// What it may be set to: zero is off; more would tell stale news for a gain that is not there.
pub const PULL_CACHE_TIMES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(10);

/// How long it is believed that a user is not online, at most: a user who connects to another server is
/// seen offline for as much longer.
pub const MISS_CACHE: Duration = Duration::from_millis(250);

/// What look-ups have said, as each worker keeps it, in bytes: of some 100,000 users.
pub const PULL_CACHE_BYTES_MAX: usize = 16 << 20;

/// Time from a pull to its answer, at most. Users of whom nothing is known by then are `unknown`.
pub const PULL_TIMEOUT: Duration = Duration::from_secs(1);

/// Users of pulls without an answer in one worker, at most: what memcached answers within a quarter of
/// a second, and what they take in memory (some 10 MB, with long ids 50). Beyond it the pull that was
/// asked last by whoever waits for most users at a node is refused as `overloaded`.
pub const OPEN_USERS_MAX: usize = 200_000;

/// Users of pulls without an answer, of one worker, from which on a session that waits for a pull is
/// refused another one unread: to read the users of a pull costs ten times as much as to look past
/// them, and what is read may be refused all the same.
pub const CROWDED_USERS: usize = OPEN_USERS_MAX / 2;

/// Users whom one node is asked for in one go: some ten commands in flight, and a millisecond of
/// memcached's. More gains nothing, and holds up whoever asks next.
pub const ROUND_USERS_MAX: usize = 1000;

/// Users of one asker in one go, before it is another's turn.
pub const TURN_USERS: usize = 100;

/// From accept to the first byte; from the first byte of each request to the end of its head; from
/// there to the answer; and for writing that.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// From a handshake without a token to the end of the first message, which must be the token: as long as
/// a request may take.
pub const FIRST_MESSAGE_TIME: Duration = HANDSHAKE_TIMEOUT;

/// What may come up to the end of that message beside the token, in bytes: the JSON around it, and the
/// heads of its fragments, if these are not tiny, with some pings between them.
pub const FIRST_MESSAGE_OTHER_BYTES: usize = 1024;

/// Head of an HTTP request in bytes, unless set otherwise: cookies of the page's own site and what
/// proxies add come with each. A connection takes as much only while such a head is read.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;

/// What `--max-head` may be, in bytes: a long path, a token and a browser's headers must fit.
pub const MAX_HEAD_BYTES: RangeInclusive<u64> = 16 * 1024..=1 << 20;

/// Longest line of the PROXY protocol's version 1 in bytes, its end included (its specification,
/// §2.1).
pub const PROXY_V1_BYTES_MAX: usize = 107;

/// Longest header of its version 2 in bytes: the addresses of Unix sockets, and a certificate's
/// names and more behind them. The specification allows 64 KiB, which no proxy sends, and which
/// each connection could have us keep.
pub const PROXY_V2_BYTES_MAX: usize = 4096;

/// Header fields in a request: browsers behind proxies send some thirty.
pub const HEADERS_MAX: usize = 64;

/// HTTP connections (handshakes and requests) that there are at once for each worker, unless set
/// otherwise. Bounds the memory a burst takes: some 10 KiB each while it lasts, and as much as a
/// head may have where heads are that long.
pub const HTTP_CONNECTIONS_MAX: usize = 512;

/// Which part of them one address (IPv6: one /64) may have, so that one peer can not take them
/// all; no less, as a reverse proxy is one address.
pub const HTTP_CONNECTIONS_PEER_SHARE: usize = 2;

/// How long a connection must be idle until it may be closed for another: a proxy that has just
/// opened one is about to use it, even on a machine that is busy.
pub const IDLE_MIN: Duration = Duration::from_millis(500);

/// How long the rest of a request, or the taking of an answer, may be awaited until the connection
/// may be closed for another: where places are scarce, a peer that needs longer has to come again.
pub const AWAITED_MIN: Duration = Duration::from_secs(1);

/// Connections of a listener that may wait for a place, if there are descriptors enough: what a
/// burst through one proxy opens at once. Each worker has a listener for each `--listen`.
pub const LOBBY_MAX: usize = 1024;

/// Peers that share a full lobby, at least, when it is a crowd's, as after a restart, and nobody's fault. Then those who come
/// wait in the kernel's queue, for as long as [`AWAITED_MIN`].
pub const CROWD_PEERS_MIN: usize = 16;

/// How long they wait: some hundred times as long as a request takes, and longer than [`IDLE_MIN`]
/// and [`AWAITED_MIN`], so that a place that somebody has held for long enough is found.
pub const LOBBY_TIME: Duration = Duration::from_secs(2);

/// Time between two looks whether there are places for them.
pub const LOBBY_LOOK: Duration = Duration::from_millis(10);

/// Connections of held polls that one `epoll_wait` hands over.
pub const HELD_POLLS_PER_LOOK: usize = 64;

/// Connections of a listener for which there is no place, and that are told so: what is beyond is
/// closed without waiting until the answer is read. For each worker as many more may be about to
/// leave for others. Together they are a quarter of the places; where descriptors are few, all of
/// these are fewer.
pub const TURNED_AWAY_MAX: usize = 64;

/// What may come at once of what has a rate, as the time in which so much may come on average: clients
/// that connect again after a moment's trouble do so within seconds.
pub const RATE_BURST_TIME: Duration = Duration::from_secs(10);

/// Handshakes of one user a second, unless set otherwise: more than all devices of a person ever
/// need, and few enough that a client which connects again and again without a pause costs nobody
/// anything.
pub const HANDSHAKES_PER_SECOND_PER_USER: u32 = 50;

/// Addresses, or users, whose handshakes or pulls are counted at once: one that is quiet is forgotten.
/// Each takes some 20 bytes.
pub const RATED_MAX: usize = 1 << 16;

/// Time between two warnings of one kind that connections, handshakes or sessions are refused.
pub const REFUSALS_LOG_PAUSE: Duration = Duration::from_secs(60);

/// Path and query of a request in bytes: a little more than every server should take (RFC 9112 §3).
/// Longer questions are for POST.
pub const URI_BYTES_MAX: usize = 8 * 1024;

/// The line of a request in bytes: the method and the version beside the URI.
pub const LINE_BYTES_MAX: usize = URI_BYTES_MAX + 64;

/// Names of headers that a page of an allowed origin is told it may send, in bytes: what tracing
/// adds is some hundreds.
pub const ALLOWED_HEADERS_BYTES_MAX: usize = 1024;

/// When a client that is refused for lack of room may come again, in seconds: long enough for a
/// drain or a burst to be over.
pub const RETRY_S: u32 = 5;

/// Handshakes of a worker that are accepted only to be closed with the reason, and whose clients
/// have not hung up yet; further ones are refused over HTTP. They are no HTTP connections any more,
/// and have descriptors beside those: an eighth as many.
pub const REFUSED_SESSIONS_MAX: usize = 64;

/// What a peer that is given up may send before it hangs up, in bytes: an upload of a few MiB that
/// is refused is heard out, since many clients read no answer once they cannot write.
pub const PARTING_BYTES_MAX: usize = 8 << 20;

/// How long a peer whose request is refused unread has to hang up.
pub const PARTING_TIME: Duration = Duration::from_secs(1);

/// How long a client may take to read the answer to a poll that it has waited for.
pub const ANSWER_TIME: Duration = HANDSHAKE_TIMEOUT;

/// What the kernel may hold of a client's connection each way, in bytes; Linux doubles it for its
/// own overhead. Unbounded, each client that does not read made it hold 4 MiB. With half of this
/// the largest answer to a pull takes 2.6 ms over loopback, where the peer's delayed
/// acknowledgement is waited for, and with this 0.03 ms, as it does unbounded.
pub const SOCKET_BUFFER_BYTES: usize = 64 * 1024;

/// Connections that the admin listener serves at once: scrapers and probes are few.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;

/// Longest token in bytes if nothing else is set, looked at before anything is decoded: some
/// providers write a user's groups into it.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// What that may be set to. It is less than the longest head.
pub const MAX_TOKEN_BYTES: RangeInclusive<u64> = 1024..=512 * 1024;

/// Bytes of a head beside its first line and the token: what browsers and proxies send.
pub const OTHER_HEADER_BYTES: usize = 4 * 1024;

/// Issuers in a settings file, at most: each may have keys that are fetched, by a task of its own.
pub const ISSUERS_MAX: usize = 32;

/// Keys of one issuer, at most: a token without a `kid` may have to be tried with each.
pub const KEYS_MAX: usize = 100;

/// How often the files are looked at that settings come from.
pub const SETTINGS_INTERVAL: Duration = Duration::from_secs(1);

/// How long a file must stay as it is before it is read: one that is being written is another at the next look.
pub const SETTINGS_SETTLE: Duration = Duration::from_secs(1);

/// Time between two reloads: signals that come in between are one.
pub const RELOAD_PAUSE: Duration = Duration::from_secs(1);

/// After what time it is said that files of settings can't be read, such as those of a network that is away.
pub const RELOAD_READ_TIME: Duration = Duration::from_secs(10);

/// How long settings wait for the keys of a provider that was not asked before: as long as one answer of it may take.
pub const NEW_KEYS_WAIT: Duration = KEYS_FETCH_TIMEOUT;

/// Issuers that sessions can tell apart while the server runs, at most: settings may name others again and again, and
/// all names are remembered.
pub const ISSUER_NAMES_MAX: usize = 1024;

/// A file with a chain of certificates or a private key in bytes, at most: a chain of ten with the longest keys has 40 kB.
pub const TLS_FILE_BYTES_MAX: usize = 1 << 18;

/// Certificates that clients may be shown, at most: each reload reads them all, and signs something with each key.
pub const TLS_PAIRS_MAX: usize = 256;

/// How long before its end a certificate is warned of, once a day: what renews certificates does so a month before, and
/// there must be time to see why it has not.
pub const CERTIFICATE_EXPIRES_SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// The part of its time that must be left of a certificate which is valid for a few weeks or days, or it is warned of: what
/// renews it does so when a third is left.
pub const CERTIFICATE_TIME_LEFT: u32 = 4;

/// How often it is looked whether that is to be said.
pub const CERTIFICATES_INTERVAL: Duration = Duration::from_secs(60);

/// A file with public keys in bytes, at most: a hundred of the longest.
pub const KEY_FILE_BYTES_MAX: usize = 1 << 20;

/// Longest settings file in bytes: all settings with their reasons beside them take a tenth of it.
pub const SETTINGS_FILE_BYTES_MAX: usize = 256 * 1024;

/// Shortest HMAC secret in bytes (RFC 7518 §3.2).
pub const SECRET_BYTES_MIN: usize = 32;

/// Longest HMAC secret file in bytes: more is not a secret but a mistake.
pub const SECRET_BYTES_MAX: usize = 4096;

/// Revocations that are known at once, and entries that are read of their log: some 200 bytes each
/// as a rule. Signing out more users than this one by one is a matter for one revocation of all.
pub const REVOCATIONS_MAX: usize = 100_000;

/// Longest `jti` of a token that can be revoked by it, in bytes: a UUID has 36.
pub const JTI_BYTES_MAX: usize = 256;

/// How long a revocation lasts at most: memcached takes a longer TTL for a date (protocol.txt,
/// "Expiration times").
pub const REVOCATION_TIME_MAX: Duration = Duration::from_secs(30 * 86_400);

/// Body of a request that revokes tokens, in bytes: a user and a `jti`, with escapes.
pub const REVOCATION_BODY_BYTES_MAX: usize = 4096;

/// Most time between two looks at the log of revocations, where a flush interval is longer: a user
/// who is signed out should not have to wait for it.
pub const REVOCATIONS_LOOK_MAX: Duration = Duration::from_secs(5);

/// Time between two looks until the log has been read for the first time.
pub const REVOCATIONS_START_LOOK: Duration = Duration::from_millis(50);

/// How long a starting server that reaches some memcached node waits until it has read the log of
/// revocations: the node that has it may be the one that is away for hours.
pub const REVOCATIONS_START_TIME: Duration = Duration::from_secs(10);

/// Time between two readings of the whole log, which find entries that memcached has dropped.
pub const REVOCATIONS_CHECK_INTERVAL: Duration = Duration::from_secs(600);

/// How long an entry may be missing whose number was given: connecting and writing take up to three
/// seconds, unless memcached's time-outs are set longer.
pub const REVOCATION_GAP_AFTER: Duration = Duration::from_secs(5);

/// How long an operator waits for memcached's answer. Then the revocation is written later.
pub const REVOCATION_WRITE_TIME: Duration = Duration::from_secs(5);

/// How far ahead a run of the log may have begun, in seconds: what clocks may differ. Numbers that
/// are greater are nobody's.
pub const RUN_AHEAD_MAX_S: u64 = 86_400;

/// Revocations that wait for the log: as many as there are connections that may ask for one.
pub const REVOCATIONS_POSTED_MAX: usize = ADMIN_CONNECTIONS_MAX;

/// Time between two steps while everybody's sessions are ended.
pub const REVOKED_SESSIONS_LOOK: Duration = Duration::from_millis(50);

/// Lifetime of a token that dev mode hands to its demo page.
pub const DEV_TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

/// Time for one answer of an identity provider, from the look-up of its name to the last byte.
pub const KEYS_FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest answer of an identity provider in bytes: a hundred RSA keys with their certificates fit.
pub const KEYS_BODY_BYTES_MAX: usize = 1 << 20;

/// Longest head of such an answer in bytes, and how many lines it may have: cookies and policies of
/// a provider's site come with each.
pub const KEYS_HEAD_BYTES_MAX: usize = 64 * 1024;
/// See [`KEYS_HEAD_BYTES_MAX`].
pub const KEYS_HEADERS_MAX: usize = 128;

/// How much of an identity provider's words is repeated in the log, in bytes.
pub const KEYS_WORDS_BYTES_MAX: usize = 100;

/// Time until the keys of an identity provider are fetched again, if it does not say for how long
/// they are good: a key that it withdraws is good for so much longer.
pub const KEYS_REFRESH: Duration = Duration::from_secs(300);

/// The least of what it may say: a provider that says zero is not asked without a pause.
pub const KEYS_REFRESH_MIN: Duration = Duration::from_secs(60);

/// The most of what it may say: a key that is withdrawn is not believed for a day.
pub const KEYS_REFRESH_MAX: Duration = Duration::from_secs(3600);

/// First and longest time until keys are fetched again after that has failed; it doubles in between.
pub const KEYS_RETRY_MIN: Duration = Duration::from_secs(1);
/// See [`KEYS_RETRY_MIN`].
pub const KEYS_RETRY_MAX: Duration = Duration::from_secs(60);

/// Time between two fetches that tokens with unknown keys cause: anyone can send such a token.
pub const KEYS_ASK_PAUSE: Duration = Duration::from_secs(60);

/// How long a request with such a token waits for a fetch: most take a few hundred milliseconds.
pub const KEYS_WAIT: Duration = Duration::from_secs(2);

/// Requests that wait so at once, a quarter of a worker's HTTP connections: they keep others out
/// meanwhile.
pub const KEYS_WAITERS_MAX: usize = HTTP_CONNECTIONS_MAX / 4;

/// Most time that a round of look-ups may take at one node, asking again on a new connection
/// included: also where values are much longer than ours, or an answer comes byte by byte.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// How old a miss may be when it is told: a user who has come in the meantime would be called
/// offline.
pub const MISS_AGE_MAX: Duration = Duration::from_secs(1);

/// How long look-ups must have missed the probe's sentinel until they are known to lead to another
/// server: a loss is noticed, and the sentinel there again, within a look or two.
pub const ELSEWHERE_AFTER: Duration = Duration::from_secs(5);

/// Tasks that a worker runs before it looks again which sockets are ready and which timers are due.
/// When many connect, a task serves a hundred of them, and with tokio's 61 what waits meanwhile
/// takes memory that stays: 5 B a session.
pub const EVENT_INTERVAL: u32 = 8;

/// Connections that a listener lets in before the other tasks of its worker have their turn: less than a millisecond
/// of handshakes.
pub const LET_IN_PER_TURN: usize = 8;

/// Records that wait because a peer does not read, while it still sends. They answer key updates: a few are usual.
pub const UNSENT_RECORDS_BYTES_MAX: usize = 64 * 1024;

/// Records that wait for the next one, to be sent together with it. That is the ticket of a handshake, which would take a
/// system call of its own, and a packet.
pub const SENT_TOGETHER_BYTES_MAX: usize = 1024;

/// Records of TLS without data that a connection may bring while it is no session. Clients send none, or a key update now
/// and then; each costs more than its bytes.
pub const IDLE_RECORDS_MAX: u32 = 200;

/// TLS handshakes that a worker computes before its other tasks have their turn: one to two milliseconds of them.
pub const TLS_HANDSHAKES_PER_TURN: usize = 8;

/// Longest `--server-id` in bytes: it is in every value.
pub const SERVER_ID_BYTES_MAX: usize = 128;

/// What a message that renews a session costs more than another, in frames: its token is checked,
/// which takes as long as some messages do, and a session needs one in an hour.
pub const RENEWAL_FRAMES: u32 = 9;

/// Connections to the embedded store that are left for others than this server, at least.
pub const STORE_CONNECTIONS_MIN: usize = 16;

/// More descriptors than any kernel gives to a process: what is not limited is taken for this.
pub const DESCRIPTORS_MAX: usize = 1 << 31;

/// Descriptors for HTTP connections that are worth a quarter of all; beyond, a sixteenth is enough.
pub const HTTP_DESCRIPTORS_MIN: usize = 1024;

/// Nodes that descriptors are kept for beyond those listed at start.
pub const NODES_TO_COME: usize = 8;

/// How long a stopping server waits for its last flush before it begins to close sessions: several
/// million users are written in that time. A node that does not answer is given up after
/// memcached's time-out, so only one that is too slow takes all of it.
pub const LAST_FLUSH_TIME_MAX: Duration = Duration::from_secs(10);

/// What `--ttl` may be: memcached takes a longer one for a date (protocol.txt, "Expiration times").
pub const TTL: RangeInclusive<Duration> = seconds(1, 30 * 86_400);

/// What `--flush-interval` may be: a shorter one costs more than it brings, and the TTL must
/// outlast two of them.
pub const FLUSH_INTERVAL: RangeInclusive<Duration> = milliseconds(100, 3_600_000);

/// What `--ping-interval` may be: twice the shortest time for an answer at least.
pub const PING_INTERVAL: RangeInclusive<Duration> =
    RangeInclusive::new(Duration::from_millis(200), PING_INTERVAL_MAX);

/// What `--ping-timeout` may be: a round trip between continents takes longer than anything less.
pub const PING_TIMEOUT: RangeInclusive<Duration> =
    RangeInclusive::new(Duration::from_millis(100), PING_INTERVAL_MAX);

/// What `--socketio-connect-timeout` may be: as long as a slow phone needs at least, and no longer than the reference
/// server waits by default.
pub const SOCKETIO_CONNECT_TIMEOUT: RangeInclusive<Duration> = seconds(1, 45);

/// What `--socketio-upgrade-timeout` may be, for the same reasons.
pub const SOCKETIO_UPGRADE_TIMEOUT: RangeInclusive<Duration> = seconds(1, 45);

/// What `--coalesce` may be: a pull that waits longer is felt by people.
pub const COALESCE: RangeInclusive<Duration> = milliseconds(0, 100);

/// What `--jwt-max-lifetime` may be: a token that is valid for longer might as well not expire.
pub const TOKEN_LIFETIME: RangeInclusive<Duration> = seconds(1, 10 * YEAR_S);

/// How far the clocks of servers may be off when they tell each other of revocations.
pub const CLOCK_DIFFERENCE: Duration = Duration::from_secs(5);

/// `--jwt-leeway`.
pub const TOKEN_LEEWAY: RangeInclusive<Duration> = seconds(0, 300);

/// From SIGTERM to the drain, unless set otherwise: two looks of a balancer that looks every two
/// seconds.
pub const DRAIN_DELAY: Duration = Duration::from_secs(5);

/// What `--drain` and `--drain-delay` may be: an operator who wants a server to stop does not wait
/// longer.
pub const DRAIN: RangeInclusive<Duration> = seconds(0, 3600);

/// What `--http-keep-alive` may be: a client that sends its next request at once needs no more than
/// the least, and idle connections for longer than the most are of no use to anybody.
pub const HTTP_KEEP_ALIVE: RangeInclusive<Duration> = seconds(1, 3600);

/// What `--resolve-interval` may be: name servers are asked no more often than ten times a second.
/// A node that a name has left is watched for those that have not learned of it ([`LEAVING_TIME`]):
/// half of that is left for caches of names.
pub const RESOLVE_INTERVAL: RangeInclusive<Duration> =
    milliseconds(100, LEAVING_TIME.as_millis() as u64 / 2);

/// What memcached's time-outs may be: longer than a round trip, and short enough to notice a fault.
pub const REPLY_TIMEOUT: RangeInclusive<Duration> = milliseconds(10, 60_000);

/// What `--idle-timeout` of the store may be: `stats settings` shows it in whole seconds, and a
/// longer one might as well not be set.
pub const IDLE_TIMEOUT: RangeInclusive<Duration> = seconds(1, 10 * YEAR_S);

/// Seconds of a year, as the flags' durations have it: 365.25 days.
const YEAR_S: u64 = 31_557_600;

const fn seconds(least: u64, most: u64) -> RangeInclusive<Duration> {
    RangeInclusive::new(Duration::from_secs(least), Duration::from_secs(most))
}

const fn milliseconds(least: u64, most: u64) -> RangeInclusive<Duration> {
    RangeInclusive::new(Duration::from_millis(least), Duration::from_millis(most))
}

/// Memory of a store in bytes: from a few of the largest values to more than any machine has, which
/// is a slip of the unit.
pub const STORE_MEMORY_BYTES: RangeInclusive<u64> = 4 << 20..=64 << 40;

/// Memory of a store in bytes, unless set otherwise: memcached's own default.
pub const STORE_MEMORY_BYTES_DEFAULT: u64 = 64 << 20;

/// What `--max-message` may be, in bytes: a pull of some users must fit.
pub const MAX_MESSAGE_BYTES: RangeInclusive<u64> = 1024..=MESSAGE_BYTES_CEILING as u64;

/// What `--max-outbox` may be, in bytes: the answer to a pull of a screen must fit.
pub const MAX_OUTBOX_BYTES: RangeInclusive<u64> = 16 * 1024..=MESSAGE_BYTES_CEILING as u64;

/// How long past the drain's time and memcached's time-out a session is kept while a `set` of its
/// user may be under way: a connection that is given up is seen to be with some delay.
pub const DRAIN_SLACK: Duration = Duration::from_secs(1);

/// Descriptors that a thread needs beside connections: its polls, timers, listener, log.
pub const DESCRIPTORS_PER_THREAD: usize = 16;

/// Characters of a hash that stands for a user in the log: 96 bits, so that no two of any number of
/// users have the same.
pub const HASHED_USER_CHARS: usize = 16;

/// Lines of the log that wait to be written, so long as none is longer than [`LOG_LINE_BYTES`]:
/// what all sessions of a small server say when they end at once. With that the memory is bounded,
/// by 4 MiB.
pub const LOG_LINES_MAX: usize = 4096;

/// A longer line, in bytes, counts as several; most have a tenth of this.
pub const LOG_LINE_BYTES: usize = 1024;

/// How long the end of the process waits for what it has said last to be written. On a busy machine
/// the thread that writes may have to wait for a core for some hundred milliseconds.
pub const LOG_FLUSH_TIME: Duration = Duration::from_secs(1);

/// Time between two looks whether it is.
pub const LOG_FLUSH_LOOK: Duration = Duration::from_millis(1);

/// Time between two tries to write to a stream that is full and does not block.
pub const LOG_RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Time between two looks at a connection's deadline.
pub(crate) const DEADLINE_LOOK: Duration = Duration::from_secs(1);

/// What is read at once.
pub(crate) const HEAD_READ_BYTES: usize = 4096;

const _: () = {
    // A pull of the longest ids, quoted and separated, fits a body, and one of long ids a message.
    assert!(PULL_USERS_MAX * (USER_ID_BYTES_MAX + 3) + 64 <= BODY_BYTES_MAX);
    assert!(PULL_USERS_MAX * (120 + 3) + 64 <= MESSAGE_BYTES_MAX);
    // Its answer (ids that need escapes are rare but twice as long) fits the outbox.
    assert!(PULL_USERS_MAX * (2 * USER_ID_BYTES_MAX + 64) <= OUTBOX_BYTES_MAX);
    assert!(LINE_BYTES_MAX + TOKEN_BYTES_MAX + OTHER_HEADER_BYTES < HEAD_BYTES_MAX);
    assert!(LINE_BYTES_MAX + 1024 + OTHER_HEADER_BYTES < *MAX_HEAD_BYTES.start() as usize);
    // A token in JSON fits a message.
    assert!(TOKEN_BYTES_MAX + 64 <= MESSAGE_BYTES_MAX);
    assert!(2 * IDLE_MIN.as_millis() < LOBBY_TIME.as_millis());
    assert!(AWAITED_MIN.as_millis() < LOBBY_TIME.as_millis());
    // What a request has waited for can still be answered.
    assert!(KEYS_WAIT.as_millis() < HANDSHAKE_TIMEOUT.as_millis());
};

/// What a session takes in the process, in bytes, its user included, where nothing else was measured: as with 666,666 of
/// them (benches/README.md).
pub const SESSION_PROCESS_BYTES: u64 = 130;

/// What it takes more with TLS, in bytes (`make compare TLS=1`).
pub const TLS_SESSION_PROCESS_BYTES: u64 = 290;

/// CPU time that TLS takes for a ping and its pong more, among many sessions (`cargo bench --bench tls`).
pub const TLS_HEARTBEAT_TIME: Duration = Duration::from_nanos(1600);

/// What its socket takes in the kernel, in bytes.
pub const SESSION_KERNEL_BYTES: u64 = 4200;

/// CPU time of a ping and its pong, and its part of a flush.
pub const HEARTBEAT_TIME: Duration = Duration::from_micros(30);

/// What a user takes in the embedded store, in bytes (docs/why-memcached.md).
pub const STORE_BYTES_PER_USER: u64 = 147;

/// The part of the cores that heartbeats may take: the rest is for pulls, and for handshakes when many clients come back
/// at once.
pub const CPU_SHARE: f64 = 0.7;

/// The part of the memory that sessions may take: the rest is for answers that clients do not read, and for handshakes.
pub const MEMORY_SHARE: f64 = 0.8;

/// Sessions with which `presenced capacity` measures: enough to tell their memory from everything else's, and to be open
/// within a second or two.
pub const PROBE_SESSIONS: u32 = 10_000;

/// The most of them: all come from one address, which has some 28,000 ports.
pub const PROBE_SESSIONS_MAX: u32 = 20_000;
