//! Programs that others wrote, to which a test speaks and listens.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Command, ExitStatus, Stdio};

/// Runs a program, which gets what `says` says, each once the expected answer to the last has come. Returns all its
/// output.
///
/// # Panics
///
/// It can't be started, ends too soon, or fails.
pub fn run<L: AsRef<[u8]>>(command: &mut Command, says: &[(L, &str)]) -> String {
    let (status, said) = talk(command, says);
    assert!(status.success(), "{command:?}: {status}: {said}");
    said
}

/// The same of a program that may fail.
///
/// # Panics
///
/// It can't be started, or ends too soon.
pub fn talk<L: AsRef<[u8]>>(command: &mut Command, says: &[(L, &str)]) -> (ExitStatus, String) {
    let name = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap_or_else(|error| panic!("{name}: {error}: is it installed?"));
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut said = String::new();
    for (line, answer) in says {
        input.write_all(line.as_ref()).unwrap();
        input.flush().unwrap();
        let before = said.len();
        while !said[before..].contains(answer) {
            let mut bytes = [0; 4096];
            let count = output.read(&mut bytes).unwrap();
            assert!(
                count > 0,
                "{name}: it ended without {answer:?} after {:?}: {said}",
                String::from_utf8_lossy(line.as_ref())
            );
            said.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }
    drop(input);
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).unwrap();
    said.push_str(&String::from_utf8_lossy(&rest));
    (child.wait().unwrap(), said)
}

/// `openssl s_client`, which speaks TLS with what listens at `address`, and `more` flags.
pub fn openssl(address: SocketAddr, more: &[&str]) -> Command {
    // What it says of keys goes to the other output.
    let mut command = Command::new("sh");
    command.args(["-c", "exec openssl \"$@\" 2>&1", "openssl"]);
    command
        .args(["s_client", "-connect", &address.to_string()])
        .args(more);
    command
}

/// Lets a program trust an authority, by the variables that OpenSSL, Node.js, Go, curl and Python's libraries look at.
pub fn trust<'c>(command: &'c mut Command, authority: &str) -> &'c mut Command {
    for variable in [
        "SSL_CERT_FILE",
        "NODE_EXTRA_CA_CERTS",
        "CURL_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
        "WEBSOCKET_CLIENT_CA_BUNDLE",
    ] {
        command.env(variable, authority);
    }
    command
}
