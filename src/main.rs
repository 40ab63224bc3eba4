//! The server's command: flags to settings, what it says, what it runs.

#![warn(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods)]

use std::error::Error;
use std::fmt::Write;
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::ErrorKind;
use presenced::cli::store::StoreFlags;
use presenced::cli::{Command, Flags, promises};
use presenced::log;
use presenced::server::{Config, Server, ServerError};
use presenced::signals::Signals;
use presenced_presence::UserId;
use presenced_store::RunningStore;
use tokio::runtime::Builder;

fn main() -> ExitCode {
    let ran = Flags::from_process().map_err(Box::from).and_then(run);
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
            log::always(|| tracing::error!("{error}"));
            ExitCode::FAILURE
        }
    }
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
            None => {
                let config = flags.check();
                let config = config.map_err(|error| refusal(None, &error.to_string()))?;
                Ok(run_edge(config, signals).await?)
            }
        }
    });
    // A name server that does not answer must not hold up the end.
    runtime.shutdown_background();
    ran
}

async fn run_edge(config: Config, mut signals: Signals) -> Result<(), ServerError> {
    let promises = promises(&config);
    let (is_dev, drain) = (config.gateway.secret.is_none(), config.drain);
    let mut server = Server::start(config).await?;
    log::greet(&greeting(&server, is_dev, &promises));
    tokio::select! {
        () = signals.told_to_stop() => {}
        error = server.failed() => return Err(error),
    }
    tracing::info!(?drain, "draining; a second signal ends it at once");
    tokio::select! {
        () = server.drain() => tracing::info!("stopped"),
        () = signals.told_to_stop() => tracing::warn!("stopped at once"),
    }
    Ok(())
}

async fn run_store(flags: &StoreFlags, mut signals: Signals) -> Result<(), Box<dyn Error>> {
    let checked = flags.check();
    let (address, options) = checked.map_err(|error| refusal(Some("store"), &error.to_string()))?;
    let mut store = RunningStore::start(&address, options)?;
    log::greet(&format!("store    {}\n", store.address()));
    tokio::select! {
        () = signals.told_to_stop() => store.stop(),
        error = store.failed() => return Err(error.into()),
    }
    Ok(())
}

/// Says where everything is and what to try.
fn greeting(server: &Server, is_dev: bool, promises: &str) -> String {
    let edge = server.gateway_addr();
    let mut text = format!(
        "edge     http://{edge}/\nadmin    http://{}/metrics\n",
        server.admin_addr()
    );
    if let Some(store) = server.store_addr() {
        let _ = writeln!(text, "store    {store}");
    }
    let _ = writeln!(text, "{promises}");
    if is_dev {
        let _ = write!(
            text,
            "\nNo key was given: tokens for everyone on this machine, and on no other.\n\
             Open http://{edge}/ in two tabs.\n"
        );
        if let (Some(look_up), Ok(alice)) = (server.look_up(), UserId::new("alice")) {
            let command = look_up.command(&alice);
            let _ = write!(
                text,
                "Then look into the store, as any memcached client can:\n  {command}\n"
            );
        }
    }
    text
}
