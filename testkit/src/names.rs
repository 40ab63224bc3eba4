//! Host names that lead one process elsewhere than another: an `/etc/hosts` of its own.

use std::ffi::OsStr;
use std::process::Command;

use crate::temp::TempFile;

/// What a process that is started by [`Names::wrap`] finds in `/etc/hosts`.
#[derive(Debug)]
pub struct Names {
    hosts: TempFile,
}

impl Names {
    /// Returns `None` where this process may not give another its own files (it takes root, or namespaces of
    /// users, and `unshare`).
    pub fn new(lines: &str) -> Option<Names> {
        let names = Names {
            hosts: TempFile::new(lines),
        };
        let tried = names.command(OsStr::new("true")).status();
        tried.is_ok_and(|status| status.success()).then_some(names)
    }

    /// From now on the names are these.
    pub fn set(&self, lines: &str) {
        // In place: what is mounted is this file, not its name.
        std::fs::write(self.hosts.path(), lines).unwrap();
    }

    /// The same command, with these names.
    pub fn wrap(&self, command: &Command) -> Command {
        let mut wrapped = self.command(command.get_program());
        wrapped.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(name, value),
                None => wrapped.env_remove(name),
            };
        }
        wrapped
    }

    fn command(&self, program: &OsStr) -> Command {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        // `exec`, so that a signal reaches the program itself.
        let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
        command
            .args(["--mount", "sh", "-c", script])
            .arg(self.hosts.path())
            .arg(program);
        command
    }
}
