//! A real network of the test's own: a namespace with one way out, which can be cut.

use std::net::Ipv4Addr;
use std::process::Command;

use crate::port::random;

/// Gone when dropped, with its interfaces.
pub struct Cable {
    namespace: String,
    /// The interface of this end.
    ours: String,
    /// Of this end.
    here: Ipv4Addr,
    /// Of the other, in the namespace.
    pub there: Ipv4Addr,
}

impl Cable {
    /// Returns `None` where this process may not make one (it takes root and `ip`).
    pub fn lay() -> Option<Cable> {
        // Networks for tests of networks (RFC 2544); any four addresses of them, as others may run this.
        let net = 0xc612_0000 | (random() as u32 % (1 << 15)) << 2;
        let [here, there] = [1, 2].map(|host| Ipv4Addr::from_bits(net | host));
        let id = format!("{:x}", net >> 2 & 0x7fff);
        let (ours, theirs) = (format!("edge{id}"), format!("node{id}"));
        let namespace = format!("presenced-{id}");
        if !ip(&["netns", "add", &namespace]) {
            return None;
        }
        let cable = Cable {
            namespace: namespace.clone(),
            ours: ours.clone(),
            here,
            there,
        };
        let laid = ip(&[
            "link", "add", &ours, "type", "veth", "peer", "name", &theirs, "netns", &namespace,
        ]) && ip(&["addr", "add", &format!("{here}/30"), "dev", &ours])
            && ip(&["link", "set", &ours, "up"])
            && cable.inside(&["addr", "add", &format!("{there}/30"), "dev", &theirs])
            && cable.inside(&["link", "set", &theirs, "up"]);
        laid.then_some(cable)
    }

    /// A command that runs `program` at the other end.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]);
        command
    }

    /// From now on nothing comes back, and no one is told: no reset, no ICMP, the link stays up.
    pub fn cut(&self) {
        assert!(self.inside(&["route", "add", "blackhole", &format!("{}/32", self.here)]));
    }

    /// As if nothing had been.
    pub fn mend(&self) {
        assert!(self.inside(&["route", "del", "blackhole", &format!("{}/32", self.here)]));
    }

    /// From now on nothing gets there, and no one is told: frames go to an address that no one has.
    pub fn divert(&self) {
        let there = self.there.to_string();
        let nowhere = ["lladdr", "02:00:00:00:00:00", "nud", "permanent"];
        let entry = ["neigh", "replace", &there, "dev", &self.ours];
        assert!(ip(&[&entry[..], &nowhere].concat()));
    }

    /// As if nothing had been, but for what is sent again.
    pub fn lead_back(&self) {
        assert!(ip(&[
            "neigh",
            "del",
            &self.there.to_string(),
            "dev",
            &self.ours
        ]));
    }

    fn inside(&self, arguments: &[&str]) -> bool {
        ip(&[&["-n", &self.namespace], arguments].concat())
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // The pair goes with the end that is in it.
        ip(&["netns", "del", &self.namespace]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    let ended = Command::new("ip").args(arguments).output();
    ended.is_ok_and(|ended| ended.status.success())
}
