//! Several processes that share a run and go through its phases together.
//!
//! The process that the user started spawns itself several times with `--shard`. It writes the name
//! of each phase as one line to their standard input, and reads their progress from their standard
//! output, one JSON value a line. It opens no session itself.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::counts::Counts;
use crate::flags::Flags;
use crate::phase::Phase;
use crate::progress::Status;
use crate::shard::Shard;

/// What a process of the fleet reports.
#[derive(Debug, Deserialize, Serialize)]
enum Message {
    /// Its tokens are signed.
    Ready,
    /// Progress of its phase.
    Status(Status),
    /// Its phase is over.
    Done(Box<Counts>),
}

/// The processes, which exit when this is dropped.
#[derive(Debug)]
pub(crate) struct Fleet {
    members: Vec<Member>,
    messages: Receiver<(usize, Option<Message>)>,
}

#[derive(Debug)]
struct Member {
    process: Child,
    /// `None` once the process is to exit.
    stdin: Option<ChildStdin>,
}

impl Fleet {
    /// Starts the processes, and waits until all are ready to connect.
    pub(crate) fn start(flags: &Flags) -> io::Result<Fleet> {
        let (sender, messages) = channel();
        let mut fleet = Fleet {
            members: Vec::new(),
            messages,
        };
        for shard in Shard::all(flags.processes.get()) {
            fleet.members.push(Member::start(shard, &sender)?);
        }
        let mut waiting = fleet.members.len();
        while waiting > 0 {
            if let (_, Message::Ready) = fleet.receive()? {
                waiting -= 1;
            }
        }
        Ok(fleet)
    }

    /// Runs a phase in all processes; returns the sum of their counters when the last is done.
    pub(crate) fn phase(
        &mut self,
        phase: Phase,
        watch: &mut dyn FnMut(&Status),
    ) -> io::Result<Counts> {
        for index in 0..self.members.len() {
            let stdin = self.members[index].stdin.as_mut();
            // One write, as the process reads it with one call.
            let name = format!("{}\n", phase.name());
            let sent = stdin.map_or(Ok(()), |stdin| stdin.write_all(name.as_bytes()));
            if sent.is_err() {
                return Err(self.exited(index));
            }
        }
        let mut counts = Counts::default();
        let mut statuses = vec![Status::default(); self.members.len()];
        let mut waiting = self.members.len();
        while waiting > 0 {
            match self.receive()? {
                (_, Message::Ready) => {}
                (index, Message::Status(status)) => {
                    statuses[index] = status;
                    let mut sum = Status::default();
                    statuses.iter().for_each(|status| sum.merge(status));
                    watch(&sum);
                }
                (_, Message::Done(finished)) => {
                    counts.merge(&finished);
                    waiting -= 1;
                }
            }
        }
        Ok(counts)
    }

    /// The next message of any process; an error if one has exited.
    fn receive(&mut self) -> io::Result<(usize, Message)> {
        let received = self.messages.recv().map_err(io::Error::other)?;
        match received {
            (index, Some(message)) => Ok((index, message)),
            (index, None) => Err(self.exited(index)),
        }
    }

    fn exited(&mut self, index: usize) -> io::Error {
        let count = self.members.len();
        let process = &mut self.members[index].process;
        let pid = process.id();
        // Its output is closed or unreadable. If it is still running, it has gone wrong.
        let _ = process.kill();
        let status = match process.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        io::Error::other(format!(
            "process {} of {count} (pid {pid}) has ended: {status}",
            index + 1
        ))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for member in &mut self.members {
            // The process exits at the end of its input.
            member.stdin = None;
        }
        for member in &mut self.members {
            let _ = member.process.wait();
        }
    }
}

impl Member {
    fn start(shard: Shard, messages: &Sender<(usize, Option<Message>)>) -> io::Result<Member> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(std::env::args_os().skip(1))
            .arg(shard.flag())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = process.stdin.take();
        if let Some(output) = process.stdout.take() {
            let (messages, index) = (messages.clone(), shard.index());
            thread::spawn(move || {
                for line in BufReader::new(output).lines() {
                    let message = line.ok().and_then(|line| serde_json::from_str(&line).ok());
                    if message.is_none() || messages.send((index, message)).is_err() {
                        break;
                    }
                }
                // The receiver may be gone.
                let _ = messages.send((index, None));
            });
        }
        Ok(Member { process, stdin })
    }
}

/// Runs as a process of a fleet until its input ends.
pub(crate) fn serve(mut client: Client, flags: &Flags) -> io::Result<()> {
    // Unbuffered: the poll does not see what the standard library's buffer holds.
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    client.watch_commands(&input)?;
    send(&Message::Ready)?;
    loop {
        client.wait()?;
        let mut command = [0; 64];
        let length = input.read(&mut command)?;
        // The end may have come with the command: then the poll does not tell of it again.
        if length == 0 || has_more(&input)? {
            return Ok(());
        }
        let name = std::str::from_utf8(&command[..length]).unwrap_or_default();
        let Some(phase) = Phase::from_name(name.trim_end()) else {
            return Err(io::Error::other(format!("unknown phase {name:?}")));
        };
        let ran = phase.run(&mut client, flags, &mut |status| {
            send(&Message::Status(*status))
        });
        // No command is sent during a phase, so this is the end of the input: the run was aborted.
        if ran.is_err() && client.has_command() {
            return Ok(());
        }
        let counts = ran?;
        send(&Message::Done(Box::new(counts)))?;
    }
}

/// Whether there is more to read, or the input has ended. No command is sent during a phase.
fn has_more(input: &File) -> io::Result<bool> {
    let mut polled = [PollFd::new(input, PollFlags::IN)];
    Ok(poll(&mut polled, Some(&Timespec::default()))? > 0)
}

fn send(message: &Message) -> io::Result<()> {
    let mut text = serde_json::to_vec(message)?;
    text.push(b'\n');
    let mut output = io::stdout().lock();
    output.write_all(&text)?;
    output.flush()
}
