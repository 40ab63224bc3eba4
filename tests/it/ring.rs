//! Each key is where the real clients of other languages look: `tests/vectors/README.md`.

use clap::ValueEnum;
use presenced_memcached::NodeSpec;
use presenced_memcached::ring::{Member, Ring, RingKind};

fn ring(kind: RingKind, servers: &[&str]) -> Ring {
    let members = servers.iter().zip(0..).map(|(server, node)| {
        let spec: NodeSpec = server.parse().unwrap();
        Member {
            name: spec.addr.ring_name(),
            weight: spec.weight,
            node,
        }
    });
    Ring::new(kind, &members.collect::<Vec<_>>())
}

#[test]
fn every_key_is_where_the_real_clients_look() {
    let mut counts = [0; 3];
    for line in include_str!("vectors/rings.txt").lines() {
        let words: Vec<_> = line.split(' ').collect();
        let [kind, servers @ .., digits] = &words[..] else {
            panic!("no servers: {line}");
        };
        let kind = RingKind::from_str(kind, false).unwrap();
        counts[kind as usize] += 1;
        let ring = ring(kind, servers);
        assert_eq!(digits.len(), 10_000);
        for (number, digit) in digits.chars().enumerate() {
            let node = ring.node_of(format!("user:{number}:online").as_bytes());
            let expected = digit.to_digit(36).unwrap();
            assert_eq!(u32::from(node), expected, "{kind:?} {servers:?} {number}");
        }
    }
    assert!(counts.iter().all(|&count| count >= 8), "{counts:?}");
}

#[test]
fn a_unix_socket_is_called_as_libmemcached_calls_it() {
    // memcached_generate_hash() of libmemcached 1.1.4, keys "user:0:online" to "user:59:online".
    let ring = ring(RingKind::Ketama, &["unix:/run/m.sock", "cache-b:11211"]);
    let node = |number| ring.node_of(format!("user:{number}:online").as_bytes());
    let found: String = (0..60).map(|number| node(number).to_string()).collect();
    assert_eq!(
        found,
        "000110010111011011011110001110101111101000100101001101111010"
    );
}
