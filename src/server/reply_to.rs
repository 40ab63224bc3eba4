//! How a session's pulls are answered, in either protocol.

use presenced_socketio::packet::{Id, encode};

use crate::gateway::response::{error_json, pull_error_json};
use crate::pull::{Answer, PullError};

/// What a pull came in, and so how its answer is spelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReplyTo {
    /// A message with this number.
    Message(u64),
    /// An event of Socket.IO that wants an acknowledgement.
    Event {
        /// The namespace that it came in.
        namespace: Box<str>,
        /// Its id.
        id: Id,
    },
}

/// What a client is told whose question met a fault.
const INTERNAL: &str = "a fault of the server's own: ask again";

impl ReplyTo {
    /// The text that answers it.
    pub(super) fn answer(&self, answer: &Answer) -> Vec<u8> {
        self.spell(|number| answer.json(number))
    }

    /// The text that refuses it.
    pub(super) fn refuse(&self, error: &PullError) -> Vec<u8> {
        self.spell(|number| pull_error_json(error, number))
    }

    /// The text that says that there is no answer.
    pub(super) fn fail(&self) -> Vec<u8> {
        self.spell(|number| error_json("internal", INTERNAL, number))
    }

    fn spell(&self, json: impl FnOnce(Option<u64>) -> Vec<u8>) -> Vec<u8> {
        match self {
            ReplyTo::Message(number) => json(Some(*number)),
            ReplyTo::Event { namespace, id } => acknowledgement(namespace, id, &json(None)),
        }
    }
}

/// The acknowledgement of an event of Socket.IO, whose one argument is `json`.
pub(super) fn acknowledgement(namespace: &str, id: &Id, json: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(json.len() + namespace.len() + 32);
    encode::ack(&mut packet, namespace, id, json);
    packet
}
