//! What the kernel counts of listeners, of which no program is told.

use std::fs;

/// Times that a connection was dropped because a listener's queue was full, on this machine (or in
/// this network namespace) since it started; `None` where the kernel does not tell.
pub(super) fn listen_overflows() -> Option<u64> {
    parse(&fs::read_to_string("/proc/net/netstat").ok()?)
}

/// A line of names and one of numbers, in the same order, each begun by the name of its group.
fn parse(text: &str) -> Option<u64> {
    let mut lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let place = names
        .split(' ')
        .position(|name| name == "ListenOverflows")?;
    numbers.split(' ').nth(place)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_below_the_name() {
        let text = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 23 45\n\
                    IpExt: ListenOverflows\nIpExt: 6\n";
        assert_eq!(parse(text), Some(23));
        for text in [
            "",
            "TcpExt: ListenOverflows\n",
            "TcpExt: A\nTcpExt: 1\n",
            "TcpExt: ListenOverflows\nTcpExt: x\n",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn this_kernel_tells() {
        assert!(listen_overflows().is_some());
    }
}
