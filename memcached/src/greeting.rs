//! How each connection begins: is that a memcached, and does it let us in?

use presenced_protocol::reply::{self, Reply};
use presenced_protocol::{Key, Limits, Request, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::MemcachedError;
use super::node::Node;
use super::pipeline::WriteCommand;
use super::stream::Stream;

/// `protocol.txt`, *Meta No-Op*.
pub(super) const META_NOOP: &[u8] = b"mn\r\n";

/// Says that we are there: `version`, and waits for its answer. A memcached that wants to know who we are
/// says so then, and is told; one that does not would take the password for an entry and show it to all.
pub(super) async fn greet(stream: &mut Stream, node: &Node) -> Result<(), MemcachedError> {
    let greeting = async {
        match ask_version(stream).await? {
            Greeting::Version if node.credentials().is_some() => node.asks_for_no_credentials(),
            Greeting::Version => {}
            Greeting::Unauthenticated => {
                authenticate(stream, node).await?;
                if ask_version(stream).await? != Greeting::Version {
                    return Err(NO_GREETING);
                }
            }
            Greeting::Full => return Err(MemcachedError::Full),
            Greeting::Other => return Err(NO_GREETING),
        }
        if node.write_command() == WriteCommand::Ms
            && !exchange(stream, META_NOOP, |reply| matches!(reply, Reply::MetaNoop)).await?
        {
            return Err(NO_META);
        }
        Ok(())
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
    /// `ERROR Too many open connections`, which it says unasked, and closes the connection.
    Full,
    Other,
}

async fn ask_version(stream: &mut Stream) -> Result<Greeting, MemcachedError> {
    let mut command = Vec::new();
    encode::request(&mut command, &Request::Version);
    exchange(stream, &command, |reply| match reply {
        Reply::Version(_) => Greeting::Version,
        Reply::ClientError(b"unauthenticated") => Greeting::Unauthenticated,
        Reply::Error(b"Too many open connections") => Greeting::Full,
        _ => Greeting::Other,
    })
    .await
}

/// `protocol.txt`, *Authentication*: a `set` of any key, whose value is the user and the password.
async fn authenticate(stream: &mut Stream, node: &Node) -> Result<(), MemcachedError> {
    let credentials = node.credentials().ok_or(MemcachedError::Unauthenticated)?;
    let mut command = Vec::new();
    let key = Key::new(b"auth").map_err(|_| MemcachedError::Authentication)?;
    encode::set(&mut command, key, 0, 0, credentials.text().await.as_bytes());
    if exchange(stream, &command, |reply| matches!(reply, Reply::Stored)).await? {
        Ok(())
    } else {
        Err(MemcachedError::Authentication)
    }
}

const NO_GREETING: MemcachedError =
    MemcachedError::Greeting("not a memcached that answers version");

const NO_META: MemcachedError =
    MemcachedError::Greeting("a memcached without meta commands: --memcached-command ms can't be");

/// What `read` makes of the one reply to `command`.
async fn exchange<T>(
    stream: &mut Stream,
    command: &[u8],
    read: impl FnOnce(&Reply<&[u8]>) -> T,
) -> Result<T, MemcachedError> {
    stream.write_all(command).await?;
    stream.flush().await?;
    let mut inbox = Vec::with_capacity(256);
    // A line is all that is awaited; a longer one, or a value, is an error at once.
    let limits = Limits {
        value_bytes_max: 0,
        ..Limits::default()
    };
    loop {
        if stream.read_buf(&mut inbox).await? == 0 {
            return Err(MemcachedError::Closed);
        }
        match reply::parse(&inbox, &limits) {
            Ok(Some((reply, taken))) if taken == inbox.len() => return Ok(read(&reply)),
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => return Err(NO_GREETING),
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
