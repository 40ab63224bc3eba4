//! The server's command: flags, log, which server runs.

use std::error::Error;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::ErrorKind;
use presenced::server::{Server, ServerError};
use presenced::settings::{Command, Flags, LogFormat, Settings};
use presenced::signals::Signals;
use presenced::store_command::{StoreError, StoreFlags};
use tokio::runtime::Builder;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;
use tracing_subscriber::util::SubscriberInitExt;

fn main() -> ExitCode {
    let flags = Flags::from_process();
    start_log(&flags);
    let command = flags.command.clone();
    let ran = match command {
        Some(Command::Store(store)) => on_runtime(run_store(store)),
        None => {
            let settings = flags.check();
            let settings = settings.unwrap_or_else(|error| refuse(None, &error.to_string()));
            on_runtime(run(settings))
        }
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn on_runtime<E>(ran: impl Future<Output = Result<(), E>>) -> Result<(), Box<dyn Error>>
where
    E: Error + 'static,
{
    let runtime = Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(ran)?)
}

/// Ends the process as a wrong flag does: the message, how to use it (or its `subcommand`), status 2.
fn refuse(subcommand: Option<&str>, message: &str) -> ! {
    let mut command = Flags::command();
    command.build();
    subcommand
        .and_then(|name| command.find_subcommand(name).cloned())
        .unwrap_or(command)
        .error(ErrorKind::ValueValidation, message)
        .exit()
}

fn start_log(flags: &Flags) {
    let lines = layer().with_writer(io::stderr);
    let log = registry().with(flags.log_level.clone());
    match flags.log_format {
        LogFormat::Text => log.with(lines.with_ansi(io::stderr().is_terminal())).init(),
        LogFormat::Json => log.with(lines.json()).init(),
    }
}

async fn run(settings: Settings) -> Result<(), ServerError> {
    let mut signals = Signals::catch()?;
    let promises = settings.promises();
    let (keyless, drain) = (settings.secret.is_none(), settings.drain);
    let mut server = Server::start(settings).await?;
    greet(&server, keyless, &promises);
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

async fn run_store(flags: StoreFlags) -> Result<(), StoreError> {
    let mut signals = Signals::catch()?;
    let mut store = match flags.start() {
        Err(StoreError::Flag(why)) => refuse(Some("store"), &why),
        started => started?,
    };
    println!("store    {store}");
    tokio::select! {
        () = signals.told_to_stop() => store.stop(),
        error = store.failed() => return Err(error),
    }
    Ok(())
}

/// Says where everything is and what to try.
fn greet(server: &Server, keyless: bool, promises: &str) {
    println!("edge     http://{}/", server.edge_addr());
    println!("admin    http://{}/metrics", server.admin_addr());
    if let Some(store) = server.store_addr() {
        println!("store    {store}");
    }
    println!("{promises}");
    if keyless {
        println!("\nNo key was given: tokens for everyone on this machine, and on no other.");
        println!("Open http://{}/ in two tabs.", server.edge_addr());
        if let Some(store) = server.store_addr() {
            let (host, port) = (store.ip(), store.port());
            println!("Then look into the store, as any memcached client can:");
            println!("  printf 'get user:alice:online\\r\\nquit\\r\\n' | nc {host} {port}");
        }
    }
}
