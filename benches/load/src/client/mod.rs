//! All sessions of a process: one thread, one poll.

mod activity;
mod reconnect;

use std::fs::File;
use std::io::{self, ErrorKind};
use std::mem;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use self::activity::Activity;
use self::reconnect::Reconnect;
use crate::counts::{Counts, count};
use crate::flags::{Flags, Protocol};
use crate::frame;
use crate::handshake::Requests;
use crate::probes::Probes;
use crate::progress::Status;
use crate::session::{Role, Session, Shared, Stage};
use crate::session_error::SessionError;
use crate::shard::{is_selected, spread};
use crate::socket::{Connector, Socket};
use crate::tls::Tls;
use crate::tokens::{SigningKey, Tokens};

/// Time from `connect` to an open session, after which the connection is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often handshakes are checked for that timeout. Each check goes over all sessions.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);

/// How often progress is reported.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

/// How much longer tokens are valid than the run lasts.
const TOKEN_TIME: Duration = Duration::from_secs(3600);

/// Size of the read buffer. Only the answers to large pulls do not fit.
const SCRATCH_BYTES: usize = 64 * 1024;

const EVENTS: usize = 4096;

/// Poll token of the file from which this process reads its commands.
const CONTROL: Token = Token(usize::MAX);

/// Called with the progress every 200 ms.
pub(crate) type Watch<'a> = &'a mut dyn FnMut(&Status) -> io::Result<()>;

/// All sessions of a process, on one thread with one poll.
#[derive(Debug)]
pub(crate) struct Client {
    poll: Poll,
    events: Events,
    /// Those of the burst are the last.
    sessions: Vec<Session>,
    /// How many are not of the burst.
    lasting: usize,
    /// Indexed like `sessions`.
    sockets: Vec<Option<Socket>>,
    connector: Connector,
    /// `None` for plain connections.
    tls: Option<Tls>,
    requests: Requests,
    request: Vec<u8>,
    scratch: Vec<u8>,
    shared: Shared,
    concurrency: usize,
    /// Handshakes in progress.
    handshakes: usize,
    /// Sessions that are open.
    open: usize,
    /// Numbers of the users who were connected at the start.
    users: Vec<u32>,
    /// Index of the first session among those of all processes.
    first_session: usize,
    sessions_per_user: usize,
    /// What sessions do beyond answering, once all are connected.
    activity: Activity,
    /// Those that wait until they connect again.
    reconnect: Reconnect,
    next_expiry: Instant,
    next_watch: Instant,
    /// Whether a command (or the end of input) can be read.
    command_ready: bool,
}

impl Client {
    /// Prepares everything that must not count in the measured time, above all the tokens.
    pub(crate) fn new(
        flags: &Flags,
        key: Option<&SigningKey>,
        tls: Option<Tls>,
    ) -> io::Result<Client> {
        let shard = flags.shard();
        let count = shard.share(flags.sessions.get());
        let first_session = shard.offset(flags.sessions.get());
        let burst = shard.share(flags.burst);
        let first_of_burst = flags.sessions.get() + shard.offset(flags.burst);
        let users = (first_session..first_session + count)
            .chain(first_of_burst..first_of_burst + burst)
            .map(|session| flags.user(session));
        let time = flags.settle + flags.duration;
        let tokens = match key {
            Some(key) => Tokens::mint(key, users, time + TOKEN_TIME).map_err(io::Error::other)?,
            None if flags.may_have_dev_mode() => Tokens::fetch(flags.connect, users, time)?,
            None => Tokens::default(),
        };
        let mut sessions = sessions(flags, count, first_session);
        sessions.extend((count..count + burst).map(|index| Session::new(index, Role::Burst)));
        let now = Instant::now();
        Ok(Client {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            sockets: sessions.iter().map(|_| None).collect(),
            lasting: count,
            connector: Connector::new(flags.connect),
            tls,
            requests: Requests::new(flags.protocol, flags.path(), flags.connect),
            request: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES],
            shared: Shared {
                protocol: flags.protocol,
                tokens,
                counts: Counts::default(),
                out: Vec::new(),
                origin: now,
                phase: now,
                pull_users: 0,
                pulls_answered: 0,
            },
            concurrency: shard.share(flags.concurrency.get()).max(1),
            handshakes: 0,
            open: 0,
            users: Vec::with_capacity(count),
            first_session,
            sessions_per_user: flags.sessions_per_user.get(),
            activity: Activity::new(flags, &sessions),
            reconnect: Reconnect::new(flags.reconnect),
            next_expiry: now,
            next_watch: now,
            command_ready: false,
            sessions,
        })
    }

    /// Watches a file for commands. When it becomes readable, [`Client::wait`] returns and a
    /// running phase ends with an error.
    pub(crate) fn watch_commands(&mut self, control: &File) -> io::Result<()> {
        let descriptor = control.as_raw_fd();
        let registry = self.poll.registry();
        registry.register(&mut SourceFd(&descriptor), CONTROL, Interest::READABLE)
    }

    /// Connects all sessions. An error is a fault of this machine, not of the server.
    pub(crate) fn connect(&mut self, watch: Watch<'_>) -> io::Result<Counts> {
        let started = self.begin_phase();
        let mut next = 0;
        while next < self.lasting || self.handshakes > 0 {
            while next < self.lasting && self.handshakes < self.concurrency {
                self.start_handshake(next)?;
                next += 1;
            }
            self.poll_until(self.next_watch)?;
            self.show(next, watch)?;
        }
        Ok(self.end_phase(started))
    }

    /// Begins all handshakes of the burst before it reads what comes of any, and closes its sessions when
    /// all are open or have failed. An error is a fault of this machine, not of the server.
    pub(crate) fn burst(&mut self, watch: Watch<'_>) -> io::Result<Counts> {
        let started = self.begin_phase();
        let burst = self.lasting..self.sessions.len();
        for index in burst.clone() {
            self.start_handshake(index)?;
        }
        while self.handshakes > 0 {
            self.poll_until(self.next_watch)?;
            self.show(burst.len(), watch)?;
        }
        for index in burst {
            self.leave(index);
        }
        Ok(self.end_phase(started))
    }

    /// Runs the load for `time`.
    pub(crate) fn run(&mut self, time: Duration, watch: Watch<'_>) -> io::Result<Counts> {
        let started = self.begin_phase();
        self.start(started);
        while started.elapsed() < time {
            self.run_due()?;
            self.poll_until(self.next_watch.min(started + time))?;
            self.show(self.lasting, watch)?;
        }
        Ok(self.end_phase(started))
    }

    /// Keeps the load running until a command can be read.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        while !mem::take(&mut self.command_ready) {
            self.run_due()?;
            self.poll_until(Instant::now() + EXPIRY_INTERVAL)?;
        }
        Ok(())
    }

    fn begin_phase(&mut self) -> Instant {
        let counts = &mut self.shared.counts;
        // Sessions that ended between two phases count in the next.
        let between = mem::take(counts);
        counts.lost = between.lost;
        counts.refused = between.refused;
        counts.connect_errors = between.connect_errors;
        self.shared.phase = Instant::now();
        self.shared.phase
    }

    fn end_phase(&mut self, started: Instant) -> Counts {
        let mut counts = mem::take(&mut self.shared.counts);
        counts.seconds = started.elapsed().as_secs_f64();
        counts.open = self.open as u64;
        counts
    }

    /// Whether a command (or the end of input) can be read.
    pub(crate) fn has_command(&self) -> bool {
        self.command_ready
    }

    /// Reports progress; an error if a command has interrupted the phase.
    fn show(&mut self, attempted: usize, watch: Watch<'_>) -> io::Result<()> {
        if self.command_ready {
            return Err(ErrorKind::Interrupted.into());
        }
        let now = Instant::now();
        if now < self.next_watch {
            return Ok(());
        }
        self.next_watch = now + WATCH_INTERVAL;
        watch(&Status::new(attempted, self.open, &self.shared.counts))
    }

    fn start_handshake(&mut self, index: usize) -> io::Result<()> {
        let session = &mut self.sessions[index];
        let token = match self.shared.protocol {
            Protocol::WebSocket => self.shared.tokens.get(index),
            // The token is sent later, with the packet that connects the namespace.
            Protocol::EngineIo => None,
        };
        self.request.clear();
        self.requests.put(&mut self.request, token);
        let interest = match session.role {
            Role::Flood => Interest::READABLE | Interest::WRITABLE,
            Role::Plain | Role::Unresponsive | Role::Burst => Interest::READABLE,
        };
        session.start_handshake(Instant::now());
        let probes = session.probes.is_some();
        self.handshakes += 1;
        let tls = self.tls.as_ref().map(Tls::connect).transpose()?;
        let registry = self.poll.registry();
        let started = self.connector.connect()?.and_then(|stream| {
            if probes {
                // Otherwise a ping would wait until the last pong has been acknowledged. Browsers
                // always set it; for sessions without pings we save the system call.
                stream.set_nodelay(true)?;
            }
            Socket::open(stream, tls, &self.request, registry, Token(index), interest)
        });
        match started {
            Ok(socket) => self.sockets[index] = Some(socket),
            Err(error) => self.fail(index, &error.into()),
        }
        Ok(())
    }

    /// Polls until `deadline` at the latest, and handles the events.
    fn poll_until(&mut self, deadline: Instant) -> io::Result<()> {
        let deadline = deadline.min(self.next_due()).min(self.next_expiry);
        let deadline = self
            .reconnect
            .next()
            .map_or(deadline, |next| deadline.min(next));
        let timeout = deadline.saturating_duration_since(Instant::now());
        let mut events = mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            polled => polled?,
        }
        for event in &events {
            match event.token() {
                CONTROL => self.command_ready = true,
                Token(index) => self.handle(index, event),
            }
        }
        self.events = events;
        let now = Instant::now();
        if now >= self.next_expiry {
            self.next_expiry = now + EXPIRY_INTERVAL;
            self.expire(now);
        }
        self.reconnect_due(now)
    }

    fn handle(&mut self, index: usize, event: &Event) {
        let Some(socket) = &mut self.sockets[index] else {
            return;
        };
        if event.is_writable() {
            match socket.flush() {
                Ok(_) => self.queue_flood(index),
                Err(error) => return self.fail(index, &error.into()),
            }
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(index);
        }
    }

    fn read(&mut self, index: usize) {
        while let Some(socket) = &mut self.sockets[index] {
            let registry = self.poll.registry();
            let count = match socket.read(&mut self.scratch, registry, Token(index)) {
                Ok(None) => return,
                Ok(Some(0)) => return self.fail(index, &SessionError::disconnected()),
                Ok(Some(count)) => count,
                Err(error) => return self.fail(index, &error),
            };
            let is_drained = socket.is_drained() && count < self.scratch.len();
            let session = &mut self.sessions[index];
            let before = session.stage;
            let received = session.receive(&self.scratch[..count], &mut self.shared);
            if before != Stage::Open && session.stage == Stage::Open {
                self.opened(index);
            }
            self.pull_again(index);
            let sent = self.send(index);
            if let Err(error) = received.and(sent) {
                return self.fail(index, &error);
            }
            if is_drained {
                return;
            }
        }
    }

    /// Sends what is in `shared.out`.
    fn send(&mut self, index: usize) -> Result<(), SessionError> {
        let out = &mut self.shared.out;
        if out.is_empty() {
            return Ok(());
        }
        let sent = match &mut self.sockets[index] {
            Some(socket) => socket.send(out, self.poll.registry(), Token(index)),
            None => Ok(()),
        };
        out.clear();
        Ok(sent?)
    }

    fn opened(&mut self, index: usize) {
        self.handshakes -= 1;
        self.open += 1;
        let tls = self.sockets[index].as_ref().and_then(Socket::tls_summary);
        if let Some(summary) = tls {
            count(&mut self.shared.counts.tls, &summary);
        }
        let session = self.first_session + index;
        // A user is counted once, by their first session.
        if !self.activity.is_started() && session.is_multiple_of(self.sessions_per_user) {
            self.users.push((session / self.sessions_per_user) as u32);
        }
        self.pull_first(index);
        self.queue_flood(index);
    }

    /// Closes a session that the server or the network ended, and counts it.
    fn fail(&mut self, index: usize, error: &SessionError) {
        let stage = self.close(index);
        if self.sessions[index].role == Role::Flood && self.activity.is_started() {
            return self.flood_failed(index, error);
        }
        let counts = &mut self.shared.counts;
        match (stage, error) {
            (Stage::Open, error) => count(&mut counts.lost, &error.close_code()),
            (_, SessionError::Refused(status)) => count(&mut counts.refused, status),
            (_, SessionError::Failed(kind)) => count(&mut counts.connect_errors, kind),
            (_, SessionError::Closed(code)) => {
                count(&mut counts.connect_errors, &format!("closed {code}"));
            }
        }
        self.come_back(index, stage);
    }

    /// Closes a session if it is open, and tells the server.
    fn leave(&mut self, index: usize) {
        if self.sessions[index].stage != Stage::Open {
            return;
        }
        if self.shared.protocol == Protocol::WebSocket {
            let normal = 1000u16.to_be_bytes();
            frame::put(&mut self.shared.out, frame::CLOSE, &normal);
        }
        // It is closed in any case.
        let _ = self.send(index);
        if let Some(socket) = &mut self.sockets[index] {
            let _ = socket.end();
        }
        self.close(index);
    }

    fn close(&mut self, index: usize) -> Stage {
        self.sockets[index] = None;
        let stage = self.sessions[index].reset();
        match stage {
            Stage::Disconnected => {}
            Stage::Upgrading | Stage::Namespace => self.handshakes -= 1,
            Stage::Open => self.open -= 1,
        }
        stage
    }

    fn expire(&mut self, now: Instant) {
        if self.handshakes == 0 {
            return;
        }
        for index in 0..self.sessions.len() {
            let session = &self.sessions[index];
            let is_handshaking = matches!(session.stage, Stage::Upgrading | Stage::Namespace);
            let late = |started| now.duration_since(started) > HANDSHAKE_TIMEOUT;
            if is_handshaking && session.handshake_started.is_some_and(late) {
                self.fail(index, &io::Error::from(ErrorKind::TimedOut).into());
            }
        }
    }
}

/// Assigns roles: the last sessions flood; unresponsive and pinging ones are spread over the rest.
fn sessions(flags: &Flags, count: usize, first_session: usize) -> Vec<Session> {
    let shard = flags.shard();
    let quiet = count - shard.share(flags.flood).min(count);
    let role = |index| match index {
        index if index >= quiet => Role::Flood,
        index if is_selected(first_session + index, flags.unresponsive) => Role::Unresponsive,
        _ => Role::Plain,
    };
    let mut sessions: Vec<_> = (0..count)
        .map(|index| Session::new(index, role(index)))
        .collect();
    if !flags.client_ping.is_zero() {
        let plain: Vec<_> = (0..quiet).filter(|&n| role(n) == Role::Plain).collect();
        let pinging = shard.share(flags.client_ping_sessions);
        for index in spread(&plain, pinging) {
            sessions[index].probes = Some(Box::<Probes>::default());
        }
    }
    sessions
}
