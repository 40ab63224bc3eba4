//! The one place where a descriptor of our own is watched by tokio.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Tells when `descriptor`, which must not block, can be read.
///
/// # Errors
///
/// What the runtime says to a descriptor that it can't watch.
// Deprecated because a type might close its descriptor while it is registered; `OwnedFd` can't,
// and the replacement is unsafe.
#[allow(deprecated)]
pub fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}
