//! Socket.IO over one Engine.IO session: which namespaces the client is connected to, and what each
//! packet asks for.

use std::time::Duration;

use thiserror::Error;

use crate::end::End;
use crate::limits::{ATTACHMENT_BYTES_MAX, ATTACHMENT_TIME_MAX, CONNECT_TIMEOUT, NAMESPACES_MAX};
use crate::packet::{Body, Event, Packet};

/// What a server offers, the same for all sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    namespaces: Box<[Box<str>]>,
    /// How long a session may be without a namespace.
    pub connect_timeout: Duration,
    /// Bytes of all attachments of one packet; 0 refuses packets that have some.
    pub attachment_bytes_max: usize,
    /// Time for all attachments of one packet.
    pub attachment_time_max: Duration,
}

/// Why namespaces can't be offered.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RulesError {
    /// One that no client can name.
    #[error("the namespace {0:?} must begin with / and must have no comma")]
    Namespace(String),
    /// One that is there twice.
    #[error("the namespace {0:?} is given twice")]
    Twice(String),
    /// None, or more than a session can keep track of.
    #[error("there must be 1 to {NAMESPACES_MAX} namespaces, not {0}")]
    Count(usize),
}

impl Rules {
    /// With these namespaces, and the default bounds.
    ///
    /// # Errors
    ///
    /// They can't be offered.
    pub fn new(namespaces: &[&str]) -> Result<Rules, RulesError> {
        if !(1..=NAMESPACES_MAX).contains(&namespaces.len()) {
            return Err(RulesError::Count(namespaces.len()));
        }
        for (at, &name) in namespaces.iter().enumerate() {
            if !name.starts_with('/') || name.contains(',') {
                return Err(RulesError::Namespace(name.to_owned()));
            }
            if namespaces[..at].contains(&name) {
                return Err(RulesError::Twice(name.to_owned()));
            }
        }
        Ok(Rules {
            namespaces: namespaces.iter().map(|&name| name.into()).collect(),
            ..Rules::default()
        })
    }

    /// The bit of a namespace; `None` if it is not offered.
    fn bit(&self, namespace: &str) -> Option<u8> {
        let mut names = self.namespaces.iter();
        let at = names.position(|name| **name == *namespace)?;
        1u8.checked_shl(at as u32)
    }
}

impl Default for Rules {
    /// Only `/`.
    fn default() -> Rules {
        Rules {
            namespaces: Box::new(["/".into()]),
            connect_timeout: CONNECT_TIMEOUT,
            attachment_bytes_max: ATTACHMENT_BYTES_MAX,
            attachment_time_max: ATTACHMENT_TIME_MAX,
        }
    }
}

/// What a packet asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Effect<'a> {
    /// To be let in: [`Connection::accept`] or [`Connection::refuse`] follows. What the client sends
    /// to the namespace before that ends the session; clients wait.
    Authenticate {
        /// The namespace.
        namespace: &'a str,
        /// The JSON object that the client connects with: see [`token`](crate::packet::token).
        auth: Option<&'a str>,
    },
    /// To be let into a namespace that is not offered: [`invalid_namespace`] is the answer.
    ///
    /// [`invalid_namespace`]: crate::packet::encode::invalid_namespace
    InvalidNamespace {
        /// The namespace that was asked for.
        namespace: &'a str,
    },
    /// An event. If it has an id, [`ack`](crate::packet::encode::ack) is the answer, once. The
    /// service ignores those that it does not know, with an id or without.
    Event {
        /// The namespace.
        namespace: &'a str,
        /// The event; it has no attachments.
        event: Event<'a>,
    },
    /// The client has left a namespace. It may come back.
    Left {
        /// Which.
        namespace: &'a str,
    },
    /// Nothing: an answer that nobody waits for, or a binary event, which is read to its end.
    Nothing,
}

/// A client's connections to namespaces.
///
/// A client that has connected once, to one namespace, has nothing on the heap: what a sleeping
/// session keeps of it is one byte ([`Connection::into_parts`]).
#[derive(Debug)]
pub struct Connection {
    /// A bit for each namespace.
    connected: u8,
    rest: Option<Box<Rest>>,
}

/// What most sessions have none of, most of the time.
#[derive(Debug, PartialEq, Eq)]
pub struct Rest {
    /// CONNECTs that have no answer yet.
    pending: u8,
    /// CONNECTs that were accepted.
    accepted: u32,
    /// Until when the client must have connected.
    connect_by: Option<Duration>,
    attachments: Option<Attachments>,
}

/// Attachments that are still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attachments {
    missing: u8,
    /// How many more there may be.
    bytes_left: usize,
    until: Duration,
}

impl Rest {
    /// Of a client that has connected once.
    const USUAL: Rest = Rest {
        pending: 0,
        accepted: 1,
        connect_by: None,
        attachments: None,
    };
}

impl Connection {
    /// Of a session that begins at `now`.
    pub fn new(now: Duration, rules: &Rules) -> Connection {
        Connection {
            connected: 0,
            rest: Some(Box::new(Rest {
                accepted: 0,
                connect_by: Some(now + rules.connect_timeout),
                ..Rest::USUAL
            })),
        }
    }

    /// Apart: a bit for each namespace that is connected, the first one's the lowest, and what
    /// most sessions have none of.
    pub fn into_parts(mut self) -> (u8, Option<Box<Rest>>) {
        self.tidy();
        (self.connected, self.rest)
    }

    /// Together again.
    pub fn from_parts(connected: u8, rest: Option<Box<Rest>>) -> Connection {
        Connection { connected, rest }
    }

    /// Whether the client is connected to a namespace.
    pub fn is_connected(&self, namespace: &str, rules: &Rules) -> bool {
        let bit = rules.bit(namespace);
        bit.is_some_and(|bit| self.connected & bit != 0)
    }

    /// The namespaces that the client is connected to, in the order of the rules.
    pub fn namespaces<'r>(&self, rules: &'r Rules) -> impl Iterator<Item = &'r str> + use<'r> {
        let connected = self.connected;
        let names = rules.namespaces.iter().zip(0u32..);
        names.filter_map(move |(name, at)| match connected >> at & 1 {
            0 => None,
            _ => Some(&**name),
        })
    }

    /// A packet has come.
    ///
    /// # Errors
    ///
    /// It ends the session.
    pub fn text<'a>(
        &mut self,
        bytes: &'a [u8],
        now: Duration,
        rules: &Rules,
    ) -> Result<Effect<'a>, End> {
        if self.awaits_attachment() {
            return Err(End::TextForAttachment);
        }
        let Packet { namespace, body } = Packet::decode(bytes).map_err(End::BadMessage)?;
        let bit = rules.bit(namespace);
        if let Body::Connect(auth) = body {
            let Some(bit) = bit else {
                return Ok(Effect::InvalidNamespace { namespace });
            };
            let connected = self.connected;
            let rest = self.rest();
            if (connected | rest.pending) & bit != 0 {
                return Err(End::Connected);
            }
            rest.pending |= bit;
            return Ok(Effect::Authenticate { namespace, auth });
        }
        if let Body::ConnectError(_) = body {
            return Err(End::ConnectError);
        }
        let bit = bit.filter(|bit| self.connected & bit != 0);
        let bit = bit.ok_or(End::NotConnected)?;
        match body {
            Body::Disconnect => {
                self.leave(bit, now, rules);
                Ok(Effect::Left { namespace })
            }
            Body::Event(event) if event.attachments == 0 => Ok(Effect::Event { namespace, event }),
            Body::Event(Event { attachments, .. }) | Body::Ack { attachments, .. } => {
                if attachments > 0 {
                    self.expect(attachments, now, rules)?;
                }
                Ok(Effect::Nothing)
            }
            // Both are dealt with above.
            Body::Connect(_) | Body::ConnectError(_) => Ok(Effect::Nothing),
        }
    }

    /// A binary message has come. It is counted, and not kept.
    ///
    /// # Errors
    ///
    /// It ends the session.
    pub fn binary(&mut self, bytes: &[u8]) -> Result<(), End> {
        let Some(rest) = &mut self.rest else {
            return Err(End::StrayAttachment);
        };
        let Some(attachments) = &mut rest.attachments else {
            return Err(End::StrayAttachment);
        };
        let left = attachments.bytes_left.checked_sub(bytes.len());
        attachments.bytes_left = left.ok_or(End::AttachmentsTooBig)?;
        attachments.missing -= 1;
        if attachments.missing == 0 {
            rest.attachments = None;
            self.tidy();
        }
        Ok(())
    }

    /// Lets the client into a namespace that it has asked for. Returns the number for its Socket.IO
    /// `sid` ([`SidKey::socket_id`](crate::engine::SidKey::socket_id)), which
    /// [`connected`](crate::packet::encode::connected) tells the client; `None` if it does not wait.
    pub fn accept(&mut self, namespace: &str, rules: &Rules) -> Option<u32> {
        let bit = self.answer(namespace, rules)?;
        self.connected |= bit;
        let rest = self.rest();
        rest.connect_by = None;
        let number = rest.accepted;
        rest.accepted = number.saturating_add(1);
        self.tidy();
        Some(number)
    }

    /// Does not let the client into a namespace that it has asked for; true if
    /// [`connect_error`](crate::packet::encode::connect_error) is the answer, false if it does not
    /// wait. The client may ask again.
    #[must_use]
    pub fn refuse(&mut self, namespace: &str, rules: &Rules) -> bool {
        let was_waiting = self.answer(namespace, rules).is_some();
        self.tidy();
        was_waiting
    }

    /// Ends the connection to a namespace; true if
    /// [`disconnect`](crate::packet::encode::disconnect) tells the client so, false if there was none.
    #[must_use]
    pub fn disconnect(&mut self, namespace: &str, now: Duration, rules: &Rules) -> bool {
        let bit = rules.bit(namespace).filter(|bit| self.connected & bit != 0);
        match bit {
            Some(bit) => {
                self.leave(bit, now, rules);
                true
            }
            None => false,
        }
    }

    /// When [`Connection::tick`] has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        let rest = self.rest.as_ref()?;
        let attachments = rest.attachments.map(|attachments| attachments.until);
        rest.connect_by.into_iter().chain(attachments).min()
    }

    /// Looks at the clock.
    ///
    /// # Errors
    ///
    /// Something that was due has not come in time.
    pub fn tick(&self, now: Duration) -> Result<(), End> {
        let Some(rest) = &self.rest else {
            return Ok(());
        };
        if rest.connect_by.is_some_and(|until| now >= until) {
            return Err(End::ConnectTimeout);
        }
        match rest.attachments {
            Some(attachments) if now >= attachments.until => Err(End::AttachmentTimeout),
            _ => Ok(()),
        }
    }

    fn awaits_attachment(&self) -> bool {
        let rest = self.rest.as_ref();
        rest.is_some_and(|rest| rest.attachments.is_some())
    }

    /// The bit of a namespace for which a CONNECT waits, which waits no more.
    fn answer(&mut self, namespace: &str, rules: &Rules) -> Option<u8> {
        let bit = rules.bit(namespace)?;
        let rest = self.rest.as_mut().filter(|rest| rest.pending & bit != 0)?;
        rest.pending &= !bit;
        Some(bit)
    }

    fn leave(&mut self, bit: u8, now: Duration, rules: &Rules) {
        self.connected &= !bit;
        if self.connected == 0 {
            self.rest().connect_by = Some(now + rules.connect_timeout);
        }
    }

    fn expect(&mut self, missing: u8, now: Duration, rules: &Rules) -> Result<(), End> {
        if rules.attachment_bytes_max == 0 {
            return Err(End::AttachmentsTooBig);
        }
        self.rest().attachments = Some(Attachments {
            missing,
            bytes_left: rules.attachment_bytes_max,
            until: now + rules.attachment_time_max,
        });
        Ok(())
    }

    fn rest(&mut self) -> &mut Rest {
        self.rest.get_or_insert_with(|| Box::new(Rest::USUAL))
    }

    /// Frees what says nothing.
    fn tidy(&mut self) {
        if self.rest.as_deref() == Some(&Rest::USUAL) {
            self.rest = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{BadPacket, Name};

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    struct Client {
        connection: Connection,
        rules: Rules,
        now: Duration,
    }

    impl Client {
        fn new(namespaces: &[&str]) -> Client {
            let rules = Rules::new(namespaces).unwrap();
            Client {
                connection: Connection::new(s(0), &rules),
                rules,
                now: s(0),
            }
        }

        fn connected() -> Client {
            let mut client = Client::new(&["/", "/a"]);
            client.connect("/").unwrap();
            client
        }

        fn says<'a>(&mut self, text: &'a str) -> Result<Effect<'a>, End> {
            let connection = &mut self.connection;
            connection.text(text.as_bytes(), self.now, &self.rules)
        }

        fn connect(&mut self, namespace: &str) -> Option<u32> {
            let text = format!("0{namespace},");
            let asked = self.says(&text).unwrap();
            assert!(matches!(asked, Effect::Authenticate { .. }));
            self.connection.accept(namespace, &self.rules)
        }
    }

    #[test]
    fn a_client_that_has_connected_is_one_byte() {
        let mut client = Client::new(&["/"]);
        let auth = Some(r#"{"token":"x"}"#);
        assert_eq!(
            client.says(r#"0{"token":"x"}"#),
            Ok(Effect::Authenticate {
                namespace: "/",
                auth
            })
        );
        assert!(!client.connection.is_connected("/", &client.rules));
        assert_eq!(client.connection.accept("/", &client.rules), Some(0));
        assert!(client.connection.is_connected("/", &client.rules));
        assert!(client.says("2[\"a\"]").is_ok());
        let (connected, rest) = client.connection.into_parts();
        assert_eq!((connected, rest), (1, None));
        let connection = Connection::from_parts(connected, None);
        assert!(connection.is_connected("/", &client.rules));
        assert_eq!(connection.deadline(), None);
    }

    #[test]
    fn a_refused_client_may_ask_again() {
        let mut client = Client::new(&["/"]);
        assert!(client.says("0").is_ok());
        assert!(client.connection.refuse("/", &client.rules));
        assert!(!client.connection.refuse("/", &client.rules));
        assert_eq!(client.connection.accept("/", &client.rules), None);
        assert_eq!(client.connect("/"), Some(0));
    }

    #[test]
    fn events() {
        let mut client = Client::connected();
        let Ok(Effect::Event { namespace, event }) = client.says(r#"21["a",{"b":1}]"#) else {
            panic!("no event");
        };
        assert_eq!(namespace, "/");
        assert_eq!(event.name, Name::Text("a".into()));
        assert_eq!(event.args, r#"{"b":1}"#);
        assert_eq!(event.id.unwrap().as_bytes(), b"1");
        assert_eq!(client.says("31[]"), Ok(Effect::Nothing), "an answer");
    }

    #[test]
    fn what_ends() {
        let ends = |mut client: Client, text| client.says(text).unwrap_err();
        assert_eq!(ends(Client::connected(), "0"), End::Connected);
        assert_eq!(ends(Client::connected(), "0/,"), End::Connected);
        assert_eq!(ends(Client::connected(), "2/a,[\"a\"]"), End::NotConnected);
        assert_eq!(ends(Client::connected(), "2/b,[\"a\"]"), End::NotConnected);
        assert_eq!(ends(Client::connected(), "1/a"), End::NotConnected);
        assert_eq!(ends(Client::connected(), "3/a,1[]"), End::NotConnected);
        assert_eq!(ends(Client::connected(), "4{}"), End::ConnectError);
        assert_eq!(
            ends(Client::connected(), "2"),
            End::BadMessage(BadPacket::Json)
        );
        // Before its CONNECT, and before the answer to that.
        assert_eq!(ends(Client::new(&["/"]), "2[\"a\"]"), End::NotConnected);
        let mut client = Client::new(&["/"]);
        assert!(client.says("0").is_ok());
        assert_eq!(client.says("2[\"a\"]"), Err(End::NotConnected));
        let mut client = Client::new(&["/"]);
        assert!(client.says("0").is_ok());
        assert_eq!(client.says("0"), Err(End::Connected));
    }

    #[test]
    fn namespaces_apart_and_each_connection_with_an_id_of_its_own() {
        let mut client = Client::connected();
        assert_eq!(client.connect("/a"), Some(1));
        let namespace = "/b?token=1";
        assert_eq!(
            client.says("0/b?token=1,"),
            Ok(Effect::InvalidNamespace { namespace })
        );
        assert_eq!(client.says("1"), Ok(Effect::Left { namespace: "/" }));
        assert_eq!(client.connection.deadline(), None, "there is /a");
        assert_eq!(client.connect("/"), Some(2));
        assert!(client.connection.disconnect("/a", s(0), &client.rules));
        assert!(!client.connection.disconnect("/a", s(0), &client.rules));
        assert!(!client.connection.disconnect("/b", s(0), &client.rules));
    }

    #[test]
    fn nothing_connected_in_time() {
        let mut client = Client::new(&["/", "/a"]);
        assert_eq!(client.connection.deadline(), Some(s(45)));
        client.now = s(44);
        assert!(client.says("0").is_ok());
        assert!(client.connection.refuse("/", &client.rules));
        assert!(client.says("0/x").is_ok());
        assert_eq!(client.connection.tick(s(44)), Ok(()));
        assert_eq!(client.connection.tick(s(45)), Err(End::ConnectTimeout));
        assert_eq!(client.connect("/"), Some(0));
        assert_eq!(client.connection.tick(s(100)), Ok(()));
        // And again from the last one that it leaves.
        client.now = s(100);
        assert!(client.says("1").is_ok());
        assert_eq!(client.connection.tick(s(144)), Ok(()));
        assert_eq!(client.connection.tick(s(145)), Err(End::ConnectTimeout));
        assert_eq!(client.connect("/"), Some(1));
        assert_eq!(client.connection.deadline(), None);
    }

    /// GHSA-677m-j7p3-52f9, GHSA-2m8v-j782-fhvr: attachments without bound, and a count of 0 that
    /// keeps the client's state for ever.
    #[test]
    fn binary_events_are_read_to_their_end_and_ignored() {
        let mut client = Client::connected();
        assert_eq!(client.connection.binary(b"x"), Err(End::StrayAttachment));
        assert_eq!(client.says("52-1[\"a\"]"), Ok(Effect::Nothing));
        assert_eq!(client.connection.binary(b"x"), Ok(()));
        assert_eq!(client.connection.binary(b""), Ok(()));
        assert_eq!(client.connection.binary(b""), Err(End::StrayAttachment));
        assert_eq!(client.says("61-1[]"), Ok(Effect::Nothing));
        assert_eq!(client.says("2[\"a\"]"), Err(End::TextForAttachment));
        assert_eq!(client.connection.binary(b""), Ok(()));
        assert_eq!(client.connection.into_parts(), (1, None));

        let mut client = Client::connected();
        assert_eq!(
            client.says("50-[\"a\"]"),
            Err(End::BadMessage(BadPacket::Attachments))
        );
        assert_eq!(client.says("51-/a,[\"a\"]"), Err(End::NotConnected));
    }

    #[test]
    fn attachments_are_bounded_together_and_in_time() {
        let mut client = Client::connected();
        client.rules.attachment_bytes_max = 10;
        client.now = s(7);
        assert!(client.says("53-[\"a\"]").is_ok());
        assert_eq!(client.connection.tick(s(36)), Ok(()));
        assert_eq!(client.connection.deadline(), Some(s(37)));
        assert_eq!(client.connection.tick(s(37)), Err(End::AttachmentTimeout));
        assert_eq!(client.connection.binary(b"12345"), Ok(()));
        assert_eq!(client.connection.binary(b"12345"), Ok(()));
        assert_eq!(client.connection.binary(b"1"), Err(End::AttachmentsTooBig));

        let mut client = Client::connected();
        client.rules.attachment_bytes_max = 0;
        assert_eq!(client.says("51-[\"a\"]"), Err(End::AttachmentsTooBig));
    }

    #[test]
    fn namespaces_that_cannot_be_offered() {
        let error = |names: &[&str]| Rules::new(names).unwrap_err();
        assert_eq!(error(&[]), RulesError::Count(0));
        assert_eq!(error(&["/"; 9]), RulesError::Count(9));
        assert_eq!(error(&["/", "a"]), RulesError::Namespace("a".into()));
        assert_eq!(error(&["/a,b"]), RulesError::Namespace("/a,b".into()));
        assert_eq!(error(&["/a", "/a"]), RulesError::Twice("/a".into()));
        let names = ["/0", "/1", "/2", "/3", "/4", "/5", "/6", "/7"];
        let mut client = Client::new(&names);
        for (number, name) in names.iter().enumerate() {
            assert_eq!(client.connect(name), Some(number as u32));
        }
        assert_eq!(client.connection.connected, u8::MAX);
    }
}
