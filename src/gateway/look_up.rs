//! The shell command that shows what memcached holds of a user.

use std::sync::Arc;

use presenced_memcached::{Cluster, NodeAddr};
use presenced_presence::{Record, UserId};

/// Makes the command from what runs: the keys of the records, and the nodes.
#[derive(Clone, Debug)]
pub struct LookUp {
    /// Renders the keys.
    pub record: Record,
    /// Knows which node has a key.
    pub cluster: Arc<Cluster>,
}

impl LookUp {
    /// The command that gets the user's entry, ready for a shell; `None` where it would need TLS or
    /// a password, or there is no node.
    pub fn command(&self, user: &UserId) -> Option<String> {
        let connect = &self.cluster.config().connect;
        let mut key = Vec::new();
        self.record.key(&mut key, user);
        let topology = self.cluster.topology();
        let node = topology.nodes().get(usize::from(topology.node_of(&key)))?;
        let to = match node.addr() {
            NodeAddr::Tcp(..) if connect.tls.is_some() => return None,
            _ if connect.credentials.is_some() => return None,
            NodeAddr::Tcp(host, port) => format!("nc {} {port}", as_word(host)),
            NodeAddr::Unix(path) => format!("nc -U {}", as_word(&path.display().to_string())),
        };
        let key = quoted(&String::from_utf8_lossy(&key));
        Some(format!(r"printf 'get {key}\r\nquit\r\n' | {to}"))
    }
}

/// A text as one word for a shell: quoted, unless there is no need.
fn as_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._:/".contains(c);
    match text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// A text as part of printf's format between single quotes.
fn quoted(text: &str) -> String {
    text.replace('\\', r"\\")
        .replace('%', "%%")
        .replace('\'', r"'\''")
}

#[cfg(test)]
mod tests {
    use presenced_memcached::Config;
    use presenced_memcached::address::NodeSpec;

    use super::*;

    fn command(node: &str, template: &str, user: &str) -> String {
        let nodes = [node.parse::<NodeSpec>().unwrap().into()];
        let look_up = LookUp {
            record: Record::new(template, "server-1", 0, 0).unwrap(),
            cluster: Arc::new(Cluster::new(nodes, Config::default())),
        };
        look_up.command(&UserId::new(user).unwrap()).unwrap()
    }

    #[test]
    fn a_key_reaches_the_store_as_it_is() {
        let command = command("127.0.0.1:9", r"a'b\%:{userId}", "100%");
        let expected = r"printf 'get a'\''b\\%%:100%%\r\nquit\r\n' | nc 127.0.0.1 9";
        assert_eq!(command, expected);
        // A real shell and printf agree.
        let printf = command.split_once(" | ").unwrap().0;
        let output = std::process::Command::new("sh")
            .args(["-c", printf])
            .output();
        let sent = String::from_utf8(output.unwrap().stdout).unwrap();
        assert_eq!(sent, "get a'b\\%:100%\r\nquit\r\n");
    }

    #[test]
    fn a_socket_has_its_path() {
        for (node, word) in [
            ("unix:/run/memcached.sock", "/run/memcached.sock"),
            ("unix:/run/my; cache's", r"'/run/my; cache'\''s'"),
        ] {
            let command = command(node, "{userId}", "alice");
            let expected = format!(r"printf 'get alice\r\nquit\r\n' | nc -U {word}");
            assert_eq!(command, expected);
        }
    }
}
