//! The server's command: flags to settings, what it says, what it runs.

#![warn(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods)]

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use presenced::cli::capacity::{CapacityRequest, capacity};
use presenced::cli::examine;
use presenced::cli::finding::{Finding, State};
use presenced::cli::sources::{Asked, Checked, Settings, What};
use presenced::cli::store::StoreFlags;
use presenced::cli::token::TokenRequest;
use presenced::cli::{Notice, Promises, check_token, print_config, promises, token};
use presenced::log::{self, LogFormat};
use presenced::reload::{Begun, Reloader};
use presenced::server::{Config, Server, ServerError};
use presenced::signals::{Signals, Stop};
use presenced_presence::UserId;
use presenced_store::RunningStore;
use rustix::io::Errno;
use tokio::runtime::Builder;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

fn main() -> ExitCode {
    let asked = Asked::of_process().map_err(|refused| {
        log::start(Targets::new(), refused.log_format);
        Box::from(refused.error)
    });
    let ran = asked.and_then(run);
    let status = ran.unwrap_or_else(|error| tell(&*error));
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
        Some(asked) => printed(asked.print(), ExitCode::SUCCESS),
        None => {
            log::always(|| match is_of_descriptors(&*error) {
                true => tracing::error!("{error}: the limit on open files (ulimit -n) is too low"),
                false => tracing::error!("{error}"),
            });
            ExitCode::FAILURE
        }
    }
}

/// The status of a process that had only to print something. A reader who has seen enough and is gone needs no
/// message.
fn printed(written: io::Result<()>, status: ExitCode) -> ExitCode {
    let Err(error) = written else {
        return status;
    };
    if error.kind() != ErrorKind::BrokenPipe {
        log::always(|| tracing::error!("cannot write to stdout: {error}"));
    }
    ExitCode::FAILURE
}

/// Whether there was no file descriptor for what every process needs to start.
fn is_of_descriptors(error: &(dyn Error + 'static)) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.raw_os_error() == Some(Errno::MFILE.raw_os_error()))
}

fn run(Asked { what, settings }: Asked) -> Result<ExitCode, Box<dyn Error>> {
    let logs = &settings.flags.logs;
    log::start(logs.log_level.clone(), logs.log_format);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let ran = runtime.block_on(async {
        match what {
            What::Serve => run_edge(settings, Signals::catch()?).await?,
            What::Store(store) => run_store(&store, &settings, Signals::catch()?).await?,
            What::Check => return check(settings).await,
            What::Capacity(request) => return host_capacity(&request, settings).await,
            What::PrintConfig => return print_config(settings),
            What::Token(request) => return token(&request, &settings),
            What::CheckToken => return check_token(settings).await,
        }
        Ok(ExitCode::SUCCESS)
    });
    // A name server that does not answer must not hold up the end.
    runtime.shutdown_background();
    ran
}

/// What the server runs with, after the log has what the operator should know of it.
fn logged(checked: Checked) -> Result<Config, clap::Error> {
    checked.notices.iter().for_each(Notice::log);
    checked.config
}

/// Prints what the server would run with.
fn print_config(settings: Settings) -> Result<ExitCode, Box<dyn Error>> {
    let text = print_config::print(&settings);
    // Only settings that work are printed.
    logged(settings.check())?;
    Ok(printed(log::print(&text), ExitCode::SUCCESS))
}

/// Prints whether the server would work, a line for each thing.
async fn check(settings: Settings) -> Result<ExitCode, Box<dyn Error>> {
    let format = settings.flags.logs.log_format;
    let Checked { config, notices } = settings.clone().check();
    let findings = examine::examine(&config?, &notices, &settings).await;
    Ok(report(&findings, format, is_well(&findings)))
}

/// Prints how many sessions this host holds.
async fn host_capacity(
    request: &CapacityRequest,
    settings: Settings,
) -> Result<ExitCode, Box<dyn Error>> {
    let format = settings.flags.logs.log_format;
    // A server runs for a moment, of which only warnings matter.
    log::set_levels(Targets::new().with_default(LevelFilter::WARN));
    let findings = capacity(&settings.check().config?, request).await;
    Ok(report(&findings, format, is_well(&findings)))
}

fn is_well(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.state != State::Wrong)
}

/// Prints a line for each thing that was looked at.
fn report(findings: &[Finding], format: LogFormat, is_well: bool) -> ExitCode {
    let lines = findings.iter().map(|finding| finding.line(format) + "\n");
    let status = match is_well {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    };
    printed(log::print(&lines.collect::<String>()), status)
}

/// Prints a token, and nothing else.
fn token(request: &TokenRequest, settings: &Settings) -> Result<ExitCode, Box<dyn Error>> {
    let config = settings.clone().check().config?;
    let token = token::sign(&config, request).map_err(|why| settings.refuse(&why))?;
    let line = token + "\n";
    Ok(printed(log::print(&line), ExitCode::SUCCESS))
}

/// Prints whether the token on standard input would be accepted.
async fn check_token(settings: Settings) -> Result<ExitCode, Box<dyn Error>> {
    let tokens = settings.clone().check().config?.gateway.tokens;
    let token = check_token::read(io::stdin().lock(), tokens.rules.bytes_max);
    let checked = match token {
        Ok(token) => check_token::check(&tokens, &token).await,
        Err(why) => Err(why),
    };
    let checked = checked.map_err(|why| settings.refuse(&why))?;
    let format = settings.flags.logs.log_format;
    Ok(report(&checked.findings, format, checked.is_accepted))
}

async fn run_edge(settings: Settings, mut signals: Signals) -> Result<(), Box<dyn Error>> {
    let hangups = signals.take_hangups();
    // A file or a name server that lets the start wait must not keep signals from ending it.
    let (server, times, begun) = tokio::select! {
        biased;
        started = start_edge(settings) => started?,
        _ = signals.told_to_stop() => return Ok(stopped_at_once()?),
    };
    let reloader = Reloader::new(begun, server.switch(), Asked::of_process);
    if let Some(hangups) = hangups {
        tokio::spawn(reloader.run(hangups));
    }
    Ok(serve(server, &times, signals).await?)
}

/// Starts the server after its settings have been checked, and tells where it is.
async fn start_edge(settings: Settings) -> Result<(Server, Times, Begun), Box<dyn Error>> {
    // Files are read, which blocks: a pipe may have no writer yet.
    let (begun, checked) = spawn_blocking(|| Begun::check(settings)).await?;
    let config = logged(checked)?;
    let promises = promises(&config);
    let is_dev = !config.gateway.tokens.has_key();
    let has_tls = config.gateway.tls.is_some();
    let times = Times {
        drain_delay: config.drain_delay,
        drain: config.drain,
    };
    let server = Server::start(config).await?;
    let greeting = Greeting::new(&server, has_tls, is_dev, promises);
    log::greet(&greeting, || greeting.log());
    Ok((server, times, begun))
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

async fn run_store(
    flags: &StoreFlags,
    settings: &Settings,
    mut signals: Signals,
) -> Result<(), Box<dyn Error>> {
    let checked = flags.check();
    let (address, options) = checked.map_err(|error| settings.refuse(&error))?;
    settings.notices.iter().for_each(Notice::log);
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
    /// Shows a user in memcached.
    command: Option<String>,
}

impl Greeting {
    fn new(server: &Server, has_tls: bool, is_dev: bool, promises: Promises) -> Greeting {
        let alice = UserId::new("alice").ok();
        let command = alice.and_then(|alice| server.look_up().command(&alice));
        let scheme = if has_tls { "https" } else { "http" };
        let edges = server.gateway_addrs().iter();
        Greeting {
            edges: edges.map(|edge| format!("{scheme}://{edge}/")).collect(),
            admin: format!("http://{}/metrics", server.admin_addr()),
            store: server.store_addr(),
            promises,
            is_dev,
            command: command.filter(|_| is_dev),
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
                "Then look into memcached, as any of its clients can:\n  {command}\n"
            ),
            None => Ok(()),
        }
    }
}
