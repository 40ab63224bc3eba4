//! The shell command that shows what the embedded store holds of a user.

use std::net::SocketAddr;

use presenced_presence::{Record, UserId};

/// Makes the command from what runs: the keys of the records, and the address of the store.
#[derive(Clone, Debug)]
pub struct LookUp {
    /// Renders the keys.
    pub record: Record,
    /// Address of the embedded store.
    pub store: SocketAddr,
}

impl LookUp {
    /// The command that gets the user's entry, ready for a shell.
    pub fn command(&self, user: &UserId) -> String {
        let mut key = Vec::new();
        self.record.key(&mut key, user);
        let key = quoted(&String::from_utf8_lossy(&key));
        let (host, port) = (self.store.ip(), self.store.port());
        format!(r"printf 'get {key}\r\nquit\r\n' | nc {host} {port}")
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
    use super::*;

    #[test]
    fn a_key_reaches_the_store_as_it_is() {
        let look_up = LookUp {
            record: Record::new(r"a'b\%:{userId}", "server-1", 0, 0).unwrap(),
            store: ([127, 0, 0, 1], 9).into(),
        };
        let command = look_up.command(&UserId::new("100%").unwrap());
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
}
