//! A naive model of one session, its client and the network between them, driven by bytes. It has
//! the state machines as a server has them, and knows by simpler means what they must do.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use presenced_socketio::engine::{
    Admission, Beat, Heartbeat, Kind, Live, Method, Output, Packet, Payload, Query, Received,
    Request, Route, Sent, Times, Timing, Transport, TransportName, Via,
};
use presenced_socketio::limits::{PACKETS_PER_ANSWER_MAX, QUEUED_PACKET_BYTES};
use presenced_socketio::{Connection, Effect, End, Rules};

/// Takes each two bytes as an operation and its argument, and panics if an invariant is violated.
pub fn run(operations: &[u8]) {
    let mut model = Model::new(operations.first().is_some_and(|byte| byte & 1 == 1));
    for operation in operations.chunks(2) {
        let argument = operation.get(1).copied().unwrap_or_default();
        model.operate(operation[0], argument);
        model.drain();
        model.check();
    }
    model.finish();
}

const TIMING: Timing = Timing {
    interval: Duration::from_secs(25),
    timeout: Duration::from_secs(20),
};

const TIMES: Times = Times {
    upgrade_timeout: Duration::from_secs(10),
    close_timeout: Duration::from_secs(30),
    queue_bytes_max: 32 * (QUEUED_PACKET_BYTES + 8),
};

/// What a client says on Socket.IO, most of it legal now and then.
const SAID: [&str; 14] = [
    "0",
    "0/,{\"token\":\"x\"}",
    "0/a,",
    "0/x,",
    "1",
    "1/a,",
    "2[\"e\"]",
    "21[\"e\",{}]",
    "2/a,7[\"e\"]",
    "31[]",
    "52-[\"e\"]",
    "61-/a,[]",
    "4{}",
    "2",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Polling,
    WebSocket,
    Closing,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WebSocket {
    None,
    Opened,
    /// And whether it was told so.
    Probed(bool),
    Current,
}

/// A packet on its way to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping,
}

struct Model {
    transport: Transport,
    heartbeat: Heartbeat,
    connection: Connection,
    rules: Rules,
    now: Duration,

    phase: Phase,
    websocket: WebSocket,
    opened_at: Duration,
    has_poll: bool,
    has_post: bool,
    /// What was sent and has not arrived.
    queue: VecDeque<Item>,
    sent: u32,

    connected: BTreeSet<&'static str>,
    pending: BTreeSet<&'static str>,
    accepted: u32,
    attachments: u32,
}

impl Model {
    fn new(is_websocket: bool) -> Model {
        let rules = Rules::new(&["/", "/a"]).unwrap();
        let now = Duration::from_secs(1000);
        let (transport, phase, websocket) = match is_websocket {
            true => (Transport::websocket(), Phase::WebSocket, WebSocket::Current),
            false => (Transport::polling(), Phase::Polling, WebSocket::None),
        };
        Model {
            transport,
            heartbeat: Heartbeat::new(now, &TIMING),
            connection: Connection::new(now, &rules),
            rules,
            now,
            phase,
            websocket,
            opened_at: now,
            has_poll: false,
            has_post: false,
            queue: VecDeque::new(),
            sent: 0,
            connected: BTreeSet::new(),
            pending: BTreeSet::new(),
            accepted: 0,
            attachments: 0,
        }
    }

    fn polls(&self) -> bool {
        match self.phase {
            Phase::Polling => true,
            Phase::Closing => self.websocket != WebSocket::Current,
            Phase::WebSocket | Phase::Over => false,
        }
    }

    fn operate(&mut self, operation: u8, argument: u8) {
        match operation >> 1 & 15 {
            // Often enough no client is at fault, or no session would live for long.
            0 | 1 if self.has_poll && argument >= 8 => {}
            0 | 1 => self.get(),
            2 if self.has_post && argument >= 8 => {}
            2 => self.post(),
            3 => self.post_ends(argument),
            4 => self.open_websocket(),
            5 if self.websocket != WebSocket::Opened && argument >= 8 => {}
            5 => self.websocket_says(b"2probe"),
            6 if self.websocket != WebSocket::Probed(true) && argument >= 8 => {}
            6 => self.websocket_says(b"5"),
            7 => match argument {
                0..4 => self.websocket_says(&[argument]),
                // It would end the upgrade, as other things here do.
                32.. if self.websocket != WebSocket::Current => {}
                16..32 => self.receive_binary(),
                48.. if self.attachments > 0 => self.receive_binary(),
                _ => self.websocket_says(self.said(argument).as_bytes()),
            },
            8 => self.connection_gone(argument),
            9 | 10 => self.send(argument),
            11 => self.ping(),
            12 => self.time_passes(Duration::from_secs(u64::from(argument % 16))),
            13 => self.close(argument),
            14 if self.websocket == WebSocket::Current => self.websocket_says(b"3"),
            14 => {}
            _ => self.decide(argument),
        }
    }

    fn get(&mut self) {
        assert_eq!(
            self.route(Method::Get, TransportName::Polling),
            self.polls()
        );
        let taken = self.transport.poll();
        match (self.polls(), self.has_poll) {
            (false, _) => assert_eq!(taken, Ok(Admission::NotPolling)),
            (true, false) => {
                assert_eq!(taken, Ok(Admission::Taken));
                self.has_poll = true;
            }
            (true, true) => self.is_over(taken.unwrap_err(), End::SecondPoll),
        }
    }

    fn post(&mut self) {
        assert_eq!(
            self.route(Method::Post, TransportName::Polling),
            self.polls()
        );
        let taken = self.transport.post();
        match (self.polls(), self.has_post) {
            (false, _) => assert_eq!(taken, Ok(Admission::NotPolling)),
            (true, false) => {
                assert_eq!(taken, Ok(Admission::Taken));
                self.has_post = true;
            }
            (true, true) => self.is_over(taken.unwrap_err(), End::SecondPost),
        }
    }

    /// The body is there: some packets.
    fn post_ends(&mut self, argument: u8) {
        if !self.has_post {
            return;
        }
        let mut body = match self.attachments {
            0 => Vec::new(),
            missing => vec!["beA=="; missing as usize].join("\u{1e}").into_bytes(),
        };
        for number in 0..argument % 3 {
            if !body.is_empty() {
                body.push(0x1e);
            }
            match argument.wrapping_mul(31).wrapping_add(number) {
                0..4 => body.push(b'1'),
                4..8 => body.push(b'7'),
                8..12 => body.extend_from_slice(b"beA=="),
                12..64 => body.push(b'3'),
                _ if number > 0 => body.push(b'6'),
                other => body.extend_from_slice(self.said(other).as_bytes()),
            }
        }
        if body.is_empty() {
            body.push(b'3');
        }
        for packet in Payload::new(&mut body) {
            self.receive(Via::Post, packet.map_err(drop));
        }
        self.transport.post_done();
        self.has_post = false;
    }

    fn open_websocket(&mut self) {
        let has_place = self.phase == Phase::Polling && self.websocket == WebSocket::None;
        assert_eq!(
            self.route(Method::Get, TransportName::WebSocket),
            has_place || self.phase == Phase::Closing && self.websocket == WebSocket::None
        );
        assert_eq!(self.transport.open_websocket(self.now, &TIMES), has_place);
        if has_place {
            self.websocket = WebSocket::Opened;
            self.opened_at = self.now;
        }
    }

    fn websocket_says(&mut self, text: &[u8]) {
        self.receive(Via::WebSocket, Packet::from_text(text).map_err(drop));
    }

    fn receive_binary(&mut self) {
        self.receive(Via::WebSocket, Ok(Packet::Binary(b"x")));
    }

    /// What a client says on Socket.IO: anything, or what suits.
    fn said(&self, number: u8) -> String {
        let said = match number {
            0..48 => SAID[usize::from(number) % SAID.len()],
            _ if self.connected.contains("/") => {
                ["2[\"e\"]", "52-[\"e\"]"][usize::from(number) % 2]
            }
            _ if self.pending.contains("/") => return "6".into(),
            _ => "0",
        };
        format!("4{said}")
    }

    fn receive(&mut self, via: Via, packet: Result<Packet<'_>, ()>) {
        if via == Via::WebSocket && self.websocket == WebSocket::None {
            return;
        }
        let bad = presenced_socketio::engine::BadPacket::Kind;
        let received = self.transport.receive(via, packet.map_err(|()| bad));
        match self.phase {
            Phase::Over => return assert_eq!(received, Ok(Received::Nothing)),
            Phase::Closing => {
                return match packet {
                    Ok(Packet::Text(Kind::Close, _)) => {
                        self.is_over(received.unwrap_err(), End::Closed);
                    }
                    _ => assert_eq!(received, Ok(Received::Nothing)),
                };
            }
            Phase::Polling if via == Via::WebSocket => {
                assert_eq!(received, Ok(Received::Nothing));
                return match (self.websocket, packet) {
                    (WebSocket::Opened, Ok(Packet::Text(Kind::Ping, b"probe"))) => {
                        self.websocket = WebSocket::Probed(false);
                    }
                    (WebSocket::Probed(_), Ok(Packet::Text(Kind::Upgrade, _))) => {
                        (self.websocket, self.phase) = (WebSocket::Current, Phase::WebSocket);
                    }
                    // It is to be closed; `drain` sees that.
                    _ => self.opened_at = Duration::ZERO,
                };
            }
            Phase::Polling | Phase::WebSocket => {}
        }
        match packet {
            Err(()) => self.is_over(received.unwrap_err(), End::BadPacket(bad)),
            Ok(Packet::Text(Kind::Close, _)) => self.is_over(received.unwrap_err(), End::Closed),
            Ok(Packet::Text(Kind::Ping, _)) => self.is_over(received.unwrap_err(), End::Ping),
            Ok(Packet::Text(Kind::Pong, _)) => {
                assert_eq!(received, Ok(Received::Pong));
                self.heartbeat.pong(self.now, &TIMING);
            }
            Ok(Packet::Text(Kind::Message, data)) => {
                assert_eq!(received, Ok(Received::Message(data)));
                self.heartbeat.heard(self.now, &TIMING);
                self.message(str::from_utf8(data).unwrap());
            }
            Ok(Packet::Binary(data)) => {
                assert_eq!(received, Ok(Received::Binary(data)));
                self.heartbeat.heard(self.now, &TIMING);
                let taken = self.connection.binary(data);
                match self.attachments.checked_sub(1) {
                    Some(missing) => {
                        assert_eq!(taken, Ok(()));
                        self.attachments = missing;
                    }
                    None => self.is_ended(taken.unwrap_err(), End::StrayAttachment),
                }
            }
            Ok(Packet::Text(Kind::Open | Kind::Upgrade | Kind::Noop, _)) => {
                assert_eq!(received, Ok(Received::Nothing));
                self.heartbeat.heard(self.now, &TIMING);
            }
        }
    }

    /// A Socket.IO packet, one of those in `SAID` or of one byte.
    fn message(&mut self, text: &str) {
        let effect = self.connection.text(text.as_bytes(), self.now, &self.rules);
        if self.attachments > 0 {
            return self.is_ended(effect.unwrap_err(), End::TextForAttachment);
        }
        let namespace = match text {
            text if text.contains("/a") => "/a",
            text if text.contains("/x") => "/x",
            _ => "/",
        };
        let is_connected = self.connected.contains(namespace);
        let ended = match text {
            _ if !SAID.contains(&text) || text == "2" => {
                let end = effect.unwrap_err();
                assert!(matches!(end, End::BadMessage(_)), "{end:?}");
                return self.is_ended(end, end);
            }
            "4{}" => End::ConnectError,
            text if text.starts_with('0') => {
                if namespace == "/x" {
                    return assert_eq!(effect, Ok(Effect::InvalidNamespace { namespace }));
                }
                if !is_connected && !self.pending.contains(namespace) {
                    let Ok(Effect::Authenticate {
                        namespace: asked, ..
                    }) = effect
                    else {
                        panic!("{effect:?}");
                    };
                    assert_eq!(asked, namespace);
                    self.pending.insert(namespace);
                    return;
                }
                End::Connected
            }
            _ if !is_connected => End::NotConnected,
            _ => {
                match (text, effect) {
                    ("1" | "1/a,", Ok(Effect::Left { namespace: left })) => {
                        assert_eq!(left, namespace);
                        self.connected.remove(namespace);
                    }
                    ("31[]", Ok(Effect::Nothing)) => {}
                    ("52-[\"e\"]", Ok(Effect::Nothing)) => self.attachments = 2,
                    ("61-/a,[]", Ok(Effect::Nothing)) => self.attachments = 1,
                    (
                        _,
                        Ok(Effect::Event {
                            namespace: of,
                            event,
                        }),
                    ) => {
                        assert_eq!(of, namespace);
                        assert!(text.ends_with(event.array));
                    }
                    (text, effect) => panic!("{text} {effect:?}"),
                }
                return;
            }
        };
        self.is_ended(effect.unwrap_err(), ended);
    }

    /// The service lets somebody in, or not, or out.
    fn decide(&mut self, argument: u8) {
        let namespace = ["/", "/a"][usize::from(argument & 1)];
        match argument >> 1 & 7 {
            0..6 => {
                let number = self.connection.accept(namespace, &self.rules);
                assert_eq!(number.is_some(), self.pending.remove(namespace));
                if let Some(number) = number {
                    assert_eq!(number, self.accepted, "no Socket.IO sid twice");
                    self.accepted += 1;
                    self.connected.insert(namespace);
                }
            }
            6 => {
                let was_waiting = self.connection.refuse(namespace, &self.rules);
                assert_eq!(was_waiting, self.pending.remove(namespace));
            }
            _ => {
                let was_there = self.connection.disconnect(namespace, self.now, &self.rules);
                assert_eq!(was_there, self.connected.remove(namespace));
            }
        }
    }

    fn connection_gone(&mut self, argument: u8) {
        let polls = self.polls();
        match argument % 16 {
            0 => {
                let gone = self.transport.poll_gone();
                match std::mem::take(&mut self.has_poll) && polls {
                    true => self.is_over(gone.unwrap_err(), End::Gone),
                    false => assert_eq!(gone, Ok(())),
                }
            }
            1 if self.has_post => {
                self.has_post = false;
                let gone = self.transport.post_gone();
                match polls {
                    true => self.is_over(gone.unwrap_err(), End::Gone),
                    false => assert_eq!(gone, Ok(())),
                }
            }
            2 if self.websocket != WebSocket::None => {
                let was = std::mem::replace(&mut self.websocket, WebSocket::None);
                let gone = self.transport.websocket_gone();
                match was == WebSocket::Current {
                    true => self.is_over(gone.unwrap_err(), End::Gone),
                    false => assert_eq!(gone, Ok(())),
                }
            }
            _ => {}
        }
    }

    fn send(&mut self, argument: u8) {
        for _ in 0..=argument % 4 {
            let number = self.sent.to_string().into_bytes();
            let (packet, item) = match argument & 4 {
                0 => (
                    Packet::Text(Kind::Message, &number),
                    Item::Text(number.clone()),
                ),
                _ => (Packet::Binary(&number), Item::Binary(number.clone())),
            };
            let sent = self.transport.send(packet, &TIMES);
            self.was_sent(sent, item);
            self.sent += 1;
            if argument & 8 != 0 {
                self.drain();
            }
        }
    }

    fn ping(&mut self) {
        let sent = self.transport.ping(&TIMES);
        if self.phase == Phase::Over || self.phase == Phase::Closing {
            assert!(matches!(sent, Ok(Sent::Dropped | Sent::Queued)), "{sent:?}");
            return;
        }
        if self.queue.contains(&Item::Ping) {
            return assert_eq!(sent, Ok(Sent::Queued), "one is enough");
        }
        self.was_sent(sent, Item::Ping);
    }

    fn was_sent(&mut self, sent: Result<Sent, End>, item: Item) {
        let queued = |item: &Item| match item {
            Item::Text(data) | Item::Binary(data) => data.len() + QUEUED_PACKET_BYTES,
            Item::Ping => QUEUED_PACKET_BYTES,
        };
        if self.phase == Phase::Over || self.phase == Phase::Closing {
            return assert_eq!(sent, Ok(Sent::Dropped));
        }
        match sent {
            Ok(Sent::Direct) => {
                assert_eq!(self.websocket, WebSocket::Current);
                assert!(self.queue.is_empty(), "nothing is overtaken");
            }
            Ok(Sent::Queued) => {
                self.queue.push_back(item);
                assert!(self.queue.iter().map(queued).sum::<usize>() <= TIMES.queue_bytes_max);
            }
            Ok(Sent::Dropped) => panic!("dropped in {:?}", self.phase),
            Err(end) => {
                let bytes = self.queue.iter().map(queued).sum::<usize>() + queued(&item);
                assert!(bytes > TIMES.queue_bytes_max);
                self.is_over(end, End::SlowConsumer);
            }
        }
    }

    fn time_passes(&mut self, time: Duration) {
        self.now += time;
        if let Err(end) = self.transport.tick(self.now) {
            assert_eq!(self.phase, Phase::Closing);
            self.is_over(end, End::ByServer);
        }
        if self.phase == Phase::Over {
            return;
        }
        if let Err(end) = self.connection.tick(self.now) {
            assert!(self.connected.is_empty() || self.attachments > 0);
            return self.is_ended(end, end);
        }
        assert!(
            self.connection
                .deadline()
                .is_none_or(|until| until > self.now)
        );
        match self.heartbeat.tick(self.now, &TIMING) {
            Ok(Beat::Nothing) => {}
            Ok(Beat::Ping) => self.ping(),
            Err(end) => self.is_ended(end, End::PingTimeout),
        }
        assert!(self.phase == Phase::Over || self.heartbeat.deadline() > self.now);
    }

    fn close(&mut self, argument: u8) {
        match argument {
            0..8 => {
                self.transport.end(End::ByServer);
                self.is_over(End::ByServer, End::ByServer);
            }
            8..16 => {
                self.transport.close(self.now, &TIMES);
                if self.phase != Phase::Over {
                    self.phase = Phase::Closing;
                }
            }
            _ => {}
        }
    }

    /// The connection or the heartbeat has ended the session, and so must the transport.
    fn is_ended(&mut self, end: End, expected: End) {
        self.transport.end(end);
        self.is_over(end, expected);
    }

    fn is_over(&mut self, end: End, expected: End) {
        assert_eq!(end, expected);
        assert!(!end.label().is_empty() && !end.to_string().is_empty());
        self.phase = Phase::Over;
        self.queue.clear();
    }

    /// Does what the transport says.
    fn drain(&mut self) {
        let mut bytes = Vec::new();
        while let Some(output) = self.transport.output(&mut bytes) {
            let mut bytes = std::mem::take(&mut bytes);
            match output {
                Output::AnswerPoll => self.poll_answered(&mut bytes),
                Output::Text if self.websocket == WebSocket::Probed(false) => {
                    assert_eq!(bytes, b"3probe");
                    self.websocket = WebSocket::Probed(true);
                }
                Output::Text => {
                    assert_eq!(self.websocket, WebSocket::Current);
                    self.arrived(Packet::from_text(&bytes).unwrap());
                }
                Output::Binary => {
                    assert_eq!(self.websocket, WebSocket::Current);
                    self.arrived(Packet::Binary(&bytes));
                }
                Output::CloseWebSocket => {
                    assert!(bytes.is_empty());
                    assert_ne!(self.websocket, WebSocket::None);
                    if self.websocket == WebSocket::Current {
                        assert!(self.queue.is_empty());
                        assert!(matches!(self.phase, Phase::Closing | Phase::Over));
                        self.phase = Phase::Over;
                    }
                    self.websocket = WebSocket::None;
                }
            }
        }
    }

    fn poll_answered(&mut self, body: &mut [u8]) {
        assert!(std::mem::take(&mut self.has_poll), "nobody asked");
        let mut packets: Vec<_> = Payload::new(body).map(Result::unwrap).collect();
        assert!((1..=PACKETS_PER_ANSWER_MAX).contains(&packets.len()));
        if packets.last() == Some(&Packet::CLOSE) {
            packets.pop();
            assert!(matches!(self.phase, Phase::Closing | Phase::Over));
            assert!(self.phase == Phase::Over || packets.len() == self.queue.len());
            self.phase = Phase::Over;
        } else if packets == [Packet::NOOP] {
            packets.pop();
            let is_probed = matches!(self.websocket, WebSocket::Probed(_));
            let is_polling = self.phase == Phase::Polling;
            assert!(!is_polling || is_probed && self.queue.is_empty());
        }
        for packet in packets {
            self.arrived(packet);
        }
    }

    /// It is the next one of what was sent, so that nothing is lost, doubled or overtaken.
    fn arrived(&mut self, packet: Packet<'_>) {
        let item = match packet {
            Packet::Text(Kind::Message, data) => Item::Text(data.to_vec()),
            Packet::Binary(data) => Item::Binary(data.to_vec()),
            Packet::PING => Item::Ping,
            packet => panic!("{packet:?}"),
        };
        assert_eq!(self.queue.pop_front(), Some(item));
    }

    /// Whether a request with the session's sid is let through.
    fn route(&self, method: Method, transport: TransportName) -> bool {
        let query = match transport {
            TransportName::Polling => Query::new(b"EIO=4&transport=polling&sid=x"),
            TransportName::WebSocket => Query::new(b"EIO=4&transport=websocket&sid=x"),
        };
        let request = Request {
            method,
            is_upgrade: transport == TransportName::WebSocket,
            query: &query,
            session: self.transport.live(),
            admitted: Ok(()),
        };
        matches!(
            request.route(),
            Ok(Route::Poll | Route::Post | Route::Upgrade)
        )
    }

    /// What holds when nothing is left to be done.
    fn check(&mut self) {
        match self.phase {
            Phase::Polling => {
                let is_probed = matches!(self.websocket, WebSocket::Probed(_));
                assert!(!self.has_poll || self.queue.is_empty() && !is_probed);
            }
            Phase::WebSocket => {
                assert_eq!(self.websocket, WebSocket::Current);
                assert!(self.queue.is_empty() && !self.has_poll);
                assert!(self.transport.is_plain());
            }
            Phase::Closing | Phase::Over => {
                assert!(!self.has_poll && self.websocket == WebSocket::None);
            }
        }
        if self.websocket == WebSocket::None {
            self.opened_at = self.now;
        }
        let is_upgrading = matches!(self.websocket, WebSocket::Opened | WebSocket::Probed(_));
        // `opened_at` is zero of one that has said something wrong.
        assert!(!is_upgrading || self.now < self.opened_at + TIMES.upgrade_timeout);
        assert_eq!(
            self.transport.deadline().is_some(),
            is_upgrading || self.phase == Phase::Closing
        );
        let live = match self.phase {
            Phase::Over => None,
            Phase::WebSocket => Some(Live::WebSocket),
            Phase::Polling if is_upgrading => Some(Live::Probing),
            Phase::Polling | Phase::Closing => Some(Live::Polling),
        };
        assert_eq!(self.transport.live(), live);

        // What a sleeping session keeps is all that there is.
        for namespace in ["/", "/a"] {
            let is_connected = self.connection.is_connected(namespace, &self.rules);
            assert_eq!(is_connected, self.connected.contains(namespace));
        }
        let whole = Connection::from_parts(0, None);
        let (bits, rest) = std::mem::replace(&mut self.connection, whole).into_parts();
        assert_eq!(bits.count_ones() as usize, self.connected.len());
        let is_usual = self.accepted == 1
            && self.connected.len() == 1
            && self.pending.is_empty()
            && self.attachments == 0;
        assert_eq!(rest.is_none(), is_usual);
        self.connection = Connection::from_parts(bits, rest);
    }

    /// A client that goes on to poll gets all that was sent.
    fn finish(&mut self) {
        while self.polls() && !(self.queue.is_empty() && self.phase == Phase::Polling) {
            self.get();
            self.drain();
        }
        assert!(self.queue.is_empty());
    }
}
