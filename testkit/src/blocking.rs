//! memcached and its clients for tests without a runtime.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

use tokio::runtime::Builder;

use crate::PATIENCE;
use crate::memcached::Memcached;

/// A memcached on a port of its own, with flags.
pub fn memcached(flags: &[&str]) -> Memcached {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Memcached::start_with(flags))
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// All that is answered to `input`, sent in pieces of `piece` bytes on a new connection, until its end
/// or the server's.
pub fn answers(address: SocketAddr, input: &[u8], piece: usize) -> Vec<u8> {
    let stream = connect(address);
    let mut sender = stream.try_clone().unwrap();
    thread::scope(|scope| {
        // Beside the reading: neither server reads on while its answers aren't taken.
        scope.spawn(move || {
            let sent = input
                .chunks(piece)
                .try_for_each(|bytes| sender.write_all(bytes));
            until_closed(sent.and_then(|()| sender.shutdown(Shutdown::Write)));
        });
        let mut answers = Vec::new();
        until_closed((&stream).read_to_end(&mut answers));
        answers
    })
}

/// What is sent or read may end early where the server has closed: mostly in good order, but by a reset
/// where there is more than it has read.
pub fn until_closed<T>(done: io::Result<T>) {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    if let Err(error) = done {
        let is_end = matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected);
        assert!(is_end, "{error}");
    }
}
