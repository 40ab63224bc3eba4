//! What the process says: the log on stderr, and where everything is on stdout.
//!
//! Neither stream may end the server or hold it up, whatever it leads to: a full disk, a pipe that
//! nobody reads, one whose reader is gone. So each has a bounded queue, which never blocks, and a
//! thread that writes. A text that finds the queue full, or can't be written, is lost and counted.
//! Nothing else writes to them: clippy looks (`clippy.toml`).

#![allow(clippy::disallowed_methods, reason = "this is the one place")]

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use std::{env, thread};

use clap::ValueEnum;
use presenced_session::metrics::Counter;
use tracing::Dispatch;
use tracing::dispatcher::{set_global_default, with_default};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, registry, reload};

use crate::limits::{
    LOG_FLUSH_LOOK, LOG_FLUSH_TIME, LOG_LINE_BYTES, LOG_LINES_MAX, LOG_RETRY_PAUSE,
};

static STDERR: OnceLock<Queue> = OnceLock::new();
static STDOUT: OnceLock<Queue> = OnceLock::new();

/// Takes errors whatever the levels are.
static UNFILTERED: OnceLock<Dispatch> = OnceLock::new();

static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Form of all that the process says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// The levels of the log, to be changed.
static LEVELS: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Starts the log of the process; panics are logged, too. Call it once. Nothing is written yet.
pub fn start(levels: Targets, format: LogFormat) {
    let errors = Targets::new().with_default(LevelFilter::ERROR);
    let _ = FORMAT.set(format);
    let _ = UNFILTERED.set(dispatch(errors, format, stderr));
    let (levels, handle) = reload::Layer::new(levels);
    let _ = LEVELS.set(handle);
    let _ = set_global_default(dispatch(levels, format, stderr));
    // The standard hook writes to stderr itself, so it may block.
    panic::set_hook(Box::new(|panic| always(|| log_panic(panic))));
}

/// From now on these are the levels.
pub fn set_levels(levels: Targets) {
    if let Some(handle) = LEVELS.get() {
        // It fails where there is no log any more.
        let _ = handle.reload(levels);
    }
}

fn dispatch(
    levels: impl Layer<Registry> + Send + Sync,
    format: LogFormat,
    stream: fn() -> &'static Queue,
) -> Dispatch {
    // Otherwise it prints its own errors to stderr, and panics if that fails.
    let lines = layer().with_writer(stream).log_internal_errors(false);
    match format {
        LogFormat::Text => registry()
            .with(levels)
            .with(lines.with_ansi(is_coloured()))
            .into(),
        LogFormat::Json => registry().with(levels).with(lines.json()).into(),
    }
}

/// Calls `say` and logs its errors, whatever the levels are.
pub fn always(say: impl FnOnce()) {
    match UNFILTERED.get() {
        Some(unfiltered) => with_default(unfiltered, say),
        None => say(),
    }
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let why = panic.payload_as_str().unwrap_or("no message");
    let at = panic.location().map(ToString::to_string);
    let at = at.as_deref().unwrap_or("an unknown place");
    // Where RUST_BACKTRACE wants one.
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => tracing::error!(thread, at, %backtrace, "panicked: {why}"),
        _ => tracing::error!(thread, at, "panicked: {why}"),
    }
}

/// Writes the text of an error to stderr, behind what was logged: in its own form, or in that of
/// the log if that is not for people.
pub fn say(text: &dyn Display) {
    let text = text.to_string();
    match format() {
        LogFormat::Text => stderr().push(text.as_bytes()),
        LogFormat::Json => always(|| tracing::error!("{}", text.trim_end())),
    }
}

/// Greets on stdout: with a text for people, or with what `log` logs, whatever the levels are.
pub fn greet(text: &dyn Display, log: impl FnOnce()) {
    match format() {
        LogFormat::Text => stdout().push(text.to_string().as_bytes()),
        LogFormat::Json => {
            let all = Targets::new().with_default(LevelFilter::INFO);
            with_default(&dispatch(all, LogFormat::Json, stdout), log);
        }
    }
}

/// Writes a text to stdout, for as long as it takes: it is all that was asked for.
///
/// # Errors
///
/// If it can't be written whole.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

fn format() -> LogFormat {
    FORMAT.get().copied().unwrap_or(LogFormat::Text)
}

/// Whether texts on stderr should have colours: they are for people, it is a terminal that shows
/// them, and `NO_COLOR` (<https://no-color.org>) is not set.
pub fn is_coloured() -> bool {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    format() == LogFormat::Text
        && io::stderr().is_terminal()
        && set("NO_COLOR").is_none()
        && set("TERM").is_some_and(|term| term != "dumb")
}

/// Lines of the log that were lost so far.
pub fn dropped() -> u64 {
    STDERR.get().map_or(0, |stderr| stderr.state.lost.value())
}

/// Waits until what was said is written, at most for [`LOG_FLUSH_TIME`]. Call it before the process
/// ends.
pub fn flush() {
    let until = Instant::now() + LOG_FLUSH_TIME;
    let queues = [&STDERR, &STDOUT].map(OnceLock::get);
    let waits = || queues.iter().flatten().any(|queue| !queue.is_empty());
    while waits() && Instant::now() < until {
        thread::sleep(LOG_FLUSH_LOOK);
    }
}

fn stdout() -> &'static Queue {
    STDOUT.get_or_init(|| Queue::start("stdout", io::stdout()))
}

fn stderr() -> &'static Queue {
    STDERR.get_or_init(|| Queue::start("stderr", io::stderr()))
}

/// Texts on their way to a stream.
#[derive(Debug)]
struct Queue {
    /// Bounded by `state`: a bounded channel would have all of its memory at once.
    texts: Sender<Box<[u8]>>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Places that are taken, by what is just being written, too.
    taken: AtomicUsize,
    /// Texts that were lost.
    lost: Counter,
}

impl Queue {
    fn start(name: &str, stream: impl Write + Send + 'static) -> Queue {
        let (texts, waiting) = channel();
        let state = Arc::<State>::default();
        let writer = Writer {
            stream,
            waiting,
            state: state.clone(),
        };
        // Without its thread all is lost, and counted.
        let _ = thread::Builder::new()
            .name(name.into())
            .spawn(|| writer.run());
        Queue { texts, state }
    }

    /// Takes a text, or loses it; never blocks.
    fn push(&self, text: &[u8]) {
        let places = places(text);
        let taken = self.state.taken.fetch_add(places, Ordering::Relaxed);
        if taken + places > LOG_LINES_MAX || self.texts.send(text.into()).is_err() {
            self.state.lost.add(1);
            self.state.taken.fetch_sub(places, Ordering::Relaxed);
        }
    }

    /// Whether all is written, or lost.
    fn is_empty(&self) -> bool {
        self.state.taken.load(Ordering::Acquire) == 0
    }
}

/// Places of the queue that a text takes.
fn places(text: &[u8]) -> usize {
    text.len().div_ceil(LOG_LINE_BYTES).max(1)
}

/// What tracing-subscriber writes lines with, each in one piece.
impl Write for &Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The thread of a queue.
struct Writer<W> {
    stream: W,
    waiting: Receiver<Box<[u8]>>,
    state: Arc<State>,
}

impl<W: Write> Writer<W> {
    /// Writes until the queue is gone.
    fn run(mut self) {
        let mut told = 0;
        while let Ok(text) = self.waiting.recv() {
            let written = self.write(&text);
            if written.is_err() {
                self.state.lost.add(1);
            }
            let places = places(&text);
            let taken = self.state.taken.fetch_sub(places, Ordering::Release);
            let lost = self.state.lost.value();
            // A log with a gap says so, as soon as it can.
            if written.is_ok() && taken == places && lost > told {
                tracing::warn!(
                    lines = lost - told,
                    "lines of the log are missing here: stderr did not take them"
                );
                told = lost;
            }
        }
    }

    fn write(&mut self, mut text: &[u8]) -> io::Result<()> {
        while !text.is_empty() {
            match self.stream.write(text) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => text = &text[count..],
                // Another process that has the stream may have made it non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(LOG_RETRY_PAUSE);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, sync_channel};
    use std::time::Duration;

    use super::*;

    /// Hands each text over to the test, and waits until it is taken.
    struct Handed(std::sync::mpsc::SyncSender<Vec<u8>>);

    impl Write for Handed {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0
                .send(text.to_vec())
                .map_err(|_| ErrorKind::BrokenPipe)?;
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stream_that_takes_nothing_costs_lines_and_never_blocks() {
        let (stream, takes) = sync_channel(0);
        let queue = Queue::start("test", Handed(stream));
        for number in 0..LOG_LINES_MAX + 3 {
            queue.push(number.to_string().as_bytes());
        }
        assert_eq!(queue.state.lost.value(), 3);
        assert!(!queue.is_empty());
        // What was taken comes in its order, and makes places for others.
        for number in 0..LOG_LINES_MAX {
            assert_eq!(takes.recv().unwrap(), number.to_string().as_bytes());
        }
        queue.push(b"last");
        assert_eq!(takes.recv().unwrap(), b"last");
        assert_eq!(queue.state.lost.value(), 3);
    }

    #[test]
    fn a_long_line_takes_the_places_of_many() {
        let (stream, takes) = sync_channel(0);
        let queue = Queue::start("test", Handed(stream));
        queue.push(&vec![b'x'; LOG_LINE_BYTES * LOG_LINES_MAX + 1]);
        assert_eq!(queue.state.lost.value(), 1);
        queue.push(&vec![b'x'; LOG_LINE_BYTES * LOG_LINES_MAX]);
        queue.push(b"more");
        assert_eq!(queue.state.lost.value(), 2);
        assert_eq!(takes.recv().unwrap().len(), LOG_LINE_BYTES * LOG_LINES_MAX);
        let more = takes.recv_timeout(Duration::ZERO);
        assert_eq!(more, Err(RecvTimeoutError::Timeout));
    }

    #[test]
    fn a_stream_that_fails_loses_and_counts_each_text() {
        let (stream, takes) = sync_channel(0);
        drop(takes);
        let queue = Queue::start("test", Handed(stream));
        for _ in 0..5 {
            queue.push(b"text");
        }
        while !queue.is_empty() {
            thread::yield_now();
        }
        assert_eq!(queue.state.lost.value(), 5);
    }

    /// Takes a byte at a time, and every other time none now.
    struct Hesitant(Handed, bool);

    impl Write for Hesitant {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.1 = !self.1;
            match self.1 {
                true => Err(ErrorKind::WouldBlock.into()),
                false => self.0.write(&text[..1]),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stream_that_does_not_block_gets_whole_texts() {
        let (stream, takes) = sync_channel(0);
        let queue = Queue::start("test", Hesitant(Handed(stream), false));
        queue.push(b"who");
        queue.push(b"le");
        let whole: Vec<u8> = takes.iter().take(5).flatten().collect();
        assert_eq!(whole, b"whole");
        assert_eq!(queue.state.lost.value(), 0);
    }
}
