//! Requests: what a client asks, parsed as a server reads it.
//!
//! Behaves as memcached 1.6.18 does, bad requests included: each gets the same answer. Lines may end
//! in `\n` alone. Words are parted by spaces, and there may be several.
//!
//! # Where the next request begins after a bad one
//!
//! Behind the line, if its command has no value. Behind a storage command that it refuses memcached
//! mostly does the same, and then runs the value as commands: whoever writes the value has written
//! them. Here no byte of a value is ever read as a request:
//!
//! * Where the line says how long the value is, the value is swallowed ([`Parsed::Swallowed`]), and then
//!   the request has one answer ([`Next::Swallow`]), whatever else is wrong with the line.
//! * Where it does not (the number of words is wrong, the length is not a number or out of range),
//!   the connection is to be closed after the answer ([`Next::Close`]).
//! * Where a value is not followed by a line end, its length was wrong: it is to be closed, too.

use crate::key::Key;
pub use crate::keys::{Keys, ReceivedKeys};
use crate::meta::{Direction, Flags};
pub use crate::parse::request_parser::{Next, Parsed, Parser};
pub use crate::received::Received;
pub use crate::request_error::{BadRequest, BadRequestKind};

/// One request of `protocol.txt`. A client's has [`Key`]s, and [`encode::request`](crate::encode::request)
/// writes it; a server's is [`Received`], borrowed from the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request<'a, K = Key<'a>> {
    /// `get <key>*` and `gets <key>*` (*Retrieval command*).
    Get {
        /// At least one.
        keys: Keys<'a, K>,
        /// It was `gets`: replies carry the CAS number.
        with_cas: bool,
    },
    /// `gat <exptime> <key>*` and `gats <exptime> <key>*` (*Get And Touch*).
    GetAndTouch {
        /// As in `set`.
        exptime: i64,
        /// There may be none: memcached answers `END`.
        keys: Keys<'a, K>,
        /// It was `gats`: replies carry the CAS number.
        with_cas: bool,
    },
    /// `<verb> <key> <flags> <exptime> <bytes> [<cas unique>] [noreply]` and the value (*Storage
    /// commands*).
    Store {
        /// Which of the six it is.
        verb: StoreVerb,
        /// Where to store.
        key: K,
        /// To be given back with the value.
        flags: u32,
        /// As *Expiration times* has it: 0, negative, up to 30 days, or Unix time.
        exptime: i64,
        /// What to store, at most [`Limits::value_bytes_max`](crate::Limits::value_bytes_max).
        value: &'a [u8],
        /// No answer is wanted.
        noreply: bool,
    },
    /// `incr <key> <value> [noreply]` and `decr <key> <value> [noreply]` (*Increment/Decrement*).
    Arithmetic {
        /// Which of the two it is.
        direction: Direction,
        /// Where the number is stored.
        key: K,
        /// How much to add or subtract.
        delta: u64,
        /// No answer is wanted.
        noreply: bool,
    },
    /// `touch <key> <exptime> [noreply]` (*Touch*).
    Touch {
        /// Whose expiry to change.
        key: K,
        /// As in `set`.
        exptime: i64,
        /// No answer is wanted.
        noreply: bool,
    },
    /// `delete <key> [0] [noreply]` (*Deletion*).
    Delete {
        /// What to remove.
        key: K,
        /// No answer is wanted.
        noreply: bool,
    },
    /// `mg <key> <flags>*` (*Meta Get*).
    MetaGet {
        /// What to look up; base64 with [`Flag::Base64Key`](crate::meta::Flag::Base64Key).
        key: K,
        /// How, and what to tell.
        flags: Flags<'a>,
    },
    /// `ms <key> <bytes> <flags>*` and the value (*Meta Set*).
    MetaSet {
        /// Where to store; base64 likewise.
        key: K,
        /// What to store, at most [`Limits::value_bytes_max`](crate::Limits::value_bytes_max).
        value: &'a [u8],
        /// How, and what to tell.
        flags: Flags<'a>,
    },
    /// `md <key> <flags>*` (*Meta Delete*).
    MetaDelete {
        /// What to remove; base64 likewise.
        key: K,
        /// How, and what to tell.
        flags: Flags<'a>,
    },
    /// `ma <key> <flags>*` (*Meta Arithmetic*).
    MetaArithmetic {
        /// Where the number is stored; base64 likewise.
        key: K,
        /// How, and what to tell.
        flags: Flags<'a>,
    },
    /// `me <key> [b]` (*Meta Debug*).
    MetaDebug {
        /// What to describe.
        key: K,
        /// The key is base64.
        base64: bool,
    },
    /// `mn` (*Meta No-Op*).
    MetaNoop,
    /// `version` (*Other commands*).
    Version,
    /// `verbosity <level> [noreply]` (*Other commands*).
    Verbosity {
        /// How much to log.
        level: u32,
        /// No answer is wanted.
        noreply: bool,
    },
    /// `stats [<args>]` (*Statistics*).
    Stats {
        /// The words after it, often none.
        arguments: Keys<'a, K>,
    },
    /// `flush_all [delay] [noreply]` (*Other commands*).
    FlushAll {
        /// Seconds from now, or Unix time beyond 30 days. A delay of 0 or less is none.
        delay: Option<u32>,
        /// No answer is wanted.
        noreply: bool,
    },
    /// `quit` (*Other commands*).
    Quit,
}

/// The storage commands (`protocol.txt`, *Storage commands*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreVerb {
    /// `set`: whatever was there.
    Set,
    /// `add`: only if there is nothing.
    Add,
    /// `replace`: only if there is something.
    Replace,
    /// `append`: after the value that is there; flags and expiry time stay.
    Append,
    /// `prepend`: before the value that is there; flags and expiry time stay.
    Prepend,
    /// `cas`: only if what is there has this CAS number.
    Cas {
        /// As `gets` told it.
        unique: u64,
    },
}

impl StoreVerb {
    /// The command's name.
    #[must_use]
    pub fn name(self) -> &'static [u8] {
        match self {
            StoreVerb::Set => b"set",
            StoreVerb::Add => b"add",
            StoreVerb::Replace => b"replace",
            StoreVerb::Append => b"append",
            StoreVerb::Prepend => b"prepend",
            StoreVerb::Cas { .. } => b"cas",
        }
    }
}
