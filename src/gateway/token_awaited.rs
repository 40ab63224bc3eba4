//! A connection that was upgraded without a token: waits until its first message shows one
//! ([`first_message`](super::first_message)).
//!
//! It is no session until then, but an HTTP connection whose peer keeps it waiting. It has its place, and leaves
//! for others like one whose head does not come.

use std::io;

use presenced_session::Seat;
use presenced_session::limits::CLOSE_TIMEOUT;
use tokio::time::sleep;

use super::Gateway;
use super::caller::Caller;
use super::first_message::{FirstMessage, Step};
use super::handshake::let_in;
use super::parting::part_with_place;
use super::places::Standing;
use super::refusal::{MessageFault, Refusal};
use super::refused_session::append_close;
use super::shared_places::Place;
use super::socket::Socket;
use crate::limits::FIRST_MESSAGE_TIME;
use crate::tokens::Identity;

/// Waits for the token. Returns the user, a seat for the session, and the connection, with what came behind the
/// token; `None` if it was closed, after it had been told why.
pub(super) async fn wait(
    mut socket: Socket,
    place: &Place,
    caller: Caller,
    gateway: &Gateway,
) -> Option<(Socket, Identity, Seat)> {
    place.stands(Standing::Awaited);
    let mut out = Vec::new();
    let shown = tokio::select! {
        biased;
        read = read(&mut socket, gateway, &mut out) => match read {
            Ok(step) => step.map_err(Refusal::from),
            // The peer is gone.
            Err(_) => return None,
        },
        () = gateway.seats.closed() => Err(Refusal::Draining),
        () = place.evicted() => Err(Refusal::Busy),
        () = sleep(FIRST_MESSAGE_TIME) => Err(Refusal::TokenMissing),
    };
    let let_in = match shown {
        Ok(Step::Token(token)) => {
            place.stands(Standing::Served);
            // What is in force now, as for a handshake that comes now.
            let_in(&token, Some(caller), gateway, &gateway.live.get()).await
        }
        Ok(Step::Wait | Step::Left) => {
            part_with_place(socket, &out, place, CLOSE_TIMEOUT).await;
            return None;
        }
        Err(refusal) => Err(refusal),
    };
    let refusal = match let_in {
        Ok((identity, seat)) => {
            socket.say(&out).ok()?;
            return Some((socket, identity, seat));
        }
        Err(refusal) => refusal,
    };
    place.stands(Standing::Awaited);
    gateway.refused(refusal, Some(caller));
    append_close(&mut out, refusal);
    part_with_place(socket, &out, place, CLOSE_TIMEOUT).await;
    None
}

/// Reads the first message; what is left in `out` is still to be said.
async fn read(
    socket: &mut Socket,
    gateway: &Gateway,
    out: &mut Vec<u8>,
) -> io::Result<Result<Step, MessageFault>> {
    let mut message = FirstMessage::new(gateway.live.get().auth.token_bytes_max());
    loop {
        match message.read(socket.ahead_mut(), out) {
            Ok(Step::Wait) => {
                socket.say(out)?;
                out.clear();
                socket.read_ahead().await?;
            }
            step => return Ok(step),
        }
    }
}
