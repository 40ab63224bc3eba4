//! Why a request is refused: one table from the reason to everything that follows from it (HTTP status,
//! error code, message, label in the metrics, and how a WebSocket that is refused is closed).

use presenced_presence::UserIdError;
use presenced_session::close_reason::CloseReason;
use presenced_session::handshake::HandshakeError;
use presenced_socketio::engine;

use super::places::Full;
use super::rates::Exceeded;
use crate::limits::RETRY_S;
use crate::tokens::{TokenError, TokenFault};

/// Why an HTTP request, a handshake among them, was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No such path.
    NotFound,
    /// A method that the path does not have.
    Method,
    /// A request that RFC 6455 §4.2.1 or RFC 9112 forbids.
    BadRequest(RequestFault),
    /// A question that can't be read: JSON, user ids or their number.
    BadPull,
    /// Too many users wait for a look-up.
    Overloaded,
    /// More users asked for than the rate of users allows.
    PullRate,
    /// A body over the limit.
    BodyTooBig,
    /// A path and query over the limit.
    UriTooLong,
    /// A body in a form that we don't decode.
    Compressed,
    /// A body with a transfer coding other than `chunked`, or with several.
    TransferCoding,
    /// A plain request where an upgrade is needed.
    UpgradeRequired,
    /// A WebSocket version other than 13.
    Version,
    /// An Origin that is not allowed.
    Origin,
    /// No token.
    TokenMissing,
    /// A token that is not valid; its sender is not told why.
    TokenInvalid(TokenFault),
    /// A token past its time.
    TokenExpired,
    /// A user id that can't be part of a memcached key.
    UserId(UserIdError),
    /// A token that is good for something else only.
    Scope,
    /// A token that may be good: the keys of its issuer have not been fetched yet.
    NoKeys,
    /// As many sessions as the server may have.
    Full,
    /// As many connections from this address as one may have, each with a request under way.
    PeerFull,
    /// More handshakes from one address than its rate allows.
    AddressRate,
    /// More handshakes of one user than the rate of users allows.
    UserRate,
    /// More handshakes than the server's rate allows.
    Rate,
    /// As many connections as the server may have, each with a request under way.
    Busy,
    /// The server stops.
    Draining,
    /// The head was too long or not HTTP: the connection was closed.
    Head,
    /// A request did not come in time, or a new connection brought none.
    TooSlow,
    /// After a handshake without a token, something else than the token.
    FirstMessage(MessageFault),
    /// In a session of Socket.IO, the token of another user than the session's.
    AnotherUser,
    /// A request that Engine.IO forbids.
    Engine(engine::Refusal),
    /// A TLS handshake that came to nothing.
    Tls(TlsFault),
}

/// Why a TLS handshake came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsFault {
    /// It was none: something else came, such as a request without TLS.
    NotTls,
    /// The client has sent an alert. It does not trust the certificate, perhaps.
    Alert,
    /// The client has no version, cipher suite or kind of signature that the server has.
    Incompatible,
    /// The client wants to speak another protocol than HTTP/1.1.
    Alpn,
    /// The client has sent what the RFCs forbid.
    Protocol,
    /// More bytes than a handshake needs.
    TooLong,
    /// A fault of the server's own.
    Internal,
}

impl TlsFault {
    /// Label in `/metrics`.
    const fn label(self) -> &'static str {
        match self {
            TlsFault::NotTls => "not_tls",
            TlsFault::Alert => "alert",
            TlsFault::Incompatible => "incompatible",
            TlsFault::Alpn => "alpn",
            TlsFault::Protocol => "protocol",
            TlsFault::TooLong => "too_long",
            TlsFault::Internal => "internal",
        }
    }
}

impl From<&presenced_tls::HandshakeError> for TlsFault {
    fn from(error: &presenced_tls::HandshakeError) -> TlsFault {
        use presenced_tls::HandshakeError::{NotTls, Rustls, TooLong};
        use presenced_tls::rustls::Error;
        match error {
            NotTls => TlsFault::NotTls,
            TooLong => TlsFault::TooLong,
            Rustls(Error::AlertReceived(_)) => TlsFault::Alert,
            Rustls(Error::PeerIncompatible(_)) => TlsFault::Incompatible,
            Rustls(Error::NoApplicationProtocol) => TlsFault::Alpn,
            Rustls(
                Error::InappropriateMessage { .. }
                | Error::InappropriateHandshakeMessage { .. }
                | Error::InvalidMessage(_)
                | Error::PeerMisbehaved(_)
                | Error::PeerSentOversizedRecord
                | Error::DecryptError,
            ) => TlsFault::Protocol,
            _ => TlsFault::Internal,
        }
    }
}

/// What is wrong with a message that must be a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageFault {
    /// It is another message, such as a pull.
    NotAToken,
    /// Its frames would end a session, or are more than a token needs.
    Frames(CloseReason),
}

impl MessageFault {
    /// Label in `/metrics`, the text of the close frame, and its code.
    const fn facts(self) -> (&'static str, Option<u16>) {
        match self {
            MessageFault::NotAToken => ("token_expected", Some(1008)),
            MessageFault::Frames(end) => (end.facts().label, end.facts().close_code),
        }
    }
}

impl From<CloseReason> for MessageFault {
    fn from(end: CloseReason) -> MessageFault {
        MessageFault::Frames(end)
    }
}

/// Which rule a request breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestFault {
    /// Not HTTP/1.1.
    HttpVersion,
    /// Not exactly one `Host`, or one that names no host.
    Host,
    /// No `Connection: Upgrade`.
    Connection,
    /// A handshake with a body.
    Body,
    /// Not exactly one `Sec-WebSocket-Version`.
    WebSocketVersion,
    /// Not exactly one `Sec-WebSocket-Key`, of 16 bytes in base64.
    Key,
    /// More than one `Authorization`.
    Authorization,
    /// More than one token among the subprotocols, or in the query.
    Tokens,
    /// A body that ends early, or is badly encoded.
    BrokenBody,
    /// A development token for nobody.
    DevToken,
    /// A connection from a trusted proxy without the header that it should begin with.
    ProxyHeader,
}

impl RequestFault {
    /// Label in `/metrics`, and what is told.
    const fn facts(self) -> (&'static str, &'static str) {
        match self {
            RequestFault::HttpVersion => ("http_version", HandshakeError::HttpVersion.text()),
            RequestFault::Host => ("host", HandshakeError::Host.text()),
            RequestFault::Connection => ("connection", HandshakeError::Connection.text()),
            RequestFault::Body => ("body", HandshakeError::Body.text()),
            RequestFault::WebSocketVersion => {
                ("websocket_version", HandshakeError::VersionCount.text())
            }
            RequestFault::Key => ("key", HandshakeError::Key.text()),
            RequestFault::Authorization => (
                "authorization",
                "a request has one Authorization header at most",
            ),
            RequestFault::Tokens => (
                "tokens",
                "a request has one token at most among its subprotocols, and one in its query",
            ),
            RequestFault::BrokenBody => ("broken_body", "the body did not arrive whole"),
            RequestFault::DevToken => (
                "dev_token",
                "expected /dev/token?user=ID, with &scope=WORDS if the token needs one",
            ),
            RequestFault::ProxyHeader => (
                "proxy_header",
                "a connection from a trusted proxy must begin with a header of the PROXY protocol",
            ),
        }
    }
}

/// Label of a reason of Engine.IO in `/metrics`.
const fn engine_label(refusal: engine::Refusal) -> &'static str {
    match refusal {
        engine::Refusal::TransportUnknown => "transport_unknown",
        engine::Refusal::SidUnknown => "sid_unknown",
        engine::Refusal::HandshakeMethod => "handshake_method",
        engine::Refusal::BadRequest => "bad_request",
        engine::Refusal::Method => "method",
        engine::Refusal::Forbidden => "forbidden",
        engine::Refusal::Unavailable => "unavailable",
        engine::Refusal::Version => "version",
    }
}

/// Label of a rule of user ids in `/metrics`.
const fn user_id_label(error: UserIdError) -> &'static str {
    match error {
        UserIdError::Empty => "empty",
        UserIdError::TooLong => "too_long",
        UserIdError::Character => "character",
    }
}

impl From<HandshakeError> for Refusal {
    fn from(error: HandshakeError) -> Refusal {
        Refusal::BadRequest(match error {
            HandshakeError::Method => return Refusal::Method,
            HandshakeError::UpgradeRequired => return Refusal::UpgradeRequired,
            HandshakeError::Version => return Refusal::Version,
            HandshakeError::HttpVersion => RequestFault::HttpVersion,
            HandshakeError::Host => RequestFault::Host,
            HandshakeError::Connection => RequestFault::Connection,
            HandshakeError::Body => RequestFault::Body,
            HandshakeError::VersionCount => RequestFault::WebSocketVersion,
            HandshakeError::Key => RequestFault::Key,
        })
    }
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Refusal {
        match error {
            TokenError::Expired => Refusal::TokenExpired,
            TokenError::Invalid(fault) => Refusal::TokenInvalid(fault),
            TokenError::UserId(error) => Refusal::UserId(error),
            TokenError::Scope => Refusal::Scope,
            TokenError::NoKeys => Refusal::NoKeys,
        }
    }
}

impl From<Full> for Refusal {
    fn from(full: Full) -> Refusal {
        match full {
            Full::Peer => Refusal::PeerFull,
            Full::Server => Refusal::Busy,
        }
    }
}

impl From<MessageFault> for Refusal {
    fn from(fault: MessageFault) -> Refusal {
        Refusal::FirstMessage(fault)
    }
}

impl From<Exceeded> for Refusal {
    fn from(exceeded: Exceeded) -> Refusal {
        match exceeded {
            Exceeded::Server => Refusal::Rate,
            Exceeded::Address => Refusal::AddressRate,
            Exceeded::User => Refusal::UserRate,
        }
    }
}

/// What follows from a [`Refusal`].
#[derive(Clone, Copy, Debug)]
pub struct RefusalFacts {
    /// HTTP status.
    pub status: u16,
    /// Stable error code in the JSON body, and label in `/metrics`.
    pub code: &'static str,
    /// Which of several reasons with the same code it is: the second label in `/metrics`. Clients
    /// are not told, but for what they have sent as a first message.
    pub reason: Option<&'static str>,
    /// For people.
    pub message: &'static str,
    /// When to come again, in seconds; none where coming again would not help.
    pub retry_s: Option<u32>,
    /// How a handshake is closed that was accepted only to tell why it is refused; none if that may only
    /// be told over HTTP.
    pub close_code: Option<u16>,
}

impl Refusal {
    /// Every reason, in the order of the metrics.
    pub const ALL: &[Refusal] = &[
        Refusal::NotFound,
        Refusal::Method,
        Refusal::BadRequest(RequestFault::HttpVersion),
        Refusal::BadRequest(RequestFault::Host),
        Refusal::BadRequest(RequestFault::Connection),
        Refusal::BadRequest(RequestFault::Body),
        Refusal::BadRequest(RequestFault::WebSocketVersion),
        Refusal::BadRequest(RequestFault::Key),
        Refusal::BadRequest(RequestFault::Authorization),
        Refusal::BadRequest(RequestFault::Tokens),
        Refusal::BadRequest(RequestFault::BrokenBody),
        Refusal::BadRequest(RequestFault::DevToken),
        Refusal::BadRequest(RequestFault::ProxyHeader),
        Refusal::BadPull,
        Refusal::Overloaded,
        Refusal::PullRate,
        Refusal::BodyTooBig,
        Refusal::UriTooLong,
        Refusal::Compressed,
        Refusal::TransferCoding,
        Refusal::UpgradeRequired,
        Refusal::Version,
        Refusal::Origin,
        Refusal::TokenMissing,
        Refusal::TokenInvalid(TokenFault::TooLong),
        Refusal::TokenInvalid(TokenFault::Malformed),
        Refusal::TokenInvalid(TokenFault::Algorithm),
        Refusal::TokenInvalid(TokenFault::Signature),
        Refusal::TokenInvalid(TokenFault::Typ),
        Refusal::TokenInvalid(TokenFault::Crit),
        Refusal::TokenInvalid(TokenFault::Claims),
        Refusal::TokenInvalid(TokenFault::ClaimsJson),
        Refusal::TokenInvalid(TokenFault::UnknownKey),
        Refusal::TokenInvalid(TokenFault::Issuer),
        Refusal::TokenInvalid(TokenFault::Audience),
        Refusal::TokenInvalid(TokenFault::NotYetValid),
        Refusal::TokenInvalid(TokenFault::LifetimeTooLong),
        Refusal::TokenInvalid(TokenFault::UserClaim),
        Refusal::TokenInvalid(TokenFault::Revoked),
        Refusal::TokenExpired,
        Refusal::UserId(UserIdError::Empty),
        Refusal::UserId(UserIdError::TooLong),
        Refusal::UserId(UserIdError::Character),
        Refusal::Scope,
        Refusal::NoKeys,
        Refusal::Full,
        Refusal::PeerFull,
        Refusal::AddressRate,
        Refusal::UserRate,
        Refusal::Rate,
        Refusal::Busy,
        Refusal::Draining,
        Refusal::Head,
        Refusal::TooSlow,
        Refusal::FirstMessage(MessageFault::NotAToken),
        Refusal::FirstMessage(MessageFault::Frames(CloseReason::Protocol)),
        Refusal::FirstMessage(MessageFault::Frames(CloseReason::UnsupportedData)),
        Refusal::FirstMessage(MessageFault::Frames(CloseReason::InvalidUtf8)),
        Refusal::FirstMessage(MessageFault::Frames(CloseReason::TooBig)),
        Refusal::FirstMessage(MessageFault::Frames(CloseReason::RateLimited)),
        Refusal::FirstMessage(MessageFault::Frames(CloseReason::Internal)),
        Refusal::AnotherUser,
        Refusal::Engine(engine::Refusal::TransportUnknown),
        Refusal::Engine(engine::Refusal::SidUnknown),
        Refusal::Engine(engine::Refusal::HandshakeMethod),
        Refusal::Engine(engine::Refusal::BadRequest),
        Refusal::Engine(engine::Refusal::Method),
        Refusal::Engine(engine::Refusal::Version),
        Refusal::Tls(TlsFault::NotTls),
        Refusal::Tls(TlsFault::Alert),
        Refusal::Tls(TlsFault::Incompatible),
        Refusal::Tls(TlsFault::Alpn),
        Refusal::Tls(TlsFault::Protocol),
        Refusal::Tls(TlsFault::TooLong),
        Refusal::Tls(TlsFault::Internal),
    ];

    /// Whether it is a token that is refused.
    pub fn is_of_token(self) -> bool {
        use Refusal::{NoKeys, Scope, TokenExpired, TokenInvalid, UserId};
        matches!(
            self,
            TokenInvalid(_) | TokenExpired | UserId(_) | Scope | NoKeys
        )
    }

    /// All that follows.
    pub const fn facts(self) -> RefusalFacts {
        let (status, code, message) = self.row();
        RefusalFacts {
            status,
            code,
            reason: self.reason(),
            message,
            retry_s: match status {
                429 | 503 => Some(RETRY_S),
                _ => None,
            },
            close_code: self.close_code(status),
        }
    }

    const fn reason(self) -> Option<&'static str> {
        match self {
            Refusal::BadRequest(fault) => Some(fault.facts().0),
            Refusal::TokenInvalid(fault) => Some(fault.label()),
            Refusal::UserId(error) => Some(user_id_label(error)),
            Refusal::FirstMessage(fault) => Some(fault.facts().0),
            Refusal::Engine(refusal) => Some(engine_label(refusal)),
            Refusal::Tls(fault) => Some(fault.label()),
            _ => None,
        }
    }

    const fn close_code(self, status: u16) -> Option<u16> {
        match (self, status) {
            // RFC 6455 §4.2.2: a page that may not connect gets no 101.
            (Refusal::Origin, _)
            // No handshake is refused for a pull, and Socket.IO has refusals of its own.
            | (Refusal::Overloaded | Refusal::PullRate | Refusal::AnotherUser | Refusal::Engine(_), _)
            // What sheds a flood must cost less than what it sheds.
            | (Refusal::Rate | Refusal::AddressRate | Refusal::PeerFull, _) => None,
            (Refusal::Draining, _) => Some(1012),
            (Refusal::FirstMessage(fault), _) => fault.facts().1,
            (_, 401 | 403 | 429) => Some(4000 + status),
            (_, 503) => Some(1013),
            _ => None,
        }
    }

    /// The table: HTTP status, error code and message.
    const fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Refusal::NotFound => (404, "not_found", "no such path"),
            Refusal::Method => (405, "method_not_allowed", "method not allowed here"),
            Refusal::BadRequest(fault) => (400, "bad_request", fault.facts().1),
            Refusal::BadPull => (400, "bad_pull", "not a valid question"),
            Refusal::PullRate => (429, "rate_limited", "pulls for too many users"),
            Refusal::Overloaded => (503, "overloaded", "too many look-ups are waiting"),
            Refusal::BodyTooBig => (413, "body_too_big", "body over the limit"),
            Refusal::UriTooLong => (
                414,
                "uri_too_long",
                "the path and query are too long: ask with POST",
            ),
            Refusal::Compressed => (415, "compressed_body", "send the body as it is"),
            Refusal::TransferCoding => (
                501,
                "transfer_coding",
                "a body has no transfer coding but chunked, and that once",
            ),
            Refusal::UpgradeRequired => (
                426,
                "upgrade_required",
                "this path is for WebSocket handshakes",
            ),
            Refusal::Version => (426, "websocket_version", "WebSocket version must be 13"),
            Refusal::Origin => (403, "origin_not_allowed", "origin not allowed"),
            Refusal::TokenMissing => (401, "token_missing", "a token is needed"),
            Refusal::TokenInvalid(_) => (401, "token_invalid", "the token is not valid"),
            Refusal::TokenExpired => (401, "token_expired", "the token has expired"),
            Refusal::UserId(_) => (
                403,
                "user_id_not_allowed",
                "the token's user id can't be part of a memcached key",
            ),
            Refusal::Scope => (
                403,
                "insufficient_scope",
                "the token does not have the scope that is needed",
            ),
            Refusal::NoKeys => (
                503,
                "keys_not_known",
                "the keys that tokens are checked with are not known yet",
            ),
            Refusal::Full => (503, "too_many_sessions", "too many sessions"),
            Refusal::PeerFull => (
                429,
                "too_many_connections",
                "too many connections from this address",
            ),
            Refusal::AddressRate => (
                429,
                "too_many_handshakes_from_address",
                "too many handshakes from this address",
            ),
            Refusal::UserRate => (
                429,
                "too_many_handshakes_of_user",
                "too many handshakes of this user",
            ),
            Refusal::Rate => (503, "too_many_handshakes", "too many handshakes"),
            Refusal::Busy => (503, "server_busy", "too many requests under way"),
            Refusal::Draining => (503, "draining", "the server is stopping"),
            Refusal::Head => (431, "head", "request head too long or not HTTP"),
            Refusal::TooSlow => (408, "request_timeout", "the request did not come in time"),
            Refusal::AnotherUser => (
                403,
                "another_user",
                "the token is of another user than the session",
            ),
            Refusal::Engine(refusal) => (
                refusal.facts().0,
                "engine_io",
                "a request that Engine.IO forbids",
            ),
            // Only a request without TLS is answered by HTTP. All others are told by an alert.
            Refusal::Tls(_) => (400, "tls", "this port speaks TLS: use https:// or wss://"),
            // It is told by a close alone.
            Refusal::FirstMessage(_) => (
                400,
                "first_message",
                "after a handshake without a token, the first message must be the token",
            ),
        }
    }

    /// The text of the close frame: the code, and when to come again if that helps. Of a first message, what is
    /// wrong with it.
    pub fn close_reason(self) -> String {
        let facts = self.facts();
        match facts.retry_s {
            None if let Refusal::FirstMessage(fault) = self => fault.facts().0.to_owned(),
            None => facts.code.to_owned(),
            Some(retry_s) => format!("{}; retry={retry_s}", facts.code),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use presenced_session::limits::CLOSE_REASON_BYTES_MAX;

    use super::*;

    #[test]
    fn labels_are_distinct() {
        let facts = Refusal::ALL.iter().map(|refusal| refusal.facts());
        let labels: HashSet<_> = facts.map(|facts| (facts.code, facts.reason)).collect();
        assert_eq!(labels.len(), Refusal::ALL.len());
    }

    #[test]
    fn a_code_has_reasons_always_or_never() {
        let has_reason: HashSet<_> = Refusal::ALL
            .iter()
            .map(|refusal| (refusal.facts().code, refusal.facts().reason.is_some()))
            .collect();
        let codes: HashSet<_> = has_reason.iter().map(|(code, _)| code).collect();
        assert_eq!(codes.len(), has_reason.len());
    }

    #[test]
    fn who_is_refused_is_told_the_same_over_http_and_by_a_close() {
        for (refusal, code, reason) in [
            (Refusal::TokenMissing, 4401, "token_missing"),
            (
                Refusal::TokenInvalid(TokenFault::Signature),
                4401,
                "token_invalid",
            ),
            (Refusal::TokenExpired, 4401, "token_expired"),
            (
                Refusal::UserId(UserIdError::Empty),
                4403,
                "user_id_not_allowed",
            ),
            (Refusal::Full, 1013, "too_many_sessions; retry=5"),
            (
                Refusal::UserRate,
                4429,
                "too_many_handshakes_of_user; retry=5",
            ),
            (Refusal::Draining, 1012, "draining; retry=5"),
            (Refusal::Busy, 1013, "server_busy; retry=5"),
            (MessageFault::NotAToken.into(), 1008, "token_expected"),
            (
                MessageFault::Frames(CloseReason::TooBig).into(),
                1009,
                "too_big",
            ),
        ] {
            assert_eq!(refusal.facts().close_code, Some(code), "{refusal:?}");
            assert_eq!(refusal.close_reason(), reason);
        }
        for refusal in Refusal::ALL {
            let facts = refusal.facts();
            assert!(refusal.close_reason().len() <= CLOSE_REASON_BYTES_MAX);
            if facts.retry_s.is_some() {
                assert!(matches!(facts.status, 429 | 503), "{refusal:?}");
            }
        }
        assert_eq!(Refusal::Origin.facts().close_code, None);
    }
}
