//! What signals do to the process: SIGTERM and SIGINT stop it, SIGHUP has settings read again, and SIGUSR1 and
//! SIGUSR2 are ignored. Otherwise a log rotation would end the process and all of its sessions.
//!
//! Others keep what they do: SIGQUIT ends the process with a core dump; SIGPIPE is ignored from the
//! start, by the standard library.

use std::future::pending;
use std::io;

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What tells the process to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM: what looks after servers wants to replace it.
    Terminate,
    /// SIGINT: someone at a terminal wants it gone.
    Interrupt,
}

/// The signals that the process handles.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Until somebody else takes them.
    hangup: Option<Signal>,
    user_defined1: Signal,
    user_defined2: Signal,
}

impl Signals {
    /// Catches them from now on. Call it on a tokio runtime, and before anything is logged.
    ///
    /// # Errors
    ///
    /// The system refuses a handler.
    pub fn catch() -> io::Result<Signals> {
        // Sent when the log is a file that has reached `ulimit -f`: the write should fail, and not
        // end the process. Once a signal is caught, it stays so.
        let _ = signal(SignalKind::from_raw(Number::XFSZ.as_raw()))?;
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: Some(signal(SignalKind::hangup())?),
            user_defined1: signal(SignalKind::user_defined1())?,
            user_defined2: signal(SignalKind::user_defined2())?,
        })
    }

    /// SIGHUP from now on, also if it has come already, for whoever reads settings again. It is ignored no longer.
    pub fn take_hangups(&mut self) -> Option<Hangups> {
        self.hangup.take().map(Hangups)
    }

    /// Returns at the next SIGTERM or SIGINT; logs those that are ignored.
    pub async fn told_to_stop(&mut self) -> Stop {
        loop {
            let signal = tokio::select! {
                _ = self.terminate.recv() => return Stop::Terminate,
                _ = self.interrupt.recv() => return Stop::Interrupt,
                () = next(&mut self.hangup) => "SIGHUP",
                _ = self.user_defined1.recv() => "SIGUSR1",
                _ = self.user_defined2.recv() => "SIGUSR2",
            };
            tracing::info!("{signal} is ignored: the log goes to stderr, and is not opened again");
        }
    }
}

/// The next one of a signal that is not somebody else's.
async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => pending().await,
    }
}

/// SIGHUP: settings are to be read again.
#[derive(Debug)]
pub struct Hangups(Signal);

impl Hangups {
    /// Returns at the next one; those that have come since the last are one.
    pub async fn next(&mut self) {
        self.0.recv().await;
    }
}
