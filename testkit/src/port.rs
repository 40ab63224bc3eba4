//! Ports for what has to be told where to listen, and for what must come back where it was.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Below those that the kernel gives to connections, so that a port stays free while the process
/// that listens there starts again.
const RANGE: std::ops::Range<u16> = 15_000..30_000;

/// A port of loopback, reserved until it is dropped: no other test gets it, in whichever process,
/// even while nothing listens there.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Its abstract name is taken, as long as it lives, in the network namespace that has the
    /// port. Nothing is left of it when the process is killed.
    _reserved: UnixDatagram,
}

impl Port {
    pub fn free() -> Port {
        let first = random() % u64::from(RANGE.end - RANGE.start);
        let mut ports = RANGE.cycle().skip(first as usize).take(RANGE.len());
        ports.find_map(Port::reserve).expect("a free port")
    }

    /// Returns `None` if another test has it, or something listens there.
    fn reserve(number: u16) -> Option<Port> {
        let name = format!("presenced-test-port-{number}");
        let name = SocketAddr::from_abstract_name(name).unwrap();
        let reserved = UnixDatagram::bind_addr(&name).ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Port {
            number,
            _reserved: reserved,
        })
    }

    pub fn number(&self) -> u16 {
        self.number
    }
}

/// Another number each time, in each process.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(())
}
