//! The server's command: flags to settings, what it says, what it runs.

#![warn(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods)]

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::CommandFactory;
use clap::error::ErrorKind;
use presenced::cli::store::StoreFlags;
use presenced::cli::{Command, Flags, Promises, promises};
use presenced::log;
use presenced::server::{Server, ServerError};
use presenced::signals::{Signals, Stop};
use presenced_presence::UserId;
use presenced_store::RunningStore;
use rustix::io::Errno;
use tokio::runtime::Builder;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing_subscriber::filter::Targets;

fn main() -> ExitCode {
    let ran = Flags::from_process().map_err(|error| {
        log::start(Targets::new(), Flags::log_format_of_process());
        Box::from(error)
    });
    let ran = ran.and_then(run);
    let status = ran.map_or_else(|error| tell(&*error), |()| ExitCode::SUCCESS);
    log::flush();
    status
}

/// Says why the process ends; returns its status.
fn tell(error: &(dyn Error + 'static)) -> ExitCode {
    match error.downcast_ref::<clap::Error>() {
        Some(refused) if refused.use_stderr() => {
            let text = refused.render();
            match log::is_coloured() {
                true => log::say(&text.ansi()),
                false => log::say(&text),
            }
            ExitCode::from(2)
        }
        // The text is all that was asked for, and is printed for as long as it takes.
        Some(asked) => {
            let _ = asked.print();
            ExitCode::SUCCESS
        }
        None => {
            log::always(|| match is_of_descriptors(&*error) {
                true => tracing::error!("{error}: the limit on open files (ulimit -n) is too low"),
                false => tracing::error!("{error}"),
            });
            ExitCode::FAILURE
        }
    }
}

/// Whether there was no file descriptor for what every process needs to start.
fn is_of_descriptors(error: &(dyn Error + 'static)) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.raw_os_error() == Some(Errno::MFILE.raw_os_error()))
}

/// The error of a wrong flag: the message, and how to use it (or its `subcommand`).
fn refusal(subcommand: Option<&str>, message: &str) -> clap::Error {
    let mut command = Flags::command();
    command.build();
    subcommand
        .and_then(|name| command.find_subcommand(name).cloned())
        .unwrap_or(command)
        .error(ErrorKind::ValueValidation, message)
}

fn run(mut flags: Flags) -> Result<(), Box<dyn Error>> {
    log::start(flags.logs.log_level.clone(), flags.logs.log_format);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let ran = runtime.block_on(async {
        let signals = Signals::catch()?;
        match flags.command.take() {
            Some(Command::Store(store)) => run_store(&store, signals).await,
            None => run_edge(flags, signals).await,
        }
    });
    // A name server that does not answer must not hold up the end.
    runtime.shutdown_background();
    ran
}

async fn run_edge(flags: Flags, mut signals: Signals) -> Result<(), Box<dyn Error>> {
    // A file or a name server that lets the start wait must not keep signals from ending it.
    let (server, times) = tokio::select! {
        biased;
        started = start_edge(flags) => started?,
        _ = signals.told_to_stop() => return Ok(stopped_at_once()?),
    };
    Ok(serve(server, &times, signals).await?)
}

/// Starts the server after its settings have been checked, and tells where it is.
async fn start_edge(flags: Flags) -> Result<(Server, Times), Box<dyn Error>> {
    // Files are read, which blocks: a pipe may have no writer yet.
    let config = spawn_blocking(|| flags.check()).await?;
    let config = config.map_err(|error| refusal(None, &error.to_string()))?;
    let promises = promises(&config);
    let is_dev = config.gateway.secret.is_none();
    let times = Times {
        drain_delay: config.drain_delay,
        drain: config.drain,
    };
    let server = Server::start(config).await?;
    let greeting = Greeting::new(&server, is_dev, promises);
    log::greet(&greeting, || greeting.log());
    Ok((server, times))
}

/// How the server stops.
struct Times {
    drain_delay: Duration,
    drain: Duration,
}

/// Serves until a signal or a failure, and drains.
async fn serve(mut server: Server, times: &Times, mut signals: Signals) -> Result<(), ServerError> {
    let &Times { drain_delay, drain } = times;
    let stop = tokio::select! {
        stop = signals.told_to_stop() => stop,
        error = server.failed() => return Err(error),
    };
    if stop == Stop::Terminate && !drain_delay.is_zero() {
        server.announce_departure();
        tracing::info!(
            ?drain_delay,
            "not ready from now on; a second signal ends it at once"
        );
        tokio::select! {
            () = sleep(drain_delay) => {}
            _ = signals.told_to_stop() => return stopped_at_once(),
            error = server.failed() => return Err(error),
        }
    }
    tracing::info!(?drain, "draining; a second signal ends it at once");
    tokio::select! {
        () = server.drain() => tracing::info!("stopped"),
        _ = signals.told_to_stop() => return stopped_at_once(),
    }
    Ok(())
}

fn stopped_at_once() -> Result<(), ServerError> {
    tracing::warn!("stopped at once");
    Ok(())
}

async fn run_store(flags: &StoreFlags, mut signals: Signals) -> Result<(), Box<dyn Error>> {
    let checked = flags.check();
    let (address, options) = checked.map_err(|error| refusal(Some("store"), &error.to_string()))?;
    let mut store = RunningStore::start(&address, options)?;
    let address = store.address();
    log::greet(&format_args!("store    {address}\n"), || {
        tracing::info!(store = %address, "started");
    });
    tokio::select! {
        _ = signals.told_to_stop() => store.stop(),
        error = store.failed() => return Err(error.into()),
    }
    Ok(())
}

/// Where everything is and what to try.
struct Greeting {
    /// One for each address that was given.
    edges: Vec<String>,
    admin: String,
    store: Option<SocketAddr>,
    promises: Promises,
    is_dev: bool,
    /// Shows a user in the embedded store.
    command: Option<String>,
}

impl Greeting {
    fn new(server: &Server, is_dev: bool, promises: Promises) -> Greeting {
        let alice = UserId::new("alice").ok();
        let look_up = server.look_up().zip(alice).filter(|_| is_dev);
        let edges = server.gateway_addrs().iter();
        Greeting {
            edges: edges.map(|edge| format!("http://{edge}/")).collect(),
            admin: format!("http://{}/metrics", server.admin_addr()),
            store: server.store_addr(),
            promises,
            is_dev,
            command: look_up.map(|(look_up, alice)| look_up.command(&alice)),
        }
    }

    /// The same as its text, for programs.
    fn log(&self) {
        let Promises {
            online,
            offline,
            headroom,
        } = &self.promises;
        let store = self.store.map(|store| store.to_string());
        tracing::info!(
            edge = self.edges.join(", "),
            admin = self.admin,
            store,
            online,
            offline,
            headroom,
            "started"
        );
        if self.is_dev {
            let command = self.command.as_deref();
            tracing::info!(
                command,
                "no key was given: tokens for everyone on this machine, and on no other"
            );
        }
    }
}

impl fmt::Display for Greeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for edge in &self.edges {
            writeln!(f, "edge     {edge}")?;
        }
        writeln!(f, "admin    {}", self.admin)?;
        if let Some(store) = self.store {
            writeln!(f, "store    {store}")?;
        }
        writeln!(f, "{}", self.promises)?;
        if self.is_dev {
            write!(
                f,
                "\nNo key was given: tokens for everyone on this machine, and on no other.\n\
                 Open {} in two tabs.\n",
                self.edges[0]
            )?;
        }
        match &self.command {
            Some(command) => write!(
                f,
                "Then look into the store, as any memcached client can:\n  {command}\n"
            ),
            None => Ok(()),
        }
    }
}
