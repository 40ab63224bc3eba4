//! A WebSocket that a client which polls tries, so as to go over to it (Engine.IO's upgrade). It is no session until
//! then, but an HTTP connection whose peer keeps it waiting.

use std::io;

use presenced_session::close_reason::CloseReason;
use presenced_session::dialect::Dialect;
use presenced_session::frame::{close_code, decode, encode_close, encode_close_echo, encode_pong};
use presenced_session::frame_header::{HeaderCheck, Opcode, check};
use presenced_session::limits::CLOSE_TIMEOUT;
use presenced_session::service::Message;
use tokio::time::{Duration, sleep};

use super::client_dialect::ClientDialect;
use super::parting::part_with_place;
use super::pipe::{Probe, ToProbe};
use super::places::Standing;
use super::shared_places::Place;
use super::socket::Socket;

/// What a client sends in an upgrade is `2probe` and `5`; RFC 6455's control frames are no longer than this.
const PAYLOAD_BYTES_MAX: usize = 125;

/// Serves the WebSocket until the client has gone over to it, or `time` is over.
pub(super) async fn serve(mut socket: Socket, place: &Place, mut probe: Probe, time: Duration) {
    place.stands(Standing::Awaited);
    let mut out = Vec::new();
    let end = {
        let serve = async {
            loop {
                match step(&mut socket, &mut probe, &mut out).await {
                    Ok(Step::More) => {}
                    Ok(step) => break Some(step),
                    // The peer is gone.
                    Err(_) => break None,
                }
            }
        };
        tokio::select! {
            biased;
            end = serve => end,
            () = place.evicted() => Some(Step::Close(CloseReason::Overloaded)),
            () = sleep(time) => Some(Step::Close(CloseReason::ConnectTimeout)),
        }
    };
    match end {
        None | Some(Step::More) => {}
        Some(Step::GoneOver) => {
            if let Ok((connection, ahead)) = socket.into_connection() {
                probe.settle(connection, ahead);
            }
        }
        Some(Step::Left) => part_with_place(socket, &out, place, CLOSE_TIMEOUT).await,
        Some(Step::Close(reason)) => {
            drop(probe);
            ClientDialect::SocketIo.close(&mut out, reason);
            part_with_place(socket, &out, place, CLOSE_TIMEOUT).await;
        }
        Some(Step::Done) => {
            encode_close(&mut out, 1000, "");
            part_with_place(socket, &out, place, CLOSE_TIMEOUT).await;
        }
    }
}

enum Step {
    More,
    /// The client has gone over to the WebSocket.
    GoneOver,
    /// The client has closed it.
    Left,
    /// The session has no use for it any more.
    Done,
    /// The client has broken a rule.
    Close(CloseReason),
}

/// Handles the frames that are there, says what is to be said, or waits for either.
async fn step(socket: &mut Socket, probe: &mut Probe, out: &mut Vec<u8>) -> io::Result<Step> {
    let step = frames(socket.ahead_mut(), probe, out);
    socket.say(out)?;
    out.clear();
    match step {
        Ok(Step::More) => {}
        Ok(step) => return Ok(step),
        Err(reason) => return Ok(Step::Close(reason)),
    }
    tokio::select! {
        biased;
        told = probe.told() => if !says(told, out) {
            return Ok(Step::Done);
        },
        read = socket.read_ahead() => read?,
    }
    Ok(Step::More)
}

/// False if it is told to close.
fn says(told: ToProbe, out: &mut Vec<u8>) -> bool {
    match told {
        ToProbe::Text(packet) => {
            ClientDialect::SocketIo.write(out, Message::Text(&packet));
            true
        }
        ToProbe::Close => false,
    }
}

fn frames(input: &mut Vec<u8>, probe: &mut Probe, out: &mut Vec<u8>) -> Result<Step, CloseReason> {
    let mut taken = 0;
    let step = loop {
        let header = match check(&input[taken..], PAYLOAD_BYTES_MAX) {
            HeaderCheck::Refused(reason) => break Err(reason),
            HeaderCheck::Partial => break Ok(Step::More),
            HeaderCheck::Frame(header) => header,
        };
        let frame = &mut input[taken..taken + header.frame_bytes];
        taken += header.frame_bytes;
        let payload = decode(header, frame)?;
        match header.opcode {
            Opcode::Pong => {}
            Opcode::Ping => encode_pong(out, payload),
            Opcode::Close => {
                encode_close_echo(out, close_code(payload)?);
                break Ok(Step::Left);
            }
            Opcode::Text if header.fin => {
                let has_gone_over = probe.receive(payload);
                // What it is told by that comes before what it says next.
                while let Some(told) = probe.told_now() {
                    if !says(told, out) {
                        return Ok(Step::Done);
                    }
                }
                if has_gone_over {
                    break Ok(Step::GoneOver);
                }
            }
            // Nothing that a client says in an upgrade is binary, or long enough to have parts.
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                break Err(CloseReason::Protocol);
            }
        }
    };
    input.drain(..taken);
    step
}
