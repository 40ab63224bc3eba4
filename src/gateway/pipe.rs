//! What relays the frames of a session that polls: between the worker that has the session, and the requests of its
//! client, which may come to any worker.
//!
//! The worker knows nothing of polling. It reads frames, as a client on a WebSocket would have sent them, and writes
//! frames, whose packets wait here for the next poll. How packets travel, and when the client goes over to a WebSocket,
//! [`Transport`] knows; the lock is held for no longer than it takes to ask it.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::mem;
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use presenced_presence::SessionId;
use presenced_session::close_reason::CloseReason;
use presenced_session::connection::Connection;
use presenced_session::dialect::Dialect;
use presenced_session::relay::{Relay, Settled};
use presenced_session::service::{Message, Then};
use presenced_session::slab::SessionKey;
use presenced_socketio::End;
use presenced_socketio::engine::{
    Admission, Kind, Live, Output, Packet, Payload, SEPARATOR, Sent, Times, Transport, Via,
};
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::client_dialect::ClientDialect;
use super::held_waiter::HeldWaiter;

/// What the sessions speak.
const DIALECT: ClientDialect = ClientDialect::SocketIo;

/// The pipes of all sessions that poll: a request may come to any worker.
#[derive(Debug, Default)]
pub struct Pipes(Mutex<HashMap<SessionId, Arc<Pipe>>>);

impl Pipes {
    /// A session that polls has begun.
    pub(super) fn insert(&self, session: SessionId, pipe: Arc<Pipe>) {
        self.lock().insert(session, pipe);
    }

    /// That of a session.
    pub(super) fn get(&self, session: SessionId) -> Option<Arc<Pipe>> {
        self.lock().get(&session).cloned()
    }

    fn remove(&self, session: SessionId) {
        self.lock().remove(&session);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Pipe>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the worker of a session hears of its requests.
#[derive(Debug)]
pub enum PipeEvent {
    /// There is something to read from the session's relay.
    Readable(SessionKey),
    /// A request asks whether the session is open; it is answered if so.
    IsOpen(SessionKey, oneshot::Sender<()>),
}

impl PipeEvent {
    /// Which session it is about.
    pub fn key(&self) -> SessionKey {
        match self {
            PipeEvent::Readable(key) | PipeEvent::IsOpen(key, _) => *key,
        }
    }

    /// Does what it asks for of a session that is there, but for what the worker does.
    pub fn then(self) -> Then {
        match self {
            PipeEvent::Readable(_) => Then::Read,
            PipeEvent::IsOpen(_, asks) => {
                // Whoever asked may be gone.
                let _ = asks.send(());
                Then::Nothing
            }
        }
    }
}

/// Between a session that polls and its client's requests.
#[derive(Debug)]
pub struct Pipe {
    state: Mutex<State>,
    times: Times,
    /// The session, once it has begun, and its worker.
    owner: OnceLock<(SessionId, mpsc::UnboundedSender<PipeEvent>)>,
}

#[derive(Debug)]
struct State {
    transport: Transport,
    /// The body of a POST, and how much of it has become frames.
    body: Vec<u8>,
    done: usize,
    /// The frame of a packet of it, and how much of that was read.
    frame: Vec<u8>,
    taken: usize,
    /// A POST is under way; who waits until its packets are read.
    is_posting: bool,
    /// The worker has ended the session, and reads no more packets.
    is_finished: bool,
    /// The client has said that it leaves.
    has_left: bool,
    posted: Option<oneshot::Sender<()>>,
    /// The same, of one that is no packet.
    refused: Option<oneshot::Sender<()>>,
    poll: Option<Waiter>,
    /// The WebSocket that the client may go over to.
    probe: Option<mpsc::UnboundedSender<ToProbe>>,
    /// The WebSocket that it has gone over to, what was read from it, and frames for it.
    connection: Option<(Connection<TcpStream>, Vec<u8>)>,
    unsent: Vec<u8>,
    /// The worker was woken, and has not read since.
    is_woken: bool,
}

/// Who waits for the answer to a poll.
#[derive(Debug)]
enum Waiter {
    /// The request, which may be answered at once.
    Request(oneshot::Sender<Vec<u8>>),
    /// Its connection, without a request under way.
    Held(HeldWaiter),
}

impl Waiter {
    /// Tells it the answer; gives that back if nobody waits any more.
    fn send(self, body: Vec<u8>) -> Result<(), Vec<u8>> {
        match self {
            Waiter::Request(request) => request.send(body),
            Waiter::Held(held) => held.send(body),
        }
    }

    /// Whether it is a request that has gone.
    fn is_gone(&self) -> bool {
        match self {
            Waiter::Request(request) => request.is_closed(),
            Waiter::Held(_) => false,
        }
    }
}

/// What the WebSocket is told that a client may go over to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ToProbe {
    /// To send this packet.
    Text(Vec<u8>),
    /// To close.
    Close,
}

/// Why a request of a session is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// The session has no use for it.
    NotPolling,
    /// It has ended the session: there may not be two at once.
    Second,
}

impl Pipe {
    /// Of a session that begins with a poll, which waits for the open packet.
    pub(super) fn new(times: Times) -> (Arc<Pipe>, PollWait) {
        let pipe = Arc::new(Pipe {
            state: Mutex::new(State {
                transport: Transport::polling(),
                body: Vec::new(),
                done: 0,
                frame: Vec::new(),
                taken: 0,
                is_posting: false,
                is_finished: false,
                has_left: false,
                posted: None,
                refused: None,
                poll: None,
                probe: None,
                connection: None,
                unsent: Vec::new(),
                is_woken: false,
            }),
            times,
            owner: OnceLock::new(),
        });
        let mut state = pipe.lock();
        // It is the first.
        let _ = state.transport.poll();
        let wait = pipe.wait(&mut state);
        drop(state);
        (pipe, wait)
    }

    /// The session has begun.
    pub(super) fn begin(&self, session: SessionId, worker: mpsc::UnboundedSender<PipeEvent>) {
        // It begins once.
        let _ = self.owner.set((session, worker));
        self.flush(&mut self.lock());
    }

    /// What requests of the session are to know; `None` once it is over.
    pub(super) fn live(&self) -> Option<Live> {
        self.lock().transport.live()
    }

    /// A poll has come.
    pub(super) fn poll(self: &Arc<Self>) -> Result<PollWait, NotTaken> {
        let mut state = self.lock();
        match state.transport.poll() {
            Ok(Admission::Taken) => {}
            Ok(Admission::NotPolling) => return Err(NotTaken::NotPolling),
            Err(_) => {
                self.flush(&mut state);
                return Err(NotTaken::Second);
            }
        }
        let wait = self.wait(&mut state);
        self.flush(&mut state);
        Ok(wait)
    }

    /// The wait for the answer to a poll that was taken.
    fn wait(self: &Arc<Self>, state: &mut State) -> PollWait {
        let (poll, answer) = oneshot::channel();
        state.poll = Some(Waiter::Request(poll));
        PollWait {
            pipe: self.clone(),
            answer,
        }
    }

    /// The head of a POST has come.
    pub(super) fn post(self: &Arc<Self>) -> Result<Post, NotTaken> {
        let mut state = self.lock();
        match state.transport.post() {
            Ok(Admission::Taken) => {}
            Ok(Admission::NotPolling) => return Err(NotTaken::NotPolling),
            Err(_) => {
                self.flush(&mut state);
                return Err(NotTaken::Second);
            }
        }
        state.is_posting = true;
        drop(state);
        Ok(Post {
            pipe: self.clone(),
            is_coming: true,
        })
    }

    /// A WebSocket is opened for the session, if it has a use for one.
    pub(super) fn probe(self: &Arc<Self>) -> Result<Probe, NotTaken> {
        let mut state = self.lock();
        // Whoever opens it looks at the clock.
        if !state.transport.open_websocket(Duration::ZERO, &self.times) {
            return Err(NotTaken::NotPolling);
        }
        let (sender, told) = mpsc::unbounded_channel();
        state.probe = Some(sender);
        drop(state);
        Ok(Probe {
            pipe: self.clone(),
            told,
            is_settled: false,
        })
    }

    /// The session ends because of a request that it must not have.
    pub(super) fn end(&self, end: End) {
        let mut state = self.lock();
        state.transport.end(end);
        self.flush(&mut state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the worker: there is something to read.
    fn wake(&self, state: &mut State) {
        if let Some((session, worker)) = self.owner.get()
            && !mem::replace(&mut state.is_woken, true)
        {
            // If the worker is gone, so is the session.
            let _ = worker.send(PipeEvent::Readable(session.key));
        }
    }

    /// Does what the transport says.
    fn flush(&self, state: &mut State) {
        loop {
            let mut out = Vec::new();
            match state.transport.output(&mut out) {
                None => break,
                Some(Output::AnswerPoll) => {
                    let sent = state.poll.take().map(|poll| poll.send(out));
                    if let Some(Err(lost)) = sent {
                        state.lose(&lost);
                    }
                }
                Some(Output::Text) => match &state.probe {
                    Some(probe) => drop(probe.send(ToProbe::Text(out))),
                    None => DIALECT.write(&mut state.unsent, Message::Text(&out)),
                },
                // Nothing binary is said before the client has gone over.
                Some(Output::Binary) => DIALECT.write(&mut state.unsent, Message::Binary(&out)),
                Some(Output::CloseWebSocket) => {
                    if let Some(probe) = state.probe.take() {
                        // It may have gone by itself.
                        let _ = probe.send(ToProbe::Close);
                    }
                }
            }
        }
        if state.transport.live().is_none() {
            self.wake(state);
        }
    }
}

impl State {
    /// The client has not got this answer to its poll. Packets that are lost end its session.
    fn lose(&mut self, answer: &[u8]) {
        if answer != [Kind::Noop.digit()] {
            self.transport.end(End::Gone);
        }
    }

    /// Makes a frame of the next packet of the POST that is read, if there is one.
    fn next_packet(&mut self) -> bool {
        if self.posted.is_none() || self.done > self.body.len() {
            return false;
        }
        self.frame.clear();
        self.taken = 0;
        let rest = &mut self.body[self.done..];
        let end = memchr::memchr(SEPARATOR, rest).unwrap_or(rest.len());
        // One more than there is, behind the last.
        self.done += end + 1;
        match Payload::new(&mut rest[..end]).next() {
            Some(Ok(Packet::Binary(data))) => push(&mut self.frame, BINARY, &[], data),
            Some(Ok(Packet::Text(kind, data))) => {
                self.has_left |= kind == Kind::Close;
                push(&mut self.frame, TEXT, &[kind.digit()], data);
            }
            Some(Err(_)) | None => {
                // No packet is empty, and so this ends the session. Who has posted it is refused then, and not sooner.
                self.refused = self.posted.take();
                push(&mut self.frame, TEXT, &[], &[]);
            }
        }
        true
    }
}

/// A poll that waits. If it is dropped before its answer has come, its client is gone.
#[derive(Debug)]
pub(super) struct PollWait {
    pipe: Arc<Pipe>,
    /// The answer's body.
    pub(super) answer: oneshot::Receiver<Vec<u8>>,
}

impl PollWait {
    /// From now on the answer goes to `waiter`.
    ///
    /// # Errors
    ///
    /// The answer has come, or there will be none.
    pub(super) fn hold(mut self, waiter: HeldWaiter) -> Result<HeldWait, Option<Vec<u8>>> {
        let pipe = self.pipe.clone();
        let mut state = pipe.lock();
        match self.answer.try_recv() {
            Err(TryRecvError::Empty) => state.poll = Some(Waiter::Held(waiter)),
            Ok(body) => {
                waiter.leave();
                return Err(Some(body));
            }
            Err(TryRecvError::Closed) => {
                waiter.leave();
                return Err(None);
            }
        }
        drop(state);
        Ok(HeldWait(pipe))
    }
}

impl Drop for PollWait {
    fn drop(&mut self) {
        let mut state = self.pipe.lock();
        self.answer.close();
        if let Ok(lost) = self.answer.try_recv() {
            state.lose(&lost);
        } else if state.poll.as_ref().is_some_and(Waiter::is_gone) {
            state.poll = None;
            // The session ends, or has ended.
            let _ = state.transport.poll_gone();
        } else {
            return;
        }
        self.pipe.flush(&mut state);
    }
}

/// The wait of a poll that is held.
#[derive(Debug)]
pub(super) struct HeldWait(Arc<Pipe>);

impl HeldWait {
    /// Its client is gone; false if the answer has come before.
    pub(super) fn leave(&self) -> bool {
        let mut state = self.0.lock();
        let Some(Waiter::Held(waiter)) = state.poll.take_if(|poll| matches!(poll, Waiter::Held(_)))
        else {
            return false;
        };
        waiter.leave();
        // The session ends, or has ended.
        let _ = state.transport.poll_gone();
        self.0.flush(&mut state);
        true
    }
}

/// A POST whose body comes. If it is dropped before that, its client is gone.
#[derive(Debug)]
pub(super) struct Post {
    pipe: Arc<Pipe>,
    is_coming: bool,
}

impl Post {
    /// Its body has come. The packets in it are read when what is returned is told so.
    pub(super) fn take(mut self, body: Vec<u8>) -> oneshot::Receiver<()> {
        self.is_coming = false;
        let (posted, done) = oneshot::channel();
        let mut state = self.pipe.lock();
        if state.is_finished || state.transport.live().is_none() {
            state.is_posting = false;
            state.transport.post_done();
            // The WebSocket may have waited for it.
            self.pipe.wake(&mut state);
            // Nobody is going to read them.
            return done;
        }
        (state.body, state.done) = (body, 0);
        state.posted = Some(posted);
        self.pipe.wake(&mut state);
        done
    }

    /// Its body is refused; the session goes on.
    pub(super) fn refuse(mut self) {
        self.is_coming = false;
        let mut state = self.pipe.lock();
        state.is_posting = false;
        state.transport.post_done();
        self.pipe.wake(&mut state);
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        if !self.is_coming {
            return;
        }
        let mut state = self.pipe.lock();
        state.is_posting = false;
        // The session ends, or has gone over to a WebSocket, which has waited for this.
        let _ = state.transport.post_gone();
        self.pipe.flush(&mut state);
        self.pipe.wake(&mut state);
    }
}

/// A WebSocket that a client may go over to. If it is dropped before that, it is closed.
#[derive(Debug)]
pub struct Probe {
    pipe: Arc<Pipe>,
    told: mpsc::UnboundedReceiver<ToProbe>,
    is_settled: bool,
}

impl Probe {
    /// What it is told next.
    pub(super) async fn told(&mut self) -> ToProbe {
        self.told.recv().await.unwrap_or(ToProbe::Close)
    }

    /// What it has been told.
    pub(super) fn told_now(&mut self) -> Option<ToProbe> {
        self.told.try_recv().ok()
    }

    /// A text message has come; true if the client has gone over to the WebSocket.
    pub(super) fn receive(&mut self, text: &[u8]) -> bool {
        let mut state = self.pipe.lock();
        // It has no say in the session yet.
        let _ = state
            .transport
            .receive(Via::WebSocket, Packet::from_text(text));
        let has_gone_over =
            state.probe.is_some() && state.transport.live() == Some(Live::WebSocket);
        if has_gone_over {
            // What is sent from now on waits for the worker.
            state.probe = None;
        }
        self.pipe.flush(&mut state);
        has_gone_over
    }

    /// The client has gone over to `connection`, from which `ahead` was read.
    pub(super) fn settle(mut self, connection: Connection<TcpStream>, ahead: Vec<u8>) {
        self.is_settled = true;
        let mut state = self.pipe.lock();
        state.connection = Some((connection, ahead));
        self.pipe.wake(&mut state);
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        let mut state = self.pipe.lock();
        state.probe = None;
        // The session polls on, or has ended with it.
        let _ = state.transport.websocket_gone();
        self.pipe.flush(&mut state);
    }
}

/// The worker's end of a [`Pipe`].
#[derive(Debug)]
pub struct PollingRelay {
    pipe: Arc<Pipe>,
    pipes: Arc<Pipes>,
}

impl PollingRelay {
    /// Of a pipe that `pipes` has until this is dropped.
    pub(super) fn new(pipe: Arc<Pipe>, pipes: Arc<Pipes>) -> PollingRelay {
        PollingRelay { pipe, pipes }
    }
}

impl Read for PollingRelay {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.pipe.lock();
        state.is_woken = false;
        let mut count = 0;
        while count < buffer.len() && (state.taken < state.frame.len() || state.next_packet()) {
            let rest = &state.frame[state.taken..];
            let copied = rest.len().min(buffer.len() - count);
            buffer[count..count + copied].copy_from_slice(&rest[..copied]);
            count += copied;
            state.taken += copied;
        }
        let is_read = state.taken == state.frame.len() && state.done > state.body.len();
        if is_read && let Some(posted) = state.posted.take() {
            (state.body, state.frame, state.taken) = (Vec::new(), Vec::new(), 0);
            state.is_posting = false;
            state.transport.post_done();
            // Its client may be gone.
            let _ = posted.send(());
        }
        let is_over = state.transport.live().is_none();
        if count > 0 && is_over {
            // The end is read next.
            self.pipe.wake(&mut state);
        }
        match count {
            0 if is_over => Ok(0),
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Write for PollingRelay {
    fn write(&mut self, frames: &[u8]) -> io::Result<usize> {
        let mut state = self.pipe.lock();
        let mut rest = frames;
        while let Some((opcode, payload, behind)) = sent_frame(rest) {
            let frame = &rest[..rest.len() - behind.len()];
            rest = behind;
            let is_on_websocket =
                state.probe.is_none() && state.transport.live() == Some(Live::WebSocket);
            let sent = match (opcode, Packet::from_text(payload)) {
                (TEXT, Ok(Packet::Text(Kind::Ping, _))) => state.transport.ping(&self.pipe.times),
                (TEXT, Ok(packet)) => state.transport.send(packet, &self.pipe.times),
                (BINARY, _) => {
                    let packet = Packet::Binary(payload);
                    state.transport.send(packet, &self.pipe.times)
                }
                (CLOSE, _) if is_on_websocket => {
                    self.pipe.flush(&mut state);
                    Ok(Sent::Direct)
                }
                // A close, which follows when the session finishes, and answers to frames of a WebSocket, of which
                // there are none.
                _ => Ok(Sent::Dropped),
            };
            match sent {
                Ok(Sent::Direct) => state.unsent.extend_from_slice(frame),
                Ok(Sent::Queued | Sent::Dropped) => self.pipe.flush(&mut state),
                Err(_) => {
                    self.pipe.flush(&mut state);
                    return Err(io::ErrorKind::QuotaExceeded.into());
                }
            }
        }
        Ok(frames.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Relay<TcpStream> for PollingRelay {
    fn finish(&mut self, end: CloseReason) {
        let mut state = self.pipe.lock();
        state.is_finished = true;
        if state.posted.take().is_some() {
            // Nobody is going to read the rest of it.
            (state.body, state.frame, state.taken) = (Vec::new(), Vec::new(), 0);
            state.is_posting = false;
            state.transport.post_done();
        }
        if state.transport.live() == Some(Live::WebSocket) {
            // The frames are for that.
        } else if lets_poll_once_more(end) {
            state.transport.close(Duration::ZERO, &self.pipe.times);
        } else {
            state.transport.end(End::ByServer);
        }
        state.refused = None;
        self.pipe.flush(&mut state);
    }

    fn settled(&mut self) -> Option<Settled<TcpStream>> {
        let mut state = self.pipe.lock();
        // What a POST brings comes before what the WebSocket does; and what was lost on the way is not made up for.
        if state.is_posting || state.transport.live().is_none() {
            return None;
        }
        let (connection, read_ahead) = state.connection.take()?;
        self.pipe.flush(&mut state);
        Some(Settled {
            connection,
            read_ahead,
            unsent: mem::take(&mut state.unsent),
        })
    }
}

impl Drop for PollingRelay {
    fn drop(&mut self) {
        if let Some((session, _)) = self.pipe.owner.get() {
            self.pipes.remove(*session);
        }
        let mut state = self.pipe.lock();
        (state.posted, state.refused) = (None, None);
        let end = match state.has_left {
            true => End::Closed,
            false => End::ByServer,
        };
        state.transport.end(end);
        self.pipe.flush(&mut state);
    }
}

/// Whether the next poll is still answered, so that the client hears of an end that is no fault of its own, and of what
/// was said before. After any other end, requests find no session.
fn lets_poll_once_more(end: CloseReason) -> bool {
    matches!(
        end,
        CloseReason::Replaced
            | CloseReason::TokenRevoked
            | CloseReason::TokenExpired
            | CloseReason::OtherUser
            | CloseReason::Overloaded
            | CloseReason::Restart
            | CloseReason::Internal
    )
}

/// Opcodes of RFC 6455 §5.2.
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;

/// Appends a frame as a client would send it, masked with zeros.
fn push(out: &mut Vec<u8>, opcode: u8, digit: &[u8], data: &[u8]) {
    let len = digit.len() + data.len();
    out.push(0x80 | opcode);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ 0..126), _) => out.push(0x80 | len),
        (_, Ok(len)) => {
            out.push(0x80 | 126);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(digit);
    out.extend_from_slice(data);
}

/// The first frame of those that a worker sends, what it bears, and what is behind it; `None` behind the last.
fn sent_frame(frames: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[first, second], rest) = frames.split_first_chunk()?;
    let (len, rest) = match second {
        126 => {
            let (len, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*len)), rest)
        }
        127 => {
            let (len, rest) = rest.split_first_chunk()?;
            (usize::try_from(u64::from_be_bytes(*len)).ok()?, rest)
        }
        len => (usize::from(len), rest),
    };
    let (payload, behind) = rest.split_at_checked(len)?;
    Some((first & 0xf, payload, behind))
}

#[cfg(test)]
mod tests;
