//! All sessions of a process: one thread, one poll.

mod activity;

use std::fs::File;
use std::io::{self, ErrorKind};
use std::mem;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use self::activity::Activity;
use crate::counts::{Counts, count};
use crate::end::End;
use crate::flags::{Flags, Protocol};
use crate::handshake::Requests;
use crate::part::{is_of_share, spread};
use crate::probes::Probes;
use crate::progress::Status;
use crate::session::{Role, Session, Shared, Stage};
use crate::socket::{Connector, Socket};
use crate::tokens::Tokens;

/// From `connect` to an open session; beyond it the connection is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often it is looked whether one has taken longer: each time all sessions are looked at.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);

/// How often whoever watches is told.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

/// How much longer than the run tokens are valid.
const TOKEN_TIME: Duration = Duration::from_secs(3600);

/// What one read may take; what one session says is less, but for the answers to large pulls.
const SCRATCH_BYTES: usize = 64 * 1024;

const EVENTS: usize = 4096;

/// Token of the file through which this process is told what to do.
const CONTROL: Token = Token(usize::MAX);

/// Is told how it goes, every 200 ms.
pub(crate) type Watch<'a> = &'a mut dyn FnMut(&Status) -> io::Result<()>;

/// All sessions of a process, on one thread with one poll.
#[derive(Debug)]
pub(crate) struct Client {
    poll: Poll,
    events: Events,
    sessions: Vec<Session>,
    /// By session.
    sockets: Vec<Option<Socket>>,
    connector: Connector,
    requests: Requests,
    request: Vec<u8>,
    scratch: Vec<u8>,
    shared: Shared,
    at_a_time: usize,
    /// Handshakes.
    under_way: usize,
    /// Sessions that are open.
    open: usize,
    /// Numbers of the users who were connected at the start.
    users: Vec<u32>,
    first_user: usize,
    /// What sessions do beyond answering, once all are connected.
    activity: Activity,
    next_expiry: Instant,
    next_watch: Instant,
    /// Whether the control file can be read.
    told: bool,
}

impl Client {
    /// Makes everything that can be made before the clock runs, tokens above all.
    pub(crate) fn new(flags: &Flags, secret: Option<&[u8]>) -> io::Result<Client> {
        let part = flags.part();
        let count = part.share(flags.sessions.get());
        let first_user = part.before(flags.sessions.get());
        let tokens = match secret {
            Some(secret) => {
                let users = first_user..first_user + count;
                let users = users.map(|user| format!("{}{user}", flags.user_prefix));
                let time = flags.settle + flags.duration + TOKEN_TIME;
                Tokens::mint(secret, users, time).map_err(io::Error::other)?
            }
            None => Tokens::default(),
        };
        let sessions = sessions(flags, count, first_user);
        let now = Instant::now();
        Ok(Client {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            sockets: (0..count).map(|_| None).collect(),
            connector: Connector::new(flags.connect),
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
            },
            at_a_time: part.share(flags.at_a_time.get()).max(1),
            under_way: 0,
            open: 0,
            users: Vec::with_capacity(count),
            first_user,
            activity: Activity::new(flags, &sessions),
            next_expiry: now,
            next_watch: now,
            told: false,
            sessions,
        })
    }

    /// Watches a file. When it can be read [`Client::wait`] returns, and a phase ends with an
    /// error.
    pub(crate) fn listen_to(&mut self, control: &File) -> io::Result<()> {
        let descriptor = control.as_raw_fd();
        let registry = self.poll.registry();
        registry.register(&mut SourceFd(&descriptor), CONTROL, Interest::READABLE)
    }

    /// Connects all sessions. An error is this machine's fault.
    pub(crate) fn connect(&mut self, watch: Watch<'_>) -> io::Result<Counts> {
        let begun = self.begin_phase();
        let mut next = 0;
        while next < self.sessions.len() || self.under_way > 0 {
            while next < self.sessions.len() && self.under_way < self.at_a_time {
                self.begin(next)?;
                next += 1;
            }
            self.step(self.next_watch)?;
            self.show(next, watch)?;
        }
        Ok(self.end_phase(begun))
    }

    /// Lets sessions do what they are there for, for `time`.
    pub(crate) fn run(&mut self, time: Duration, watch: Watch<'_>) -> io::Result<Counts> {
        let begun = self.begin_phase();
        self.start(begun);
        while begun.elapsed() < time {
            self.act()?;
            self.step(self.next_watch.min(begun + time))?;
            self.show(self.sessions.len(), watch)?;
        }
        Ok(self.end_phase(begun))
    }

    /// Goes on until the control file can be read.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        while !mem::take(&mut self.told) {
            self.act()?;
            self.step(Instant::now() + EXPIRY_INTERVAL)?;
        }
        Ok(())
    }

    fn begin_phase(&mut self) -> Instant {
        let counts = &mut self.shared.counts;
        // What ended between phases must not be forgotten.
        let between = mem::take(counts);
        counts.lost = between.lost;
        counts.refused = between.refused;
        counts.connect_errors = between.connect_errors;
        self.shared.phase = Instant::now();
        self.shared.phase
    }

    fn end_phase(&mut self, begun: Instant) -> Counts {
        let mut counts = mem::take(&mut self.shared.counts);
        counts.seconds = begun.elapsed().as_secs_f64();
        counts.open = self.open as u64;
        counts
    }

    /// Whether the control file can be read.
    pub(crate) fn is_told(&self) -> bool {
        self.told
    }

    /// Shows how it goes, and looks whether it is to go on.
    fn show(&mut self, tried: usize, watch: Watch<'_>) -> io::Result<()> {
        if self.told {
            return Err(ErrorKind::Interrupted.into());
        }
        let now = Instant::now();
        if now < self.next_watch {
            return Ok(());
        }
        self.next_watch = now + WATCH_INTERVAL;
        watch(&Status::new(tried, self.open, &self.shared.counts))
    }

    fn begin(&mut self, place: usize) -> io::Result<()> {
        let session = &mut self.sessions[place];
        let token = match self.shared.protocol {
            Protocol::WebSocket => self.shared.tokens.get(place),
            // It is told later, with the packet that connects.
            Protocol::EngineIo => None,
        };
        self.request.clear();
        self.requests.put(&mut self.request, token);
        let interest = match session.role {
            Role::Flood => Interest::READABLE | Interest::WRITABLE,
            Role::Plain | Role::Deaf => Interest::READABLE,
        };
        session.begin(Instant::now());
        let probes = session.probes.is_some();
        self.under_way += 1;
        let registry = self.poll.registry();
        let begun = self.connector.connect()?.and_then(|stream| {
            if probes {
                // Or a ping would wait until the last pong has been acknowledged. Browsers' sockets
                // have it always; here it would be a system call more for each session.
                stream.set_nodelay(true)?;
            }
            Socket::begin(stream, &self.request, registry, Token(place), interest)
        });
        match begun {
            Ok(socket) => self.sockets[place] = Some(socket),
            Err(error) => self.end(place, &error.into()),
        }
        Ok(())
    }

    /// Waits until `then`, or for something that happens, and deals with it.
    fn step(&mut self, then: Instant) -> io::Result<()> {
        let then = then.min(self.next_due()).min(self.next_expiry);
        let timeout = then.saturating_duration_since(Instant::now());
        let mut events = mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            polled => polled?,
        }
        for event in &events {
            match event.token() {
                CONTROL => self.told = true,
                Token(place) => self.ready(place, event),
            }
        }
        self.events = events;
        let now = Instant::now();
        if now >= self.next_expiry {
            self.next_expiry = now + EXPIRY_INTERVAL;
            self.expire(now);
        }
        Ok(())
    }

    fn ready(&mut self, place: usize, event: &Event) {
        let Some(socket) = &mut self.sockets[place] else {
            return;
        };
        if event.is_writable() {
            match socket.flush() {
                Ok(_) => self.may_flood(place),
                Err(error) => return self.end(place, &error.into()),
            }
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(place);
        }
    }

    fn read(&mut self, place: usize) {
        while let Some(socket) = &mut self.sockets[place] {
            let count = match socket.read(&mut self.scratch) {
                Ok(None) => return,
                Ok(Some(0)) => return self.end(place, &End::hung_up()),
                Ok(Some(count)) => count,
                Err(error) => return self.end(place, &error.into()),
            };
            let session = &mut self.sessions[place];
            let before = session.stage;
            let received = session.receive(&self.scratch[..count], &mut self.shared);
            if before != Stage::Open && session.stage == Stage::Open {
                self.opened(place);
            }
            let sent = self.send(place);
            if let Err(end) = received.and(sent) {
                return self.end(place, &end);
            }
            if count < self.scratch.len() {
                return;
            }
        }
    }

    /// Sends what the session has to say.
    fn send(&mut self, place: usize) -> Result<(), End> {
        let out = &mut self.shared.out;
        if out.is_empty() {
            return Ok(());
        }
        let sent = match &mut self.sockets[place] {
            Some(socket) => socket.send(out, self.poll.registry(), Token(place)),
            None => Ok(()),
        };
        out.clear();
        Ok(sent?)
    }

    fn opened(&mut self, place: usize) {
        self.under_way -= 1;
        self.open += 1;
        if !self.activity.is_started() {
            self.users.push((self.first_user + place) as u32);
        }
        self.may_flood(place);
    }

    /// The session has ended, and not because we wanted it to.
    fn end(&mut self, place: usize, end: &End) {
        let stage = self.close(place);
        if self.sessions[place].role == Role::Flood && self.activity.is_started() {
            return self.flood_ended(place, end);
        }
        let counts = &mut self.shared.counts;
        match (stage, end) {
            (Stage::Open, end) => count(&mut counts.lost, &end.code()),
            (_, End::Refused(status)) => count(&mut counts.refused, status),
            (_, End::Failed(kind)) => count(&mut counts.connect_errors, kind),
            (_, End::Closed(code)) => count(&mut counts.connect_errors, &format!("closed {code}")),
        }
    }

    fn close(&mut self, place: usize) -> Stage {
        self.sockets[place] = None;
        let stage = self.sessions[place].end();
        match stage {
            Stage::Away => {}
            Stage::Upgrading | Stage::Joining => self.under_way -= 1,
            Stage::Open => self.open -= 1,
        }
        stage
    }

    fn expire(&mut self, now: Instant) {
        if self.under_way == 0 {
            return;
        }
        for place in 0..self.sessions.len() {
            let session = &self.sessions[place];
            let is_under_way = matches!(session.stage, Stage::Upgrading | Stage::Joining);
            let late = |begun| now.duration_since(begun) > HANDSHAKE_TIMEOUT;
            if is_under_way && session.begun.is_some_and(late) {
                self.end(place, &io::Error::from(ErrorKind::TimedOut).into());
            }
        }
    }
}

/// Who does what: the last flood, the deaf and those that ping are spread over the others.
fn sessions(flags: &Flags, count: usize, first_user: usize) -> Vec<Session> {
    let part = flags.part();
    let quiet = count - part.share(flags.flood).min(count);
    let role = |place| match place {
        place if place >= quiet => Role::Flood,
        place if is_of_share(first_user + place, flags.deaf) => Role::Deaf,
        _ => Role::Plain,
    };
    let mut sessions: Vec<_> = (0..count)
        .map(|place| Session::new(place, role(place)))
        .collect();
    if !flags.client_ping.is_zero() {
        let plain: Vec<_> = (0..quiet).filter(|&n| role(n) == Role::Plain).collect();
        let probing = part.share(flags.client_ping_sessions);
        for place in spread(&plain, probing) {
            sessions[place].probes = Some(Box::<Probes>::default());
        }
    }
    sessions
}
