//! Listeners that threads share, one each.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use socket2::SockRef;

use crate::limits::BACKLOG;

/// Binds `count` listeners that share `addr` (`SO_REUSEPORT`). Without that at first, so that
/// another process on the same port is an error and not a silent partner.
///
/// # Errors
///
/// What the system says to an address that can't be bound.
pub fn tcp(addr: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let addr = {
        let probe = socket(addr)?;
        probe.bind(&addr.into())?;
        probe.local_addr()?.as_socket().unwrap_or(addr)
    };
    (0..count)
        .map(|_| {
            let socket = socket(addr)?;
            socket.set_reuse_port(true)?;
            // Connections inherit it: an answer of a few bytes must not wait for the peer's
            // acknowledgement of the last.
            socket.set_tcp_nodelay(true)?;
            socket.bind(&addr.into())?;
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        })
        .collect()
}

/// Bounds what the kernel holds of each connection that `listeners` accept, which inherit it: `bytes` each
/// way, which Linux doubles for its own overhead. Without it a peer that does not read, or is not read
/// from, can make it hold megabytes.
///
/// # Errors
///
/// What the system says.
pub fn bound_buffers(listeners: &[TcpListener], bytes: usize) -> io::Result<()> {
    for listener in listeners {
        let socket = SockRef::from(listener);
        socket.set_send_buffer_size(bytes)?;
        socket.set_recv_buffer_size(bytes)?;
    }
    Ok(())
}

fn socket(addr: SocketAddr) -> io::Result<socket2::Socket> {
    let domain = socket2::Domain::for_address(addr);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Binds a Unix socket that only this user may connect to, in place of one that nobody listens on
/// any more, and gives `count` handles of it: threads take connections from one queue.
///
/// # Errors
///
/// What the system says to a path that can't be bound, such as one that somebody listens on.
pub fn unix(path: &Path, count: usize) -> io::Result<Vec<UnixListener>> {
    let bound = match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_left_over(path) => {
            fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    };
    let listener = bound?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    listener.set_nonblocking(true)?;
    (0..count).map(|_| listener.try_clone()).collect()
}

fn is_left_over(path: &Path) -> bool {
    let is_socket = fs::metadata(path).is_ok_and(|file| file.file_type().is_socket());
    is_socket
        && UnixStream::connect(path)
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}
