//! Reading requests, as a server does, and replies, as a client does: where one ends, and what it
//! says. [`request`](crate::request) and [`reply`](crate::reply) export what is public here.

mod command;
mod line;
mod meta_command;
mod reply_line;
pub(crate) mod reply_parser;
pub(crate) mod request_parser;
pub(crate) mod skimmer;
mod storage;
