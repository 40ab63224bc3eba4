//! Whether a connection that writes leads to the server that the probe asks. One name, or a
//! balancer, may have several behind it: what one of them is told, the others don't know. A look-up
//! asks for the sentinel itself, in each command.

use std::sync::Arc;

use presenced_protocol::{Key, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::MemcachedError;
use super::misfit::Misfit;
use super::node::{Node, Up, sentinel_value};
use super::stream::Stream;
use super::values::{Progress, Values};

/// What a connection was found to lead to.
#[derive(Debug)]
pub(super) struct Checked {
    /// The number of the sentinel that was asked for; `None` if there was none to ask for.
    pub(super) sentinel: Option<u64>,
    /// It was not there: said to the node as long as the connection is up.
    _elsewhere: Option<Up>,
}

/// Asks for the process's sentinel, which the probe has put on its server.
///
/// # Errors
///
/// If the connection ends, or the answer does not fit.
pub(super) async fn check(
    stream: &mut Stream,
    node: &Arc<Node>,
) -> Result<Checked, MemcachedError> {
    let limit = node.timeout();
    // Without the probe there is nothing to tell it by.
    node.note_greeting();
    let sentinel = timeout(limit, node.sentinel()).await.ok().flatten();
    let (Some(key), Some(number)) = (node.sentinel_key(), sentinel) else {
        return Ok(Checked {
            sentinel: None,
            _elsewhere: None,
        });
    };
    let key = Key::new(key.as_bytes()).map_err(|_| FOREIGN)?;
    let is_there = timeout(limit, has(stream, key, &sentinel_value(number))).await;
    let is_there = is_there.unwrap_or(Err(MemcachedError::Timeout(limit)))?;
    Ok(Checked {
        sentinel,
        _elsewhere: (!is_there).then(|| node.writes_elsewhere()),
    })
}

const FOREIGN: MemcachedError =
    MemcachedError::OutOfStep(Misfit::unquoted("not an answer to a get"));

async fn has(stream: &mut Stream, key: Key<'_>, wanted: &[u8]) -> Result<bool, MemcachedError> {
    let mut buffer = Vec::new();
    encode::get(&mut buffer, [key]);
    stream.write_all(&buffer).await?;
    stream.flush().await?;
    buffer.clear();
    let keys = [key];
    let (mut values, mut is_there) = (Values::new(&keys), false);
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(MemcachedError::Closed);
        }
        match values.read(&buffer, |_, value| is_there = value == Some(wanted)) {
            Ok(Progress::Part(taken)) => drop(buffer.drain(..taken)),
            Ok(Progress::Whole(_)) => return Ok(is_there),
            Err(misfit) => return Err(MemcachedError::OutOfStep(misfit)),
        }
    }
}
