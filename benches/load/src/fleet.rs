//! Several processes that share a run, in step.
//!
//! The one that was started by hand starts itself several times, each with `--part`, tells them
//! through their standard input what to do, one word a line, and reads from their standard output
//! how it goes, one JSON value a line. It opens no session.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::counts::Counts;
use crate::flags::Flags;
use crate::part::Part;
use crate::phase::Phase;
use crate::progress::Status;

/// What a process of the fleet says.
#[derive(Debug, Deserialize, Serialize)]
enum Line {
    /// It has made its tokens.
    Ready,
    /// How its phase goes.
    Status(Status),
    /// Its phase is over.
    Done(Box<Counts>),
}

/// The processes; they end when this is dropped.
#[derive(Debug)]
pub(crate) struct Fleet {
    members: Vec<Member>,
    lines: Receiver<(usize, Option<Line>)>,
}

#[derive(Debug)]
struct Member {
    process: Child,
    /// Nothing once it is to end.
    orders: Option<ChildStdin>,
}

impl Fleet {
    /// Starts them, and waits until all are ready to connect.
    pub(crate) fn start(flags: &Flags) -> io::Result<Fleet> {
        let (sender, lines) = channel();
        let mut fleet = Fleet {
            members: Vec::new(),
            lines,
        };
        for part in Part::all(flags.processes.get()) {
            fleet.members.push(Member::start(part, &sender)?);
        }
        let mut waiting = fleet.members.len();
        while waiting > 0 {
            if let (_, Line::Ready) = fleet.line()? {
                waiting -= 1;
            }
        }
        Ok(fleet)
    }

    /// Lets all do a phase; returns what they have counted together when the last is done.
    pub(crate) fn phase(
        &mut self,
        phase: Phase,
        watch: &mut dyn FnMut(&Status),
    ) -> io::Result<Counts> {
        for index in 0..self.members.len() {
            let orders = self.members[index].orders.as_mut();
            // In one piece: the process reads it with one call.
            let word = format!("{}\n", phase.word());
            let told = orders.map_or(Ok(()), |orders| orders.write_all(word.as_bytes()));
            if told.is_err() {
                return Err(self.ended(index));
            }
        }
        let mut counts = Counts::default();
        let mut statuses = vec![Status::default(); self.members.len()];
        let mut waiting = self.members.len();
        while waiting > 0 {
            match self.line()? {
                (_, Line::Ready) => {}
                (index, Line::Status(status)) => {
                    statuses[index] = status;
                    let mut sum = Status::default();
                    statuses.iter().for_each(|status| sum.merge(status));
                    watch(&sum);
                }
                (_, Line::Done(part)) => {
                    counts.merge(&part);
                    waiting -= 1;
                }
            }
        }
        Ok(counts)
    }

    /// The next that one of them says; an error if one has ended.
    fn line(&mut self) -> io::Result<(usize, Line)> {
        let received = self.lines.recv().map_err(io::Error::other)?;
        match received {
            (index, Some(line)) => Ok((index, line)),
            (index, None) => Err(self.ended(index)),
        }
    }

    fn ended(&mut self, index: usize) -> io::Error {
        let count = self.members.len();
        let process = &mut self.members[index].process;
        let pid = process.id();
        // It has closed its output: if it has not ended, it says what no process of ours does.
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
            // The end of its input is what tells it to end.
            member.orders = None;
        }
        for member in &mut self.members {
            let _ = member.process.wait();
        }
    }
}

impl Member {
    fn start(part: Part, lines: &Sender<(usize, Option<Line>)>) -> io::Result<Member> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(std::env::args_os().skip(1))
            .arg(part.flag())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = process.stdin.take();
        if let Some(output) = process.stdout.take() {
            let (lines, index) = (lines.clone(), part.index());
            thread::spawn(move || {
                for line in BufReader::new(output).lines() {
                    let line = line.ok().and_then(|line| serde_json::from_str(&line).ok());
                    if line.is_none() || lines.send((index, line)).is_err() {
                        break;
                    }
                }
                // No one may be there to be told any more.
                let _ = lines.send((index, None));
            });
        }
        Ok(Member { process, orders })
    }
}

/// Does as a fleet's member until its input ends.
pub(crate) fn serve(mut client: Client, flags: &Flags) -> io::Result<()> {
    // Not through the standard library's buffer: what is in there the poll doesn't know of.
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    client.listen_to(&input)?;
    say(&Line::Ready)?;
    loop {
        client.wait()?;
        let mut order = [0; 64];
        let length = input.read(&mut order)?;
        if length == 0 {
            return Ok(());
        }
        let word = std::str::from_utf8(&order[..length]).unwrap_or_default();
        let Some(phase) = Phase::of_word(word.trim_end()) else {
            return Err(io::Error::other(format!("told {word:?}")));
        };
        let ran = phase.run(&mut client, flags, &mut |status| {
            say(&Line::Status(*status))
        });
        // While a phase runs nothing is said: it is the end of the input, as another has died.
        if ran.is_err() && client.is_told() {
            return Ok(());
        }
        let counts = ran?;
        say(&Line::Done(Box::new(counts)))?;
    }
}

fn say(line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    let mut output = io::stdout().lock();
    output.write_all(&text)?;
    output.flush()
}
