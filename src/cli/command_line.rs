//! What the binary can be asked to do.

use clap::{Parser, Subcommand};

use super::Flags;
use super::store::StoreFlags;

/// Tracks who is online now: users hold a WebSocket open, their heartbeats keep
/// `user:{userId}:online` alive in memcached, and clients pull to learn who is online.
///
/// Without flags it serves this machine only, with an embedded store, a random key and a demo page.
/// Each flag has an environment variable, and a key of its name in the file that --config names.
/// Durations are written as 25s or 500ms, sizes as 64KiB or 1MiB; a size without a unit is in bytes.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "presenced",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
pub struct CommandLine {
    /// Something else than the server
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The server's.
    #[command(flatten)]
    pub flags: Flags,
}

/// What else the binary does.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Checks settings, files, memcached nodes and limits, and starts nothing
    ///
    /// Takes the server's flags, environment and file. Prints a line for each thing that it checks, and
    /// exits with 0 if all is well, with 1 if something is wrong, and with 2 if the settings are.
    Check(Box<Flags>),

    /// Prints each setting with its value and where that comes from, as a file for --config
    ///
    /// Takes the server's flags, environment and file. Secrets are not printed.
    PrintConfig(Box<Flags>),

    /// Runs the store alone: a memcached that speaks the text protocol, meta commands included
    ///
    /// Any memcached client can use it. The protocol has no authentication: listen beyond this machine
    /// only on a network that you trust.
    Store(StoreFlags),
}
