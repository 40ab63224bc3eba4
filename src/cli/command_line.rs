//! What the binary can be asked to do.

use clap::{Args, Parser, Subcommand};

use super::Flags;
use super::capacity::CapacityRequest;
use super::store::StoreFlags;
use super::token::TokenRequest;

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

    /// Says how many sessions this host holds, and which limit comes first
    ///
    /// Takes the server's flags, environment and file. Opens sessions on loopback against a server of its own for some
    /// ten seconds, to measure what one costs, and prints a line for each limit of the host. Exits with 0, with 1 if the
    /// host holds fewer than --sessions, and with 2 if the settings can't work.
    Capacity(Box<CapacityCommand>),

    /// Prints each setting with its value and where that comes from, as a file for --config
    ///
    /// Takes the server's flags, environment and file. Secrets are not printed.
    PrintConfig(Box<Flags>),

    /// Prints a token that a server with the same settings accepts, to try it with
    ///
    /// Takes the server's flags, environment and file, and signs with the first secret of the issuer. Whoever has the secret
    /// can be anyone: in production, tokens are for your login to give out.
    Token(Box<TokenCommand>),

    /// Reads a token from standard input, and says whether it would be accepted, and why not
    ///
    /// Takes the server's flags, environment and file; keys that the server would fetch are fetched once. It does not
    /// know what was revoked. Exits with 0 if the token is good for sessions or for pulls, with 1 if it is for
    /// neither, and with 2 if there is none or the settings are wrong.
    CheckToken(Box<Flags>),

    /// Runs the store alone: a memcached that speaks the text protocol, meta commands included
    ///
    /// Any memcached client can use it. The protocol has no authentication: listen beyond this machine
    /// only on a network that you trust.
    Store(StoreFlags),
}

/// The flags of `presenced token`.
#[derive(Clone, Debug, Args)]
pub struct TokenCommand {
    /// What the token is to say.
    #[command(flatten)]
    pub request: TokenRequest,

    /// The server's.
    #[command(flatten)]
    pub flags: Flags,
}

/// The flags of `presenced capacity`.
#[derive(Clone, Debug, Args)]
pub struct CapacityCommand {
    /// What is asked of the host.
    #[command(flatten)]
    pub request: CapacityRequest,

    /// The server's.
    #[command(flatten)]
    pub flags: Flags,
}
