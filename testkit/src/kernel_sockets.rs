//! TCP sockets over IPv4 as the kernel has them (`/proc/net/tcp`).

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

/// Closed on this side, and not acknowledged by the other.
pub const FIN_WAIT_1: u8 = 4;

/// Accepts connections.
const LISTEN: u8 = 10;

/// A socket.
#[derive(Debug)]
pub struct KernelSocket {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub state: u8,
    /// Bytes that the other side has not acknowledged.
    pub unacknowledged: usize,
    /// 0 if no process has a descriptor of it.
    inode: u64,
}

impl KernelSocket {
    /// All that there are.
    pub fn all() -> Vec<KernelSocket> {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let lines = table.lines().skip(1);
        lines
            .map(|line| KernelSocket::parse(line).expect(line))
            .collect()
    }

    /// Descriptors that a process has of connections which came to its listener at `addr`.
    pub fn accepted_at(addr: SocketAddr) -> usize {
        let is_of = |socket: &KernelSocket| {
            socket.local == addr && socket.state != LISTEN && socket.inode != 0
        };
        KernelSocket::all().into_iter().filter(is_of).count()
    }

    fn parse(line: &str) -> Option<KernelSocket> {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (unacknowledged, _) = fields.get(4)?.split_once(':')?;
        Some(KernelSocket {
            local: address(fields[1])?,
            remote: address(fields[2])?,
            state: u8::from_str_radix(fields[3], 16).ok()?,
            unacknowledged: usize::from_str_radix(unacknowledged, 16).ok()?,
            inode: fields.get(9)?.parse().ok()?,
        })
    }
}

/// The kernel writes an address as a number of this machine, and a port as people do.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_ne_bytes());
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(SocketAddrV4::new(ip, port).into())
}
