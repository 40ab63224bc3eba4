//! How each connection begins: is that a memcached, and does it let us in?

use presenced_protocol::reply::{self, Reply};
use presenced_protocol::{Key, Limits, Request, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::MemcachedError;
use super::misfit::Misfit;
use super::node::Node;
use super::pipeline::WriteCommand;
use super::stream::Stream;

/// `protocol.txt`, *Meta No-Op*.
pub(super) const META_NOOP: &[u8] = b"mn\r\n";

/// Says that we are there: `version`, and waits for its answer. A memcached that wants to know who
/// we are says so then, and is told; one that does not would take the password for an entry and
/// show it to all.
pub(super) async fn greet(stream: &mut Stream, node: &Node) -> Result<(), MemcachedError> {
    let greeting = async {
        match ask_version(stream).await? {
            Greeting::Version if node.credentials().is_some() => node.asks_for_no_credentials(),
            Greeting::Version => {}
            Greeting::Unauthenticated => {
                authenticate(stream, node).await?;
                if ask_version(stream).await? != Greeting::Version {
                    return Err(MemcachedError::Greeting(Misfit::unquoted(
                        "memcached took our user and password, and asks for them again",
                    )));
                }
            }
        }
        match node.write_command() {
            WriteCommand::Ms => ask_meta(stream).await,
            WriteCommand::Set => Ok(()),
        }
    };
    let limit = node.timeout();
    match timeout(limit, greeting).await {
        Ok(greeted) => greeted,
        Err(_) => Err(MemcachedError::Timeout(limit)),
    }
}

/// What `version` is answered with.
#[derive(PartialEq, Eq)]
enum Greeting {
    Version,
    /// `CLIENT_ERROR unauthenticated`; the connection stays usable.
    Unauthenticated,
}

async fn ask_version(stream: &mut Stream) -> Result<Greeting, MemcachedError> {
    const NO_GREETING: &str = "not a memcached that answers version";
    let mut command = Vec::new();
    encode::request(&mut command, &Request::Version);
    let said = exchange(stream, &command).await?;
    match said.reply() {
        Some(Reply::Version(_)) => Ok(Greeting::Version),
        Some(Reply::ClientError(b"unauthenticated")) => Ok(Greeting::Unauthenticated),
        // It says so unasked, and closes the connection.
        Some(Reply::Error(b"Too many open connections")) => Err(MemcachedError::Full),
        _ => Err(MemcachedError::Greeting(said.misfit(NO_GREETING))),
    }
}

/// `protocol.txt`, *Authentication*: a `set` of any key, whose value is the user and the password.
async fn authenticate(stream: &mut Stream, node: &Node) -> Result<(), MemcachedError> {
    const REFUSED: &str = "memcached refuses our user and password";
    const UNQUOTED: MemcachedError = MemcachedError::Authentication(Misfit::unquoted(REFUSED));
    let credentials = node.credentials().ok_or(MemcachedError::Unauthenticated)?;
    let text = credentials.text().await;
    let (_, password) = text.split_once(' ').unwrap_or_default();
    let mut command = Vec::new();
    let key = Key::new(b"auth").map_err(|_| UNQUOTED)?;
    encode::set(&mut command, key, 0, 0, text.as_bytes());
    let said = exchange(stream, &command).await?;
    match said.reply() {
        Some(Reply::Stored) => Ok(()),
        // An echo of the password must not be quoted, nor the start of one.
        Some(_) if !said.has(password) => Err(MemcachedError::Authentication(said.misfit(REFUSED))),
        _ => Err(UNQUOTED),
    }
}

async fn ask_meta(stream: &mut Stream) -> Result<(), MemcachedError> {
    const NO_META: &str = "a memcached without meta commands: --memcached-command ms can't be";
    let said = exchange(stream, META_NOOP).await?;
    match said.reply() {
        Some(Reply::MetaNoop) => Ok(()),
        _ => Err(MemcachedError::Greeting(said.misfit(NO_META))),
    }
}

/// A line is all that is awaited; a longer one, or a value, is no reply.
fn limits() -> Limits {
    Limits {
        value_bytes_max: 0,
        ..Limits::default()
    }
}

/// All that was said to a command.
struct Said(Vec<u8>);

impl Said {
    /// `None` if it is not one whole reply, and no more.
    fn reply(&self) -> Option<Reply<&[u8]>> {
        match reply::parse(&self.0, &limits()) {
            Ok(Some((reply, taken))) if taken == self.0.len() => Some(reply),
            _ => None,
        }
    }

    fn misfit(&self, why: &'static str) -> Misfit {
        Misfit::new(why, &self.0)
    }

    fn has(&self, words: &str) -> bool {
        String::from_utf8_lossy(&self.0).contains(words)
    }
}

/// Sends a command and reads what is said to it: one reply, or what can't become one.
async fn exchange(stream: &mut Stream, command: &[u8]) -> Result<Said, MemcachedError> {
    stream.write_all(command).await?;
    stream.flush().await?;
    let mut inbox = Vec::with_capacity(256);
    loop {
        let is_end = stream.read_buf(&mut inbox).await? == 0;
        if is_end && inbox.is_empty() {
            return Err(MemcachedError::Closed);
        }
        if is_end || !matches!(reply::parse(&inbox, &limits()), Ok(None)) {
            return Ok(Said(inbox));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::Reader;
    use crate::writer::tests::node;

    #[tokio::test]
    async fn a_greeting_without_end_is_given_up_at_the_longest_line() {
        for start in ["", "VERSION ", "VALUE k 0 1000000\r\n", "STAT a b\r\n"] {
            let said = Arc::new(AtomicUsize::new(0));
            let counted = said.clone();
            let node = node(move |mut stream| {
                let said = counted.clone();
                async move {
                    let _ = stream.write_all(start.as_bytes()).await;
                    while stream.write_all(b"x").await.is_ok() {
                        said.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            let refused = Reader::dial(&node).await.unwrap_err();
            assert!(
                matches!(refused, MemcachedError::Greeting(_)),
                "{start:?}: {refused}"
            );
            let said = said.load(Ordering::Relaxed);
            assert!(
                said < 2 * Limits::default().line_bytes_max,
                "{start:?}: {said} bytes"
            );
        }
    }
}
