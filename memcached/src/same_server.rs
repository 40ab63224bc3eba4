//! Whether a connection leads to the server that the probe asks. One name, or a balancer, may have several
//! behind it: what one of them is told, the others don't know.

use std::sync::Arc;

use presenced_protocol::{Key, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::MemcachedError;
use super::node::{Elsewhere, Node};
use super::stream::Stream;
use super::values::{Progress, Values};

/// Asks for the process's sentinel, which the probe has put on its server. If it is not there, the result
/// says so to the node as long as it lives.
///
/// # Errors
///
/// If the connection ends, or the answer does not fit.
pub(super) async fn check(
    stream: &mut Stream,
    node: &Arc<Node>,
) -> Result<Option<Elsewhere>, MemcachedError> {
    let limit = node.timeout();
    let checking = async {
        // Without the probe there is nothing to tell it by.
        let known = timeout(limit, node.sentinel()).await;
        let Some((key, number)) = known.ok().flatten() else {
            return Ok(None);
        };
        let key = Key::new(key.as_bytes()).map_err(|_| FOREIGN)?;
        let is_there = has(stream, key).await?;
        Ok((!is_there).then(|| Elsewhere::new(node, number)))
    };
    match timeout(2 * limit, checking).await {
        Ok(checked) => checked,
        Err(_) => Err(MemcachedError::Timeout(limit)),
    }
}

const FOREIGN: MemcachedError = MemcachedError::OutOfStep("not an answer to a get");

async fn has(stream: &mut Stream, key: Key<'_>) -> Result<bool, MemcachedError> {
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
        match values.read(&buffer, |_, _| is_there = true) {
            Ok(Progress::Part(taken)) => drop(buffer.drain(..taken)),
            Ok(Progress::Whole) => return Ok(is_there),
            Err(why) => return Err(MemcachedError::OutOfStep(why)),
        }
    }
}
