//! What sessions do beyond answering pings: pull, ping, leave and come back, flood.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::counts::count;
use crate::end::End;
use crate::engine_io;
use crate::flags::{Flags, Protocol};
use crate::frame;
use crate::pace::Pace;
use crate::pull::Questions;
use crate::session::{Role, Session, Stage};

/// Time after which a session that floods and was closed comes back.
const FLOOD_PAUSE: Duration = Duration::from_millis(100);

/// Bytes of frames that a session that floods writes in one go, about.
const FLOOD_BYTES: usize = 32 * 1024;

/// What sessions do beyond answering pings.
#[derive(Debug)]
pub(super) struct Activity {
    pull_every: Duration,
    churn: usize,
    client_ping: Duration,
    /// Sessions that ping.
    probing: Vec<usize>,
    paces: Option<Paces>,
    questions: Questions,
    flood: Flood,
}

/// When the next is due, and whose turn it is. Nothing for what is never done.
#[derive(Debug)]
struct Paces {
    pull: Option<Pace>,
    next_pull: usize,
    probe: Option<Pace>,
    next_probe: usize,
    churn: Option<Pace>,
    next_churn: usize,
}

#[derive(Debug)]
struct Flood {
    /// Many frames, each of `frame_bytes`.
    frames: Vec<u8>,
    frame_bytes: usize,
    /// Sessions whose sockets may take more.
    ready: Vec<usize>,
    /// Sessions that come back, and when: in this order, as all wait as long.
    away: VecDeque<(Instant, usize)>,
}

impl Activity {
    pub(super) fn new(flags: &Flags, sessions: &[Session]) -> Activity {
        let probing = sessions.iter().filter(|session| session.probes.is_some());
        Activity {
            pull_every: flags.pull_every.unwrap_or_default(),
            churn: flags.part().share(flags.churn),
            client_ping: flags.client_ping,
            probing: probing.map(|session| session.place).collect(),
            paces: None,
            questions: Questions::new(&flags.user_prefix, flags.pull_users.get()),
            flood: Flood::new(flags.protocol),
        }
    }

    pub(super) fn is_started(&self) -> bool {
        self.paces.is_some()
    }
}

impl Flood {
    fn new(protocol: Protocol) -> Flood {
        let mut frame = Vec::new();
        match protocol {
            // Pongs that no ping asked for (RFC 6455 §5.5.3): to a server they are heartbeats.
            Protocol::WebSocket => frame::put(&mut frame, frame::PONG, b""),
            Protocol::EngineIo => frame::put(&mut frame, frame::TEXT, engine_io::FLOOD),
        }
        Flood {
            frames: frame.repeat(FLOOD_BYTES / frame.len()),
            frame_bytes: frame.len(),
            ready: Vec::new(),
            away: VecDeque::new(),
        }
    }
}

impl Client {
    /// Begins with all of it, if it has not begun.
    pub(super) fn start(&mut self, now: Instant) {
        let activity = &mut self.activity;
        if activity.is_started() {
            return;
        }
        activity.paces = Some(Paces {
            pull: Pace::new(self.sessions.len(), activity.pull_every, now),
            next_pull: 0,
            probe: Pace::new(activity.probing.len(), activity.client_ping, now),
            next_probe: 0,
            churn: Pace::new(activity.churn, Duration::from_secs(1), now),
            next_churn: 0,
        });
        for place in 0..self.sessions.len() {
            self.may_flood(place);
        }
    }

    /// When [`Client::act`] has something to do.
    pub(super) fn next_due(&self) -> Instant {
        let far = Instant::now() + Duration::from_secs(3600);
        let Some(paces) = &self.activity.paces else {
            return far;
        };
        let flood = &self.activity.flood;
        if !flood.ready.is_empty() {
            return Instant::now();
        }
        let paces = [&paces.pull, &paces.probe, &paces.churn];
        let paces = paces.into_iter().flatten().map(Pace::next);
        let away = flood.away.front().map(|(then, _)| *then);
        paces.chain(away).min().unwrap_or(far)
    }

    /// Does what is due. An error is this machine's fault.
    pub(super) fn act(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let Some(paces) = &mut self.activity.paces else {
            return Ok(());
        };
        let due = |pace: &mut Option<Pace>| pace.as_mut().map_or(0, |pace| pace.due(now));
        let pulls = due(&mut paces.pull);
        let probes = due(&mut paces.probe);
        let churn = due(&mut paces.churn);
        let count = self.sessions.len();
        for _ in 0..pulls {
            let place = self.turn(|paces| &mut paces.next_pull, count);
            self.pull(place);
        }
        for _ in 0..probes {
            let turn = self.turn(|paces| &mut paces.next_probe, self.activity.probing.len());
            self.probe(self.activity.probing[turn]);
        }
        for _ in 0..churn {
            self.churn()?;
        }
        self.flood();
        self.come_back(now)
    }

    /// Whose turn it is among `count`, one after the other.
    fn turn(&mut self, next: impl Fn(&mut Paces) -> &mut usize, count: usize) -> usize {
        let Some(paces) = &mut self.activity.paces else {
            return 0;
        };
        let next = next(paces);
        let turn = *next;
        *next = (turn + 1) % count.max(1);
        turn
    }

    fn pull(&mut self, place: usize) {
        let session = &self.sessions[place];
        if session.stage != Stage::Open || session.role == Role::Flood {
            return;
        }
        let shared = &mut self.shared;
        let number = shared.origin.elapsed().as_micros() as u64;
        let first = fastrand::usize(..self.users.len().max(1));
        let questions = &mut self.activity.questions;
        questions.put(&mut shared.out, number, &self.users, first);
        shared.counts.pulls += 1;
        if let Err(end) = self.send(place) {
            self.end(place, &end);
        }
    }

    fn probe(&mut self, place: usize) {
        let session = &mut self.sessions[place];
        if session.stage != Stage::Open {
            return;
        }
        session.probe(Instant::now(), &mut self.shared);
        if let Err(end) = self.send(place) {
            self.end(place, &end);
        }
    }

    /// Closes the next session that does nothing special, and opens it anew.
    fn churn(&mut self) -> io::Result<()> {
        let count = self.sessions.len();
        for _ in 0..count {
            let place = self.turn(|paces| &mut paces.next_churn, count);
            let session = &self.sessions[place];
            if session.stage != Stage::Open || session.role != Role::Plain {
                continue;
            }
            if self.shared.protocol == Protocol::WebSocket {
                let normal = 1000u16.to_be_bytes();
                frame::put(&mut self.shared.out, frame::CLOSE, &normal);
                // It ends in any case.
                let _ = self.send(place);
            }
            self.close(place);
            self.shared.counts.churned += 1;
            return self.begin(place);
        }
        Ok(())
    }

    /// The socket may take more.
    pub(super) fn may_flood(&mut self, place: usize) {
        let session = &self.sessions[place];
        let is_flood = session.role == Role::Flood && session.stage == Stage::Open;
        let ready = &mut self.activity.flood.ready;
        if is_flood && self.activity.paces.is_some() && !ready.contains(&place) {
            ready.push(place);
        }
    }

    /// Each session that floods writes one buffer of frames, then the others have their turn.
    fn flood(&mut self) {
        let mut ready = std::mem::take(&mut self.activity.flood.ready);
        ready.retain(|&place| {
            let Some(socket) = &mut self.sockets[place] else {
                return false;
            };
            let flood = &self.activity.flood;
            match socket.flood(&flood.frames, flood.frame_bytes) {
                Ok(frames) => {
                    self.shared.counts.flood.frames += frames as u64;
                    frames * flood.frame_bytes == flood.frames.len()
                }
                Err(error) => {
                    self.end(place, &error.into());
                    false
                }
            }
        });
        self.activity.flood.ready = ready;
    }

    pub(super) fn flood_ended(&mut self, place: usize, end: &End) {
        let closed = &mut self.shared.counts.flood.closed;
        match end {
            End::Refused(status) => count(closed, status),
            end => count(closed, &end.code()),
        }
        let flood = &mut self.activity.flood;
        flood.ready.retain(|&ready| ready != place);
        flood.away.push_back((Instant::now() + FLOOD_PAUSE, place));
    }

    fn come_back(&mut self, now: Instant) -> io::Result<()> {
        while let Some(&(then, place)) = self.activity.flood.away.front()
            && then <= now
        {
            self.activity.flood.away.pop_front();
            self.shared.counts.flood.reconnects += 1;
            self.begin(place)?;
        }
        Ok(())
    }
}
