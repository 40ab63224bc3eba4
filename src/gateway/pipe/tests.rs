//! A client, a worker and a pipe between them, all in one thread, which do anything in any order. What is written at
//! one end comes out at the other: once, in order, and all of it unless something has ended the session. Nobody waits
//! for what is there or can't come.

use std::net::TcpListener;
use std::sync::LazyLock;

use presenced_session::close_reason::CloseReason;
use presenced_socketio::engine::push as push_packet;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::gateway::held_waiter::{Body, Key};

/// Of the poll that is held.
const KEY: Key = 3;

const SESSION: SessionId = SessionId {
    worker: 0,
    key: SessionKey {
        index: 7,
        generation: 1,
    },
};

#[derive(Clone, Copy, Debug)]
enum Operation {
    Poll,
    /// Its connection waits without a request under way.
    Hold,
    Fetch,
    LosePoll,
    BeginPost,
    /// With so many packets.
    FinishPost(usize),
    RefusePost,
    LosePost,
    OpenWebSocket,
    SayProbe,
    /// And so many packets behind it.
    SayUpgrade(usize),
    SayNonsense,
    LoseWebSocket,
    /// What the worker is told to do, with so long a buffer.
    Work(usize),
    /// So many messages to the client.
    Write(usize),
    Ping,
    Close,
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation as O;
    prop_oneof![
        8 => Just(O::Poll),
        4 => Just(O::Hold),
        8 => Just(O::Fetch),
        6 => Just(O::BeginPost),
        6 => (1usize..6).prop_map(O::FinishPost),
        6 => Just(O::OpenWebSocket),
        5 => Just(O::SayProbe),
        3 => (0usize..4).prop_map(O::SayUpgrade),
        10 => (1usize..40).prop_map(O::Work),
        8 => (1usize..20).prop_map(O::Write),
        1 => Just(O::Ping),
        1 => Just(O::SayNonsense),
        1 => Just(O::LoseWebSocket),
        1 => Just(O::RefusePost),
    ]
}

/// The same, among which some end the session.
fn any_operation() -> impl Strategy<Value = Operation> {
    use Operation as O;
    prop_oneof![
        40 => operation(),
        1 => Just(O::LosePoll),
        1 => Just(O::LosePost),
        1 => Just(O::Close),
    ]
}

/// A poll without an answer yet.
enum Polled {
    Request(PollWait),
    Held(HeldWait, mpsc::UnboundedReceiver<(Key, Body)>),
}

struct Trial {
    pipe: Arc<Pipe>,
    pipes: Arc<Pipes>,
    events: mpsc::UnboundedReceiver<PipeEvent>,
    /// The worker's end, until it has a connection or has let go of the session.
    relay: Option<PollingRelay>,
    is_closing: bool,
    /// What it has read, and which messages those were.
    bytes: Vec<u8>,
    heard: Vec<u32>,
    /// How many messages it has written.
    written: u32,
    /// The client's requests, and its WebSocket.
    poll: Option<Polled>,
    post: Option<Post>,
    posted: Option<oneshot::Receiver<()>>,
    probe: Option<Probe>,
    is_probed: bool,
    has_gone_over: bool,
    /// How many messages it has sent, and which of them how.
    sent: u32,
    by_posts: Vec<u32>,
    by_websocket: Vec<u32>,
    /// What has come to it.
    polled: Vec<u32>,
    over_websocket: Vec<u32>,
    is_told_the_end: bool,
    /// A connection was lost that ends the session.
    breaks: bool,
}

/// A message of this number: every fifth one is binary.
fn message(number: u32, write: impl FnOnce(Packet<'_>)) {
    let text = number.to_string();
    match number % 5 {
        0 => write(Packet::Binary(text.as_bytes())),
        _ => write(Packet::Text(Kind::Message, text.as_bytes())),
    }
}

fn number(text: &[u8]) -> u32 {
    std::str::from_utf8(text).unwrap().parse().unwrap()
}

/// Frames as the worker writes them.
fn server_frame(number: u32) -> Vec<u8> {
    let mut frame = Vec::new();
    message(number, |packet| match packet {
        Packet::Binary(data) => DIALECT.write(&mut frame, Message::Binary(data)),
        Packet::Text(kind, data) => {
            let text = [&[kind.digit()], data].concat();
            DIALECT.write(&mut frame, Message::Text(&text));
        }
    });
    frame
}

fn client_frame(out: &mut Vec<u8>, number: u32) {
    message(number, |packet| match packet {
        Packet::Binary(data) => push(out, BINARY, &[], data),
        Packet::Text(kind, data) => push(out, TEXT, &[kind.digit()], data),
    });
}

/// The messages of whole frames at the start of what a client has sent.
fn take_client_frames(bytes: &mut Vec<u8>) -> Vec<u32> {
    let mut numbers = Vec::new();
    while let [first, second, ..] = bytes[..] {
        let len = usize::from(second & 0x7f);
        assert!(len < 126 && second & 0x80 != 0);
        if bytes.len() < 6 + len {
            break;
        }
        let payload = &bytes[6..6 + len];
        numbers.push(match first & 0xf {
            BINARY => number(payload),
            _ => number(payload.strip_prefix(b"4").unwrap()),
        });
        bytes.drain(..6 + len);
    }
    numbers
}

fn server_frames(mut frames: &[u8]) -> Vec<u32> {
    let mut numbers = Vec::new();
    while let Some((opcode, payload, behind)) = sent_frame(frames) {
        frames = behind;
        match (opcode, payload) {
            (BINARY, data) => numbers.push(number(data)),
            (TEXT, b"2") => {}
            (TEXT, text) => numbers.push(number(text.strip_prefix(b"4").unwrap())),
            (opcode, _) => assert_eq!(opcode, CLOSE),
        }
    }
    assert_eq!(frames, b"");
    numbers
}

/// A TCP connection, as a WebSocket has one.
fn connection() -> TcpStream {
    static LISTENER: LazyLock<TcpListener> =
        LazyLock::new(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let client = TcpStream::connect(LISTENER.local_addr().unwrap()).unwrap();
    LISTENER.accept().unwrap();
    client
}

impl Trial {
    fn new() -> Trial {
        let (pipe, mut wait) = Pipe::new(Times::default());
        let pipes = Arc::<Pipes>::default();
        let (worker, events) = mpsc::unbounded_channel();
        pipes.insert(SESSION, pipe.clone());
        pipe.begin(SESSION, worker);
        let mut relay = PollingRelay::new(pipe.clone(), pipes.clone());
        let mut open = Vec::new();
        DIALECT.write(&mut open, Message::Text(b"0{}"));
        relay.write_all(&open).unwrap();
        assert_eq!(wait.answer.try_recv().unwrap(), b"0{}");
        drop(wait);
        Trial {
            pipe,
            pipes,
            events,
            relay: Some(relay),
            is_closing: false,
            bytes: Vec::new(),
            heard: Vec::new(),
            written: 0,
            poll: None,
            post: None,
            posted: None,
            probe: None,
            is_probed: false,
            has_gone_over: false,
            sent: 0,
            by_posts: Vec::new(),
            by_websocket: Vec::new(),
            polled: Vec::new(),
            over_websocket: Vec::new(),
            is_told_the_end: false,
            breaks: false,
        }
    }

    /// A request may be refused only then.
    fn refused(&self, why: NotTaken) {
        assert_eq!(why, NotTaken::NotPolling);
        assert!(self.ends() || self.has_gone_over);
    }

    /// Whether something has happened that ends the session.
    fn ends(&self) -> bool {
        self.breaks || self.is_closing
    }

    fn run(&mut self, operation: Operation) {
        match operation {
            Operation::Poll => self.begin_poll(),
            Operation::Fetch => drop(self.fetch()),
            Operation::LosePoll => {
                // A client waits for its answer before it goes over; one that does not may lose it, and the session goes on.
                if self.has_gone_over {
                    self.fetch();
                }
                match self.poll.take() {
                    None => {}
                    Some(Polled::Request(wait)) => {
                        drop(wait);
                        self.breaks = true;
                    }
                    Some(Polled::Held(wait, answers)) => match wait.leave() {
                        true => self.breaks = true,
                        false => {
                            self.poll = Some(Polled::Held(wait, answers));
                            assert!(self.fetch().is_some());
                        }
                    },
                }
            }
            Operation::Hold => self.hold(),
            Operation::BeginPost => {
                self.look_at_post();
                if self.post.is_none() && self.posted.is_none() {
                    match self.pipe.post() {
                        Ok(post) => self.post = Some(post),
                        Err(why) => self.refused(why),
                    }
                }
            }
            Operation::FinishPost(count) => self.finish_post(count),
            Operation::RefusePost => drop(self.post.take().map(Post::refuse)),
            Operation::LosePost => self.breaks |= self.post.take().is_some() && !self.has_gone_over,
            Operation::OpenWebSocket => {
                self.look_at_websocket();
                if self.probe.is_none() && !self.has_gone_over {
                    match self.pipe.probe() {
                        Ok(probe) => self.probe = Some(probe),
                        Err(why) => {
                            assert_eq!(why, NotTaken::NotPolling);
                            assert!(self.ends());
                        }
                    }
                    self.is_probed = false;
                }
            }
            Operation::SayProbe => self.probe(),
            Operation::SayUpgrade(count) => self.upgrade(count),
            Operation::SayNonsense => {
                if let Some(mut probe) = self.probe.take() {
                    assert!(!probe.receive(b"4x"));
                    // It is told to close, if it was not yet.
                    while probe.told_now().is_some_and(|told| told != ToProbe::Close) {}
                }
            }
            Operation::LoseWebSocket => self.probe = None,
            Operation::Work(bytes) => self.work(bytes),
            Operation::Write(count) => (0..count).for_each(|_| self.write()),
            Operation::Ping => {
                let ping = DIALECT.ping([0; 8]);
                self.write_frame(ping.as_ref());
            }
            Operation::Close => {
                let mut close = Vec::new();
                DIALECT.close(&mut close, CloseReason::Restart);
                if self.relay.is_some() && !self.is_closing {
                    self.write_frame(&close);
                    if let Some(relay) = &mut self.relay {
                        relay.finish(CloseReason::Restart);
                    }
                    self.is_closing = true;
                }
            }
        }
    }

    fn begin_poll(&mut self) {
        self.fetch();
        if self.poll.is_some() {
            return;
        }
        match self.pipe.poll() {
            Ok(wait) => self.poll = Some(Polled::Request(wait)),
            Err(why) => self.refused(why),
        }
    }

    /// Takes the answer to the poll, if it is there; the kinds of packets in it.
    fn fetch(&mut self) -> Option<Vec<Kind>> {
        let body = match self.poll.as_mut()? {
            Polled::Request(wait) => match wait.answer.try_recv() {
                Ok(body) => body,
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Closed) => panic!("a poll without an answer"),
            },
            Polled::Held(wait, answers) => {
                let (key, body) = answers.try_recv().ok()?;
                assert_eq!(key, KEY);
                assert!(!wait.leave(), "it has been answered");
                body.expect("an answer")
            }
        };
        self.poll = None;
        Some(self.take_answer(body))
    }

    fn hold(&mut self) {
        let is_request = |poll: &mut Polled| matches!(poll, Polled::Request(_));
        let Some(Polled::Request(wait)) = self.poll.take_if(is_request) else {
            return;
        };
        let (sender, mut answers) = mpsc::unbounded_channel();
        match wait.hold(HeldWaiter::new(KEY, sender)) {
            Ok(wait) => self.poll = Some(Polled::Held(wait, answers)),
            Err(body) => {
                answers.try_recv().expect_err("nobody waits there");
                self.take_answer(body.expect("an answer"));
            }
        }
    }

    /// The kinds of packets in the answer to a poll.
    fn take_answer(&mut self, mut body: Vec<u8>) -> Vec<Kind> {
        let mut kinds = Vec::new();
        for packet in Payload::new(&mut body) {
            match packet.unwrap() {
                Packet::Binary(data) => {
                    self.polled.push(number(data));
                    kinds.push(Kind::Message);
                }
                Packet::Text(kind, data) => {
                    if kind == Kind::Message {
                        self.polled.push(number(data));
                    }
                    self.is_told_the_end |= kind == Kind::Close;
                    kinds.push(kind);
                }
            }
        }
        assert!((1..=16).contains(&kinds.len()));
        assert!(!self.is_told_the_end || self.ends());
        kinds
    }

    fn look_at_post(&mut self) {
        if let Some(posted) = &mut self.posted {
            match posted.try_recv() {
                Ok(()) => self.posted = None,
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Closed) => {
                    assert!(self.ends(), "a POST that is not taken");
                    self.posted = None;
                }
            }
        }
    }

    fn finish_post(&mut self, count: usize) {
        let Some(post) = self.post.take() else {
            return;
        };
        let mut body = Vec::new();
        for _ in 0..count {
            message(self.sent, |packet| push_packet(&mut body, packet));
            self.by_posts.push(self.sent);
            self.sent += 1;
        }
        self.posted = Some(post.take(body));
    }

    /// Lets go of a WebSocket that is told to close.
    fn look_at_websocket(&mut self) {
        let Some(probe) = &mut self.probe else {
            return;
        };
        while let Some(told) = probe.told_now() {
            match told {
                ToProbe::Text(text) => assert_eq!(text, b"3probe"),
                ToProbe::Close => {
                    self.probe = None;
                    return;
                }
            }
        }
    }

    fn probe(&mut self) {
        self.look_at_websocket();
        if let Some(probe) = &mut self.probe {
            assert!(!probe.receive(b"2probe"));
            let told = probe.told_now();
            match self.is_probed {
                false => assert_eq!(told, Some(ToProbe::Text(b"3probe".into()))),
                true => assert_eq!(told, Some(ToProbe::Close), "it was probed"),
            }
            if self.is_probed {
                self.probe = None;
            }
            self.is_probed = !self.is_probed;
        }
    }

    fn upgrade(&mut self, count: usize) {
        self.look_at_websocket();
        let Some(mut probe) = self.probe.take() else {
            return;
        };
        let goes_over = probe.receive(b"5");
        assert_eq!(goes_over, self.is_probed);
        if !goes_over {
            assert_eq!(probe.told_now(), Some(ToProbe::Close));
            return;
        }
        self.has_gone_over = true;
        let mut ahead = Vec::new();
        for _ in 0..count {
            client_frame(&mut ahead, self.sent);
            self.by_websocket.push(self.sent);
            self.sent += 1;
        }
        probe.settle(connection().into(), ahead);
    }

    fn work(&mut self, bytes: usize) {
        match self.events.try_recv() {
            Ok(PipeEvent::Readable(key)) => assert_eq!(key, SESSION.key),
            Ok(PipeEvent::IsOpen(..)) => panic!("nobody asks"),
            Err(_) => return,
        }
        let Some(relay) = &mut self.relay else {
            return;
        };
        let mut buffer = vec![0; bytes];
        loop {
            match relay.read(&mut buffer) {
                Ok(0) => {
                    assert!(self.ends());
                    self.relay = None;
                    return;
                }
                Ok(count) => {
                    self.bytes.extend_from_slice(&buffer[..count]);
                    if count < bytes {
                        break;
                    }
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        if let Some(settled) = relay.settled() {
            self.relay = None;
            self.over_websocket.extend(server_frames(&settled.unsent));
            self.bytes.extend_from_slice(&settled.read_ahead);
        }
        let heard = take_client_frames(&mut self.bytes);
        // A session that is closing hears nothing.
        if !self.is_closing {
            self.heard.extend(heard);
        }
    }

    fn write(&mut self) {
        if !self.ends() && (self.relay.is_some() || self.has_gone_over) {
            let frame = server_frame(self.written);
            self.write_frame(&frame);
            self.written += 1;
        }
    }

    fn write_frame(&mut self, frame: &[u8]) {
        match &mut self.relay {
            Some(relay) => relay.write_all(frame).unwrap(),
            None if self.has_gone_over => self.over_websocket.extend(server_frames(frame)),
            None => {}
        }
    }

    /// Both go on until nothing is left to do.
    fn finish(mut self) {
        self.finish_post(1);
        for _ in 0..1000 {
            self.work(64);
            self.look_at_post();
        }
        assert!(self.posted.is_none(), "a POST waits for ever");
        let mut is_over = self.has_gone_over;
        while !is_over {
            self.begin_poll();
            match self.fetch() {
                // Nothing is there, or nothing will be.
                None => break,
                Some(kinds) => is_over = kinds == [Kind::Noop],
            }
        }
        for _ in 0..10 {
            self.work(64);
        }
        if self.has_gone_over {
            self.fetch();
            assert!(self.poll.is_none(), "a poll that is not released");
            assert!(self.relay.is_none(), "the worker has no connection");
        }
        let sent = [&self.by_posts[..], &self.by_websocket].concat();
        let written: Vec<_> = (0..self.written).collect();
        let received = [&self.polled[..], &self.over_websocket].concat();
        match self.ends() {
            false => {
                assert_eq!(self.heard, sent);
                assert_eq!(received, written);
            }
            true => {
                assert!(sent.starts_with(&self.heard), "{:?}", self.heard);
                assert!(written.starts_with(&received), "{received:?}");
            }
        }
        // What was queued when the worker closed it comes before that.
        if self.is_told_the_end && !self.breaks {
            assert_eq!(received, written);
        }
        if self.pipe.live().is_none() {
            assert!(self.relay.is_none(), "the worker does not know of the end");
        }
        // The worker lets go of it.
        self.breaks = true;
        self.relay = None;
        self.fetch();
        assert!(self.poll.is_none(), "a poll waits for ever");
        self.look_at_websocket();
        assert!(self.probe.is_none(), "a WebSocket waits for ever");
        assert!(self.pipes.get(SESSION).is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_goes_in_comes_out_once_and_in_order(operations in vec(operation(), 0..120)) {
        let mut trial = Trial::new();
        for operation in operations {
            trial.run(operation);
        }
        trial.finish();
    }

    #[test]
    fn nobody_is_left_waiting_whatever_ends_a_session(operations in vec(any_operation(), 0..120)) {
        let mut trial = Trial::new();
        for operation in operations {
            trial.run(operation);
        }
        trial.finish();
    }
}
