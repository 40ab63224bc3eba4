//! What sessions do beyond answering pings: pull, ping, reconnect, flood.

use std::collections::VecDeque;
use std::time::{Duration, Instant};
use std::{io, mem};

use crate::client::Client;
use crate::counts::count;
use crate::flags::{Flags, Protocol};
use crate::pace::Pace;
use crate::pull::PullEncoder;
use crate::session::{Role, Session, Stage};
use crate::session_error::SessionError;
use crate::{engine_io, frame};

/// Delay before a closed flooding session reconnects.
const FLOOD_RECONNECT_DELAY: Duration = Duration::from_millis(100);

/// About how many bytes a flooding session writes at a time.
const FLOOD_BYTES: usize = 32 * 1024;

/// What sessions do beyond answering pings.
#[derive(Debug)]
pub(super) struct Activity {
    pull_every: Option<Duration>,
    heartbeat_every: Duration,
    churn: usize,
    client_ping: Duration,
    /// Sessions that send pings.
    pinging: Vec<usize>,
    paces: Option<Paces>,
    pulls: PullEncoder,
    flood: Flood,
}

/// When the next event of each kind is due, and whose turn it is. `None` for what is never done.
#[derive(Debug)]
struct Paces {
    pull: Option<Pace>,
    next_pull: usize,
    heartbeat: Option<Pace>,
    next_heartbeat: usize,
    probe: Option<Pace>,
    next_probe: usize,
    churn: Option<Pace>,
    next_churn: usize,
}

#[derive(Debug)]
struct Flood {
    /// Many frames of `frame_bytes` each.
    frames: Vec<u8>,
    frame_bytes: usize,
    /// Sessions whose sockets may accept more.
    writable: Vec<usize>,
    /// Sessions to reconnect, and when. In order of time, as the delay is the same for all.
    reconnects: VecDeque<(Instant, usize)>,
}

impl Activity {
    pub(super) fn new(flags: &Flags, sessions: &[Session]) -> Activity {
        let pinging = sessions.iter().filter(|session| session.probes.is_some());
        Activity {
            pull_every: flags.pull_every,
            heartbeat_every: flags.heartbeat_every,
            churn: flags.shard().share(flags.churn),
            client_ping: flags.client_ping,
            pinging: pinging.map(|session| session.index).collect(),
            paces: None,
            pulls: PullEncoder::new(flags),
            flood: Flood::new(flags.protocol),
        }
    }

    pub(super) fn is_started(&self) -> bool {
        self.paces.is_some()
    }

    /// Whether sessions pull now, each as soon as its last pull is answered.
    fn pulls_back_to_back(&self) -> bool {
        self.is_started() && self.pull_every == Some(Duration::ZERO)
    }
}

impl Flood {
    fn new(protocol: Protocol) -> Flood {
        let mut frame = Vec::new();
        match protocol {
            // Unsolicited pongs (RFC 6455 §5.5.3), which a server takes for heartbeats.
            Protocol::WebSocket => frame::put(&mut frame, frame::PONG, b""),
            Protocol::EngineIo => frame::put(&mut frame, frame::TEXT, engine_io::FLOOD),
        }
        Flood {
            frames: frame.repeat(FLOOD_BYTES / frame.len()),
            frame_bytes: frame.len(),
            writable: Vec::new(),
            reconnects: VecDeque::new(),
        }
    }
}

impl Client {
    /// Starts the load, unless it is running.
    pub(super) fn start(&mut self, now: Instant) {
        let activity = &mut self.activity;
        if activity.is_started() {
            return;
        }
        let count = self.lasting;
        activity.paces = Some(Paces {
            pull: Pace::new(count, activity.pull_every.unwrap_or_default(), now),
            next_pull: 0,
            heartbeat: Pace::new(count, activity.heartbeat_every, now),
            next_heartbeat: 0,
            probe: Pace::new(activity.pinging.len(), activity.client_ping, now),
            next_probe: 0,
            churn: Pace::new(activity.churn, Duration::from_secs(1), now),
            next_churn: 0,
        });
        self.shared.pull_users = activity.pulls.users(self.users.len()) as u64;
        for index in 0..count {
            self.queue_flood(index);
            self.pull_first(index);
            self.send_or_fail(index);
        }
    }

    /// When [`Client::run_due`] has something to do.
    pub(super) fn next_due(&self) -> Instant {
        let far = Instant::now() + Duration::from_secs(3600);
        let Some(paces) = &self.activity.paces else {
            return far;
        };
        let flood = &self.activity.flood;
        if !flood.writable.is_empty() {
            return Instant::now();
        }
        let paces = [&paces.pull, &paces.heartbeat, &paces.probe, &paces.churn];
        let paces = paces.into_iter().flatten().map(Pace::next);
        let reconnects = flood.reconnects.front().map(|(at, _)| *at);
        paces.chain(reconnects).min().unwrap_or(far)
    }

    /// Does what is due. An error is a fault of this machine, not of the server.
    pub(super) fn run_due(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let Some(paces) = &mut self.activity.paces else {
            return Ok(());
        };
        let due = |pace: &mut Option<Pace>| pace.as_mut().map_or(0, |pace| pace.due(now));
        let pulls = due(&mut paces.pull);
        let heartbeats = due(&mut paces.heartbeat);
        let probes = due(&mut paces.probe);
        let churn = due(&mut paces.churn);
        let count = self.lasting;
        for _ in 0..pulls {
            let index = self.turn(|paces| &mut paces.next_pull, count);
            self.pull(index);
            self.send_or_fail(index);
        }
        for _ in 0..heartbeats {
            let index = self.turn(|paces| &mut paces.next_heartbeat, count);
            self.heartbeat(index);
        }
        for _ in 0..probes {
            let turn = self.turn(|paces| &mut paces.next_probe, self.activity.pinging.len());
            self.probe(self.activity.pinging[turn]);
        }
        for _ in 0..churn {
            self.churn()?;
        }
        self.flood();
        self.reconnect_flooders(now)
    }

    /// Takes the next turn among `count` in round-robin order.
    fn turn(&mut self, next: impl Fn(&mut Paces) -> &mut usize, count: usize) -> usize {
        let Some(paces) = &mut self.activity.paces else {
            return 0;
        };
        let next = next(paces);
        let turn = *next;
        *next = (turn + 1) % count.max(1);
        turn
    }

    /// Whether a session is open and may send what it was not asked for: any frame would show that an
    /// unresponsive one is there.
    fn may_speak(&self, index: usize) -> bool {
        let session = &self.sessions[index];
        session.stage == Stage::Open && session.role == Role::Plain
    }

    /// Appends a pull to `shared.out`.
    fn pull(&mut self, index: usize) {
        if !self.may_speak(index) {
            return;
        }
        let shared = &mut self.shared;
        let id = shared.origin.elapsed().as_micros() as u64;
        let pulls = &mut self.activity.pulls;
        pulls.put(&mut shared.out, id, &self.users);
        shared.counts.pulls += 1;
    }

    /// Appends the first pull of a session that pulls back to back.
    pub(super) fn pull_first(&mut self, index: usize) {
        if self.activity.pulls_back_to_back() {
            self.pull(index);
        }
    }

    /// Appends the next pull for each that was just answered, if they are sent back to back.
    pub(super) fn pull_again(&mut self, index: usize) {
        for _ in 0..mem::take(&mut self.shared.pulls_answered) {
            self.pull_first(index);
        }
    }

    fn heartbeat(&mut self, index: usize) {
        if self.may_speak(index) {
            frame::put(&mut self.shared.out, frame::PONG, b"");
            self.shared.counts.heartbeats += 1;
            self.send_or_fail(index);
        }
    }

    fn send_or_fail(&mut self, index: usize) {
        if let Err(error) = self.send(index) {
            self.fail(index, &error);
        }
    }

    fn probe(&mut self, index: usize) {
        let session = &mut self.sessions[index];
        if session.stage != Stage::Open {
            return;
        }
        session.probe(Instant::now(), &mut self.shared);
        self.send_or_fail(index);
    }

    /// Closes the next plain session and reconnects it.
    fn churn(&mut self) -> io::Result<()> {
        let count = self.lasting;
        for _ in 0..count {
            let index = self.turn(|paces| &mut paces.next_churn, count);
            let session = &self.sessions[index];
            if session.stage != Stage::Open || session.role != Role::Plain {
                continue;
            }
            self.leave(index);
            self.shared.counts.churned += 1;
            return self.start_handshake(index);
        }
        Ok(())
    }

    /// Queues a flooding session whose socket may accept more.
    pub(super) fn queue_flood(&mut self, index: usize) {
        let session = &self.sessions[index];
        let is_flood = session.role == Role::Flood && session.stage == Stage::Open;
        let writable = &mut self.activity.flood.writable;
        if is_flood && self.activity.paces.is_some() && !writable.contains(&index) {
            writable.push(index);
        }
    }

    /// Lets each queued session write one buffer of frames.
    fn flood(&mut self) {
        let mut writable = mem::take(&mut self.activity.flood.writable);
        writable.retain(|&index| {
            let Some(socket) = &mut self.sockets[index] else {
                return false;
            };
            let flood = &self.activity.flood;
            match socket.flood(&flood.frames, flood.frame_bytes) {
                Ok(frames) => {
                    self.shared.counts.flood.frames += frames as u64;
                    frames * flood.frame_bytes == flood.frames.len()
                }
                Err(error) => {
                    self.fail(index, &error.into());
                    false
                }
            }
        });
        self.activity.flood.writable = writable;
    }

    pub(super) fn flood_failed(&mut self, index: usize, error: &SessionError) {
        let closed = &mut self.shared.counts.flood.closed;
        match error {
            SessionError::Refused(status) => count(closed, status),
            error => count(closed, &error.close_code()),
        }
        let flood = &mut self.activity.flood;
        flood.writable.retain(|&writable| writable != index);
        flood
            .reconnects
            .push_back((Instant::now() + FLOOD_RECONNECT_DELAY, index));
    }

    fn reconnect_flooders(&mut self, now: Instant) -> io::Result<()> {
        while let Some(&(at, index)) = self.activity.flood.reconnects.front()
            && at <= now
        {
            self.activity.flood.reconnects.pop_front();
            self.shared.counts.flood.reconnects += 1;
            self.start_handshake(index)?;
        }
        Ok(())
    }
}
