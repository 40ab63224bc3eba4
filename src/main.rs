//! The server's command: flags, log, signals.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::ErrorKind;
use presenced::server::{Server, ServerError};
use presenced::settings::{Flags, LogFormat, Settings};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let flags = Flags::from_process();
    if let Err(error) = start_log(&flags) {
        refuse(&format!("--log-level {:?}: {error}", flags.log_level));
    }
    let settings = flags
        .check()
        .unwrap_or_else(|error| refuse(&error.to_string()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ran = match runtime {
        Ok(runtime) => runtime.block_on(run(settings)),
        Err(error) => Err(error.into()),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Ends the process as a wrong flag does: the message, a hint at `--help`, status 2.
fn refuse(message: &str) -> ! {
    Flags::command()
        .error(ErrorKind::ValueValidation, message)
        .exit()
}

fn start_log(flags: &Flags) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::try_new(&flags.log_level)?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    match flags.log_format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

async fn run(settings: Settings) -> Result<(), ServerError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let promises = settings.promises();
    let (keyless, drain) = (settings.secret.is_none(), settings.drain);
    let mut server = Server::start(settings).await?;
    greet(&server, keyless, &promises);
    tokio::select! {
        () = told_to_stop(&mut terminate, &mut interrupt) => {}
        error = server.failed() => return Err(error),
    }
    tracing::info!(?drain, "draining; a second signal ends it at once");
    tokio::select! {
        () = server.drain() => tracing::info!("stopped"),
        () = told_to_stop(&mut terminate, &mut interrupt) => tracing::warn!("stopped at once"),
    }
    Ok(())
}

async fn told_to_stop(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
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
