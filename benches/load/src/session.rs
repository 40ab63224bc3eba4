//! One session as a state machine without IO: bytes in, bytes out.

use std::mem;
use std::time::{Duration, Instant};

use crate::counts::{Counts, count};
use crate::engine_io::{self, Packet};
use crate::flags::Protocol;
use crate::frame::{self, Frame};
use crate::handshake;
use crate::probes::Probes;
use crate::pull::PullResponse;
use crate::session_error::SessionError;
use crate::tokens::Tokens;

/// How far a session has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It has no connection.
    #[default]
    Disconnected,
    /// The upgrade request was sent.
    Upgrading,
    /// The WebSocket is open; the Socket.IO namespace is not connected yet.
    Namespace,
    /// The session is open.
    Open,
}

/// What a session is used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Role {
    /// Answers pings.
    #[default]
    Plain,
    /// Ignores pings.
    Unresponsive,
    /// Sends frames without pause.
    Flood,
    /// Is open for the time of the burst only, and answers pings.
    Burst,
}

/// State shared by all sessions of a process.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) protocol: Protocol,
    pub(crate) tokens: Tokens,
    pub(crate) counts: Counts,
    /// What the current session has to send; the caller sends it and clears the buffer. It is
    /// shared by all sessions, so that the answer to a ping does not allocate.
    pub(crate) out: Vec<u8>,
    /// The id of a pull is the time since then in µs, so a response says when the pull was sent.
    pub(crate) origin: Instant,
    /// When the phase began. What was sent earlier does not count in its latencies.
    pub(crate) phase: Instant,
    /// Users in a pull. Those whom its answer does not name are offline.
    pub(crate) pull_users: u64,
    /// Answers to pulls that the current session has just received.
    pub(crate) pulls_answered: u32,
}

/// One session.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// Index among the sessions of the process.
    pub(crate) index: usize,
    pub(crate) role: Role,
    pub(crate) stage: Stage,
    /// When the last handshake began; `None` if there was none.
    pub(crate) handshake_started: Option<Instant>,
    /// When the open session was lost that is to come back.
    pub(crate) lost_at: Option<Instant>,
    /// Handshakes that have failed in a row, the loss of the session among them.
    pub(crate) failures: u32,
    /// An incomplete frame or handshake response. It is almost always empty and unallocated.
    inbox: Vec<u8>,
    /// Our pings, if the session sends any.
    pub(crate) probes: Option<Box<Probes>>,
}

impl Session {
    pub(crate) fn new(index: usize, role: Role) -> Session {
        Session {
            index,
            role,
            ..Session::default()
        }
    }

    /// The handshake begins.
    pub(crate) fn start_handshake(&mut self, now: Instant) {
        self.stage = Stage::Upgrading;
        self.handshake_started = Some(now);
    }

    /// The session has ended. Returns how far it had got.
    pub(crate) fn reset(&mut self) -> Stage {
        self.inbox = Vec::new();
        if let Some(probes) = &mut self.probes {
            probes.clear();
        }
        mem::take(&mut self.stage)
    }

    /// Handles received bytes, and appends the answers to `shared.out`.
    pub(crate) fn receive(
        &mut self,
        input: &[u8],
        shared: &mut Shared,
    ) -> Result<(), SessionError> {
        if self.inbox.is_empty() {
            let rest = self.consume(input, shared)?;
            self.inbox.extend_from_slice(rest);
            return Ok(());
        }
        let mut inbox = mem::take(&mut self.inbox);
        inbox.extend_from_slice(input);
        let rest = self.consume(&inbox, shared)?.len();
        if rest > 0 {
            inbox.drain(..inbox.len() - rest);
            self.inbox = inbox;
        }
        Ok(())
    }

    /// Returns the incomplete rest.
    fn consume<'a>(
        &mut self,
        mut input: &'a [u8],
        shared: &mut Shared,
    ) -> Result<&'a [u8], SessionError> {
        if self.stage == Stage::Upgrading {
            if !handshake::take(&mut input)? {
                return Ok(input);
            }
            match shared.protocol {
                Protocol::WebSocket => self.open(shared),
                Protocol::EngineIo => self.stage = Stage::Namespace,
            }
        }
        while let Some(frame) = frame::take(&mut input)? {
            self.frame(frame, shared)?;
        }
        Ok(input)
    }

    fn open(&mut self, shared: &mut Shared) {
        self.stage = Stage::Open;
        if let Some(lost_at) = self.lost_at.take() {
            shared.counts.away.record(lost_at.elapsed());
            return;
        }
        if self.role != Role::Flood {
            let took = self.handshake_started.map(|started| started.elapsed());
            shared.counts.handshake.record(took.unwrap_or_default());
        }
        shared.counts.connected += 1;
    }

    fn frame(&mut self, frame: Frame<'_>, shared: &mut Shared) -> Result<(), SessionError> {
        match frame.opcode {
            frame::PING => self.ping(frame::PONG, frame.payload, shared),
            frame::PONG => {
                if let Some((index, id)) = frame.payload.split_first_chunk()
                    && *index == (self.index as u32).to_be_bytes()
                    && let Ok(id) = id.try_into()
                {
                    self.probe_answered(u32::from_be_bytes(id), shared);
                }
            }
            frame::CLOSE => {
                frame::put(&mut shared.out, frame::CLOSE, frame.payload);
                return Err(SessionError::Closed(frame.close_code()));
            }
            // Fragments are ignored: no server under test fragments the messages that matter here.
            frame::TEXT if frame.fin => return self.text(frame.payload, shared),
            _ => {}
        }
        Ok(())
    }

    fn ping(&self, opcode: u8, answer: &[u8], shared: &mut Shared) {
        shared.counts.pings += 1;
        if self.role != Role::Unresponsive {
            frame::put(&mut shared.out, opcode, answer);
            shared.counts.pongs += 1;
        }
    }

    fn text(&mut self, text: &[u8], shared: &mut Shared) -> Result<(), SessionError> {
        match shared.protocol {
            Protocol::WebSocket => pull_answered(text, shared),
            Protocol::EngineIo => match engine_io::parse(text) {
                Packet::Open => {
                    let token = shared.tokens.get(self.index);
                    let connect = engine_io::connect(token);
                    frame::put(&mut shared.out, frame::TEXT, &connect);
                }
                Packet::Connected if self.stage == Stage::Namespace => self.open(shared),
                Packet::Refused => return Err(SessionError::Refused("connect_error".into())),
                Packet::Ping => self.ping(frame::TEXT, engine_io::PONG, shared),
                Packet::Ack(id) => {
                    if let Ok(id) = id.try_into() {
                        self.probe_answered(id, shared);
                    }
                }
                Packet::Closed => return Err(SessionError::disconnected()),
                Packet::Connected | Packet::Other => {}
            },
        }
        Ok(())
    }

    /// Appends a ping of ours to `shared.out`.
    pub(crate) fn probe(&mut self, now: Instant, shared: &mut Shared) {
        let Some(probes) = &mut self.probes else {
            return;
        };
        let id = probes.send(now);
        shared.counts.client_pings += 1;
        match shared.protocol {
            Protocol::WebSocket => {
                let index = (self.index as u32).to_be_bytes();
                let payload = [index, id.to_be_bytes()];
                frame::put(&mut shared.out, frame::PING, payload.as_flattened());
            }
            Protocol::EngineIo => {
                let mut event = Vec::new();
                engine_io::put_probe(&mut event, id.into());
                frame::put(&mut shared.out, frame::TEXT, &event);
            }
        }
    }

    fn probe_answered(&mut self, id: u32, shared: &mut Shared) {
        let sent = self.probes.as_mut().and_then(|probes| probes.answered(id));
        if let Some(sent) = sent
            && sent >= shared.phase
        {
            shared.counts.client_ping.record(sent.elapsed());
        }
    }
}

fn pull_answered(text: &[u8], shared: &mut Shared) {
    let Some(response) = PullResponse::parse(text) else {
        return;
    };
    shared.pulls_answered += 1;
    let id = match response.outcome() {
        Ok(id) => id,
        Err(code) => return count(&mut shared.counts.pull_errors, code),
    };
    let asked = shared.origin + Duration::from_micros(id.min(u64::from(u32::MAX) << 16));
    let now = Instant::now();
    if (shared.phase..=now).contains(&asked) {
        shared.counts.pull.record(now - asked);
        let (online, unknown) = (response.online.0, response.unknown.0);
        shared.counts.pulled_online += online;
        shared.counts.pulled_unknown += unknown;
        shared.counts.pulled_offline += shared.pull_users.saturating_sub(online + unknown);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tokens::SigningKey;

    const UPGRADED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    fn shared(protocol: Protocol) -> Shared {
        Shared {
            protocol,
            tokens: Tokens::default(),
            counts: Counts::default(),
            out: Vec::new(),
            origin: Instant::now(),
            phase: Instant::now(),
            pull_users: 22,
            pulls_answered: 0,
        }
    }

    fn started(role: Role) -> Session {
        let mut session = Session::new(3, role);
        session.probes = Some(Box::default());
        session.start_handshake(Instant::now());
        session
    }

    /// A server's frame with a short payload.
    fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        [&[0x80 | opcode, payload.len() as u8], payload].concat()
    }

    fn long(payload: &[u8], header: usize) -> Vec<u8> {
        let length = (payload.len() as u64).to_be_bytes();
        let (short, bytes) = match header {
            2 => (126, &length[6..]),
            _ => (127, &length[..]),
        };
        [&[0x81, short], bytes, payload].concat()
    }

    /// Feeds the bytes in pieces that end at `cuts`; returns the result and all answers.
    fn receive(
        session: &mut Session,
        bytes: &[u8],
        cuts: &[usize],
        shared: &mut Shared,
    ) -> (Result<(), SessionError>, Vec<u8>) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        for part in cuts.windows(2) {
            if let Err(error) = session.receive(&bytes[part[0]..part[1]], shared) {
                return (Err(error), mem::take(&mut shared.out));
            }
        }
        (Ok(()), mem::take(&mut shared.out))
    }

    /// A whole conversation: handshake, ping, answer to our ping, pull responses of each length
    /// encoding, close.
    fn conversation(id: u64) -> Vec<u8> {
        let pull = |users: usize| {
            let online: Vec<_> = (0..users)
                .map(|n| format!(r#""load-{n}":{{"connectedAt":1}}"#))
                .collect();
            format!(
                r#"{{"pull":{id},"online":{{{}}},"unknown":["x"]}}"#,
                online.join(",")
            )
            .into_bytes()
        };
        [
            UPGRADED.to_vec(),
            frame(frame::PING, b"12345678"),
            frame(frame::PONG, &[0, 0, 0, 3, 0, 0, 0, 0]),
            frame(frame::PONG, &[0, 0, 0, 4, 0, 0, 0, 0]),
            frame(frame::PONG, b""),
            frame(frame::TEXT, &pull(1)),
            long(&pull(20), 2),
            long(&pull(3000), 8),
            frame(frame::PING, b""),
            frame(frame::CLOSE, &4408u16.to_be_bytes()),
        ]
        .concat()
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_tcp_splits_the_stream(cuts in proptest::collection::vec(any::<usize>(), 0..12)) {
            let mut shared = shared(Protocol::WebSocket);
            let mut session = started(Role::Plain);
            session.probe(Instant::now(), &mut shared);
            shared.out.clear();
            let id = shared.origin.elapsed().as_micros() as u64 + 1;
            std::thread::sleep(Duration::from_micros(2));
            let (result, out) = receive(&mut session, &conversation(id), &cuts, &mut shared);
            prop_assert_eq!(result, Err(SessionError::Closed(4408)));
            let answers = b"\x8a\x88\0\0\0\x0012345678\x8a\x80\0\0\0\0\x88\x82\0\0\0\0\x11\x38";
            prop_assert_eq!(&out[..], &answers[..]);
            let counts = shared.counts;
            prop_assert_eq!((counts.connected, counts.pings, counts.pongs), (1, 2, 2));
            prop_assert_eq!((counts.client_pings, counts.client_ping.count()), (1, 1));
            prop_assert_eq!((counts.pull.count(), counts.pulled_online), (3, 3021));
            // 22 are asked for: 20 of them are offline in the first answer, 1 in the second.
            prop_assert_eq!((counts.pulled_unknown, counts.pulled_offline), (3, 21));
            prop_assert_eq!((shared.pulls_answered, counts.pull_errors.len()), (3, 0));
        }

        #[test]
        fn no_input_causes_a_panic(bytes: Vec<u8>, cuts: Vec<usize>) {
            for protocol in [Protocol::WebSocket, Protocol::EngineIo] {
                let mut session = started(Role::Plain);
                session.stage = Stage::Open;
                let _ = receive(&mut session, &bytes, &cuts, &mut shared(protocol));
            }
        }
    }

    #[test]
    fn an_engine_io_session_opens_and_answers() {
        let mut shared = shared(Protocol::EngineIo);
        let secret = b"0123456789abcdef0123456789abcdef";
        let users = (0..4).map(|n| format!("load-{n}"));
        shared.tokens = Tokens::mint(
            &SigningKey::of_secret(secret),
            users,
            Duration::from_secs(60),
        )
        .unwrap();
        let mut session = started(Role::Plain);
        let opening = [UPGRADED, &frame(frame::TEXT, br#"0{"sid":"x"}"#)].concat();
        let (_, out) = receive(&mut session, &opening, &[7], &mut shared);
        let mut connect = Vec::new();
        let token = shared.tokens.get(3).unwrap();
        let packet = format!(r#"40{{"token":"{token}"}}"#);
        frame::put(&mut connect, frame::TEXT, packet.as_bytes());
        assert_eq!(out, connect);
        assert_eq!(
            (session.stage, shared.counts.connected),
            (Stage::Namespace, 0)
        );
        let rest = [
            frame(frame::TEXT, br#"40{"sid":"y"}"#),
            frame(frame::TEXT, b"2"),
        ];
        let (_, out) = receive(&mut session, &rest.concat(), &[], &mut shared);
        assert_eq!(out, b"\x81\x81\0\0\0\x003");
        assert_eq!((session.stage, shared.counts.connected), (Stage::Open, 1));
        session.probe(Instant::now(), &mut shared);
        assert_eq!(
            mem::take(&mut shared.out),
            b"\x81\x97\0\0\0\x00420[\"presence:pull\",[]]"
        );
        let acks = [
            frame(frame::TEXT, b"431[]"),
            frame(frame::TEXT, b"430[]"),
            frame(frame::TEXT, b"430[]"),
        ];
        receive(&mut session, &acks.concat(), &[], &mut shared)
            .0
            .unwrap();
        assert_eq!(shared.counts.client_ping.count(), 1);
        let refused = frame(frame::TEXT, br#"44{"message":"no"}"#);
        let (result, _) = receive(&mut session, &refused, &[], &mut shared);
        assert_eq!(result, Err(SessionError::Refused("connect_error".into())));
    }

    #[test]
    fn unresponsive_sessions_answer_nothing() {
        let mut shared = shared(Protocol::WebSocket);
        let mut session = started(Role::Unresponsive);
        let bytes = [UPGRADED, &frame(frame::PING, b"1")].concat();
        let (_, out) = receive(&mut session, &bytes, &[], &mut shared);
        assert_eq!(out, b"");
        assert_eq!((shared.counts.pings, shared.counts.pongs), (1, 0));
    }

    #[test]
    fn answers_to_requests_of_an_earlier_phase_do_not_count() {
        let mut shared = shared(Protocol::WebSocket);
        let mut session = started(Role::Plain);
        session.probe(Instant::now(), &mut shared);
        shared.phase = Instant::now() + Duration::from_secs(1);
        let bytes = [
            UPGRADED,
            &frame(frame::PONG, &[0, 0, 0, 3, 0, 0, 0, 0]),
            &frame(frame::TEXT, br#"{"pull":0,"online":{}}"#),
        ];
        receive(&mut session, &bytes.concat(), &[], &mut shared)
            .0
            .unwrap();
        assert_eq!(shared.counts.client_ping.count(), 0);
        assert_eq!(shared.counts.pull.count(), 0);
    }
}
