//! The same random commands to a real memcached and to the store, pipelined and cut anywhere: the same
//! bytes must come back, but for versions, statistics and CAS numbers. What is known to differ is what
//! becomes of the value of a storage command that is refused: see `storage.rs`.
//!
//! `STORE_CASES` sets how many sequences are tried; `make soak` tries many.

mod answers;
mod commands;
mod storage;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use presenced_testkit::blocking::{connect, memcached, until_closed};
use presenced_testkit::embedded::Embedded;
use presenced_testkit::memcached::Memcached;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestError, TestRunner};

use self::answers::ReplyFlag;
use self::commands::{Bytes, Cas, Command, KEYS, Key, Piece, Text, command, sequence, shown, text};

const MEMORY_BYTES: usize = 64 << 20;

/// A connection to one of the two.
struct Client {
    address: SocketAddr,
    is_store: bool,
    stream: TcpStream,
    input: Vec<u8>,
    /// CAS numbers of the sequence's keys.
    cas: HashMap<usize, u64>,
}

impl Client {
    fn new(address: SocketAddr, is_store: bool) -> Client {
        Client {
            address,
            is_store,
            stream: connect(address),
            input: Vec::new(),
            cas: HashMap::new(),
        }
    }

    fn write(&self, command: &Command, prefix: &str, out: &mut Vec<u8>) {
        let pieces = match &command.instead {
            Some(instead) if !self.is_store => instead,
            _ => &command.pieces,
        };
        for piece in pieces {
            match piece {
                Text(text) => out.extend(text.as_bytes()),
                Bytes(bytes) => out.extend(bytes),
                Key(key) => out.extend(format!("{prefix}{}", KEYS[*key]).as_bytes()),
                Piece::Cas(key, cas) => {
                    let number = self.cas.get(key).copied().unwrap_or(0);
                    let number = match cas {
                        Cas::Same => number,
                        Cas::Below => number.saturating_sub(1),
                        Cas::Above => u64::MAX,
                        Cas::Zero => 0,
                    };
                    out.extend(number.to_string().as_bytes());
                }
            }
        }
    }

    /// What is answered to `commands`, as lines of which those that may differ are masked; what the
    /// keys are like after it is part of it. The last of them may close the store's connection.
    fn ask(&mut self, commands: &[Command], prefix: &str, cuts: u64) -> Vec<String> {
        let mut out = Vec::new();
        for command in commands {
            self.write(command, prefix, &mut out);
        }
        let mut lines = Vec::new();
        // An `mn` may be among the commands.
        let mut noops = commands
            .iter()
            .filter(|command| matches!(&command.pieces[..], [Text(line)] if line == "mn\r\n"))
            .count();
        if self.is_store && commands.last().is_some_and(|command| command.closes) {
            lines = self.last_answers(&out, cuts);
            *self = Client::new(self.address, true);
            (out, noops) = (Vec::new(), 0);
        }
        out.extend(b"mn\r\n");
        for key in KEYS {
            out.extend(format!("mg {prefix}{key} c u s f\r\n").as_bytes());
        }
        out.extend(b"mn\r\n");
        let mut sender = self.stream.try_clone().unwrap();
        thread::scope(|scope| {
            // Beside the reading: neither server reads on while its answers aren't taken.
            scope.spawn(move || {
                for piece in pieces(&out, cuts) {
                    sender.write_all(piece).unwrap();
                }
            });
            lines.extend(self.answers(noops + 2));
        });
        lines
    }

    /// All that is answered until the other side closes.
    fn last_answers(&mut self, out: &[u8], cuts: u64) -> Vec<String> {
        let mut sender = self.stream.try_clone().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut pieces = pieces(out, cuts).into_iter();
                until_closed(pieces.try_for_each(|piece| sender.write_all(piece)));
            });
            until_closed(self.stream.read_to_end(&mut self.input));
        });
        let mut lines = Vec::new();
        let mut rest = &self.input[..];
        while let Some((answer, bytes)) = ReplyFlag::first(rest) {
            lines.push(answer.masked());
            rest = &rest[bytes..];
        }
        assert!(rest.is_empty(), "left: {}", rest.escape_ascii());
        lines
    }

    fn answers(&mut self, noops: usize) -> Vec<String> {
        let (mut lines, mut seen, mut probed) = (Vec::new(), 0, 0);
        while seen < noops {
            let mut at = 0;
            while let Some((answer, bytes)) = ReplyFlag::first(&self.input[at..]) {
                if answer.is_noop() {
                    seen += 1;
                } else if seen == noops - 1 {
                    if let Some(cas) = answer.cas() {
                        self.cas.insert(probed, cas);
                    } else {
                        self.cas.remove(&probed);
                    }
                    probed += 1;
                }
                lines.push(answer.masked());
                at += bytes;
            }
            self.input.drain(..at);
            if seen < noops {
                let mut buffer = [0; 16 * 1024];
                let read = self.stream.read(&mut buffer);
                let read = read.unwrap_or_else(|error| panic!("{error} after {lines:?}"));
                assert!(read > 0, "closed after {lines:?}");
                self.input.extend(&buffer[..read]);
            }
        }
        lines
    }
}

/// `bytes` in pieces, by a number: mostly one, at times many.
fn pieces(bytes: &[u8], cuts: u64) -> Vec<&[u8]> {
    if bytes.len() > 100_000 || cuts.is_multiple_of(3) {
        return vec![bytes];
    }
    let (mut rest, mut state, mut pieces) = (bytes, cuts, Vec::new());
    while !rest.is_empty() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let longest = if cuts % 3 == 1 { 8 } else { 200 };
        let (piece, left) = rest.split_at(rest.len().min(1 + (state >> 33) as usize % longest));
        pieces.push(piece);
        rest = left;
    }
    pieces
}

/// Both servers.
struct Pair {
    memcached: Memcached,
    store: Embedded,
}

impl Pair {
    fn start() -> Pair {
        Pair {
            // Its thread that keeps the order of use holds an item that was asked for twice, for as
            // long as it likes; see `Command`.
            memcached: memcached(&["-o", "no_lru_maintainer"]),
            store: Embedded::start(MEMORY_BYTES),
        }
    }

    fn clients(&self) -> [Client; 2] {
        let memcached = Client::new(self.memcached.address(), false);
        [memcached, Client::new(self.store.address, true)]
    }

    fn differ(&self, commands: &[Command], cuts: u64) -> Result<(), TestCaseError> {
        let mut clients = self.clients();
        let flush = [command(vec![text("flush_all\r\n")])];
        for client in &mut clients {
            client.ask(&flush, "", 0);
        }
        differ(&mut clients, commands, "", cuts)
    }
}

/// Asks both the same, in batches that end before each command that is to be alone, and behind each
/// that closes.
fn differ(
    clients: &mut [Client; 2],
    commands: &[Command],
    prefix: &str,
    cuts: u64,
) -> Result<(), TestCaseError> {
    let mut start = 0;
    while start < commands.len() {
        let ends = |pair: &[Command]| pair[0].closes || pair[1].alone;
        let end = commands[start..].windows(2).position(ends);
        let end = end.map_or(commands.len(), |count| start + 1 + count);
        let batch = &commands[start..end];
        let [expected, found] = clients
            .each_mut()
            .map(|client| client.ask(batch, prefix, cuts));
        compare(&expected, &found, batch)?;
        start = end;
    }
    Ok(())
}

fn compare(expected: &[String], found: &[String], batch: &[Command]) -> Result<(), TestCaseError> {
    if expected == found {
        return Ok(());
    }
    let cut = |lines: &[String]| {
        let lines = lines.iter().map(|line| format!("{line:.120}"));
        lines.collect::<Vec<_>>().join("\n    ")
    };
    let batch: Vec<_> = batch.iter().map(shown).collect();
    let why = format!(
        "to\n    {}\n  memcached:\n    {}\n  the store:\n    {}",
        batch.join("\n    "),
        cut(expected),
        cut(found)
    );
    Err(TestCaseError::fail(why))
}

fn cases(default: u32) -> u32 {
    let cases = std::env::var("STORE_CASES").ok();
    cases.map_or(default, |cases| {
        cases.parse().expect("STORE_CASES is a number")
    })
}

/// A second may end between the two servers' answers, or an answer still hold an item in memcached:
/// what differs for such a reason does not do so again and again.
const TRIES: usize = 4;

#[test]
fn answers_what_memcached_answers() {
    let pair = Pair::start();
    let config = Config {
        cases: cases(300),
        failure_persistence: None,
        max_shrink_iters: 3000,
        ..Config::default()
    };
    let ran = TestRunner::new(config).run(&sequence(24), |(commands, cuts)| {
        let mut differs = Ok(());
        for _ in 0..TRIES {
            differs = pair.differ(&commands, cuts);
            if differs.is_ok() {
                break;
            }
        }
        differs
    });
    if let Err(TestError::Fail(why, (commands, _))) = ran {
        let least: Vec<_> = commands.iter().map(shown).collect();
        panic!("{why}\n  least:\n    {}", least.join("\n    "));
    }
    ran.unwrap();
}

/// How long items are left to expire: those that live 1 or 2 s have by then, wherever in a second
/// either server was.
const WAIT: Duration = Duration::from_millis(3200);

/// Without what depends on the time since they were stored.
fn timeless(commands: Vec<Command>) -> Vec<Command> {
    let is_timeless = |command: &Command| {
        let Some(Text(name)) = command.pieces.first() else {
            return true;
        };
        let tells_time = command
            .pieces
            .iter()
            .any(|piece| matches!(piece, Text(text) if text == "t" || text == "l"));
        // What flushes does so for all the sequences.
        !tells_time && !name.starts_with("me ") && !name.starts_with("flush_all")
    };
    commands.into_iter().filter(is_timeless).collect()
}

/// What is asked before the wait, after it, and how it is cut.
type Timed = (Vec<Command>, Vec<Command>, u64);

/// Many sequences share one wait: each has keys of its own. What differs is tried again, with
/// others.
#[test]
fn forgets_what_memcached_forgets() {
    let pair = Pair::start();
    let mut runner = TestRunner::default();
    let mut sequences: Vec<Timed> = (0..cases(300).min(5000))
        .map(|_| {
            let both = (sequence(12), sequence(12)).new_tree(&mut runner).unwrap();
            let ((before, cuts), (after, _)) = both.current();
            (timeless(before), timeless(after), cuts)
        })
        .collect();
    let mut differs = Vec::new();
    for round in 0..TRIES {
        differs.clear();
        let prefixes: Vec<_> = (0..sequences.len())
            .map(|number| format!("{round}{number:07}"))
            .collect();
        let ask = |commands: &[Command], prefix: &str, cuts| {
            let mut clients = pair.clients();
            // To know the CAS numbers.
            clients
                .iter_mut()
                .for_each(|client| drop(client.ask(&[], prefix, 0)));
            differ(&mut clients, commands, prefix, cuts)
        };
        let before: Vec<_> = sequences
            .iter()
            .zip(&prefixes)
            .map(|((before, _, cuts), prefix)| ask(before, prefix, *cuts))
            .collect();
        thread::sleep(WAIT);
        let after: Vec<_> = sequences
            .iter()
            .zip(&prefixes)
            .map(|((_, after, cuts), prefix)| ask(after, prefix, *cuts))
            .collect();
        let mut again = Vec::new();
        for (sequence, whys) in sequences.into_iter().zip(before.into_iter().zip(after)) {
            if let (Err(why), _) | (_, Err(why)) = whys {
                differs.push(why);
                again.push(sequence);
            }
        }
        if again.is_empty() {
            return;
        }
        sequences = again;
    }
    panic!("{} differ: {}", differs.len(), differs[0]);
}
