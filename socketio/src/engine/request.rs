//! What a request to `/socket.io/` asks for, or why it is refused, before anything is done for it.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// A request's method. What is none of these is refused like `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// POST.
    Post,
    /// Any other. A preflight (OPTIONS) is answered before, where that is wanted.
    Other,
}

/// How a client wants to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportName {
    /// GET and POST.
    Polling,
    /// A WebSocket.
    WebSocket,
}

/// What counts in a request's query. Other keys are ignored; of a key that is given twice, the last
/// counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query<'a> {
    /// `transport`; `None` if it is missing or unknown.
    pub transport: Option<TransportName>,
    /// `sid`; `None` if it is missing or empty. Whether it is one, [`super::SidKey::place`] knows.
    pub sid: Option<Cow<'a, [u8]>>,
    /// `EIO` is exactly `4`.
    pub is_version_4: bool,
}

impl<'a> Query<'a> {
    /// Reads the bytes behind the `?`.
    pub fn new(query: &'a [u8]) -> Query<'a> {
        let mut found = Query::default();
        for pair in query.split(|&byte| byte == b'&') {
            let (key, value) = match memchr::memchr(b'=', pair) {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &b""[..]),
            };
            let value = || decoded(value);
            match &*decoded(key) {
                b"EIO" => found.is_version_4 = *value() == *b"4",
                b"transport" => {
                    found.transport = match &*value() {
                        b"polling" => Some(TransportName::Polling),
                        b"websocket" => Some(TransportName::WebSocket),
                        _ => None,
                    };
                }
                b"sid" => found.sid = Some(value()).filter(|sid| !sid.is_empty()),
                _ => {}
            }
        }
        found
    }
}

/// With each `%XX` decoded; borrowed if there is none.
fn decoded(bytes: &[u8]) -> Cow<'_, [u8]> {
    percent_decode(bytes).into()
}

/// The session that a `sid` names, if it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Live {
    /// It polls.
    Polling,
    /// It polls, and has a WebSocket that it may go on over.
    Probing,
    /// It is on its WebSocket.
    WebSocket,
}

/// What is known of a request.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Its method.
    pub method: Method,
    /// Whether it asks for a WebSocket.
    pub is_upgrade: bool,
    /// Its query.
    pub query: &'a Query<'a>,
    /// The session that the query's `sid` names; `None` if there is no `sid`, or no such session.
    pub session: Option<Live>,
    /// Whether its client is let in; if not, [`Refusal::Forbidden`] or [`Refusal::Unavailable`].
    /// What keeps new sessions out, such as a drain, is not said here of a session's requests.
    pub admitted: Result<(), Refusal>,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// A session that polls.
    Handshake,
    /// A session that is on a WebSocket from its start: 101, then the open packet.
    HandshakeWebSocket,
    /// What the server has for the session.
    Poll,
    /// Takes packets from the client.
    Post,
    /// A WebSocket for the session that polls: 101, then nothing until the client probes.
    Upgrade,
}

/// Why a request is refused. It is refused before a 101, and ends nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// `transport` is missing or unknown.
    TransportUnknown,
    /// `sid` names no session here.
    SidUnknown,
    /// No session begins with this method.
    HandshakeMethod,
    /// It fits neither the session nor the transport.
    BadRequest,
    /// No request of a session has this method.
    Method,
    /// The client is not let in: its origin.
    Forbidden,
    /// Nobody is let in now; clients come back.
    Unavailable,
    /// `EIO` is not 4.
    Version,
}

impl Refusal {
    /// Every one.
    pub const ALL: [Refusal; 8] = [
        Refusal::TransportUnknown,
        Refusal::SidUnknown,
        Refusal::HandshakeMethod,
        Refusal::BadRequest,
        Refusal::Method,
        Refusal::Forbidden,
        Refusal::Unavailable,
        Refusal::Version,
    ];

    /// The HTTP status, the code that clients are told, and the answer's body, which is
    /// `application/json`.
    pub const fn facts(self) -> (u16, u8, &'static str) {
        match self {
            Refusal::TransportUnknown => (400, 0, r#"{"code":0,"message":"Transport unknown"}"#),
            Refusal::SidUnknown => (400, 1, r#"{"code":1,"message":"Session ID unknown"}"#),
            Refusal::HandshakeMethod => (400, 2, r#"{"code":2,"message":"Bad handshake method"}"#),
            Refusal::BadRequest => (400, 3, r#"{"code":3,"message":"Bad request"}"#),
            Refusal::Method => (405, 3, r#"{"code":3,"message":"Bad request"}"#),
            Refusal::Forbidden => (403, 4, r#"{"code":4,"message":"Forbidden"}"#),
            Refusal::Unavailable => (503, 4, r#"{"code":4,"message":"Forbidden"}"#),
            Refusal::Version => (
                400,
                5,
                r#"{"code":5,"message":"Unsupported protocol version"}"#,
            ),
        }
    }
}

impl Request<'_> {
    /// What it asks for.
    ///
    /// # Errors
    ///
    /// The first reason to refuse it, in the order in which the reference server looks.
    pub fn route(&self) -> Result<Route, Refusal> {
        let query = self.query;
        let transport = query.transport.ok_or(Refusal::TransportUnknown)?;
        match (&query.sid, self.session) {
            (None, _) => self.handshake(transport),
            (Some(_), None) => Err(Refusal::SidUnknown),
            (Some(_), Some(live)) => self.of_session(transport, live),
        }
    }

    fn handshake(&self, transport: TransportName) -> Result<Route, Refusal> {
        if self.method != Method::Get {
            return Err(Refusal::HandshakeMethod);
        }
        let route = match (transport, self.is_upgrade) {
            (TransportName::Polling, false) => Route::Handshake,
            (TransportName::WebSocket, true) => Route::HandshakeWebSocket,
            _ => return Err(Refusal::BadRequest),
        };
        self.admitted?;
        match self.query.is_version_4 {
            true => Ok(route),
            false => Err(Refusal::Version),
        }
    }

    fn of_session(&self, transport: TransportName, live: Live) -> Result<Route, Refusal> {
        if !self.query.is_version_4 {
            return Err(Refusal::BadRequest);
        }
        let route = match (transport, self.is_upgrade, live) {
            (TransportName::Polling, false, Live::Polling | Live::Probing) => match self.method {
                Method::Get => Route::Poll,
                Method::Post => Route::Post,
                Method::Other => return Err(Refusal::Method),
            },
            // A second WebSocket is refused, and the first is left alone.
            (TransportName::WebSocket, true, Live::Polling) if self.method == Method::Get => {
                Route::Upgrade
            }
            _ => return Err(Refusal::BadRequest),
        };
        self.admitted?;
        Ok(route)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SID: &str = "EIO=4&transport=polling&sid=x";

    struct Case<'a>(Method, &'a str, bool, Option<Live>);

    fn route(Case(method, query, is_upgrade, session): Case<'_>) -> Result<Route, Refusal> {
        let request = Request {
            method,
            is_upgrade,
            query: &Query::new(query.as_bytes()),
            session,
            admitted: Ok(()),
        };
        request.route()
    }

    #[test]
    fn what_is_asked_for() {
        use Method::{Get, Post};
        let handshake = "EIO=4&transport=polling&t=abc&b64=1";
        assert_eq!(
            route(Case(Get, handshake, false, None)),
            Ok(Route::Handshake)
        );
        let websocket = "transport=websocket&EIO=4";
        assert_eq!(
            route(Case(Get, websocket, true, None)),
            Ok(Route::HandshakeWebSocket)
        );
        for live in [Live::Polling, Live::Probing] {
            assert_eq!(route(Case(Get, SID, false, Some(live))), Ok(Route::Poll));
            assert_eq!(route(Case(Post, SID, false, Some(live))), Ok(Route::Post));
        }
        let upgrade = "EIO=4&transport=websocket&sid=x";
        assert_eq!(
            route(Case(Get, upgrade, true, Some(Live::Polling))),
            Ok(Route::Upgrade)
        );
    }

    #[test]
    fn the_first_reason_counts() {
        use Method::{Get, Other, Post};
        use Refusal::{BadRequest, HandshakeMethod, SidUnknown, TransportUnknown, Version};
        let cases = [
            (Case(Get, "", false, None), TransportUnknown),
            (
                Case(Post, "transport=webtransport&sid=x&EIO=3", true, None),
                TransportUnknown,
            ),
            (
                Case(Get, "transport=Polling", false, None),
                TransportUnknown,
            ),
            (
                Case(Get, "Transport=polling", false, None),
                TransportUnknown,
            ),
            (
                Case(Other, "transport=polling&sid=x&EIO=3", false, None),
                SidUnknown,
            ),
            (
                Case(
                    Get,
                    "transport=polling&EIO=3&sid=x",
                    false,
                    Some(Live::Polling),
                ),
                BadRequest,
            ),
            (Case(Get, SID, false, Some(Live::WebSocket)), BadRequest),
            (Case(Other, SID, false, Some(Live::WebSocket)), BadRequest),
            (
                Case(Other, SID, false, Some(Live::Polling)),
                Refusal::Method,
            ),
            (
                Case(Post, "transport=websocket", false, None),
                HandshakeMethod,
            ),
            (
                Case(Other, "transport=polling", false, None),
                HandshakeMethod,
            ),
            (
                Case(Get, "transport=websocket&EIO=3", false, None),
                BadRequest,
            ),
            (Case(Get, "transport=polling&EIO=4", true, None), BadRequest),
            (Case(Get, "transport=polling", false, None), Version),
            (Case(Get, "transport=polling&EIO=3", false, None), Version),
            (Case(Get, "transport=polling&EIO=04", false, None), Version),
            (Case(Get, "transport=websocket&EIO=5", true, None), Version),
        ];
        for (case, refusal) in cases {
            let said = (case.0, case.1, case.2, case.3);
            assert_eq!(route(case), Err(refusal), "{said:?}");
        }
    }

    /// socket.io #2998: all clients back at once, and a token looked at for each. Who is not let in
    /// is told so at the handshake, and comes back later.
    #[test]
    fn admission_comes_before_the_version_and_behind_all_else() {
        let ask = |query: &str| {
            let request = Request {
                method: Method::Get,
                is_upgrade: false,
                query: &Query::new(query.as_bytes()),
                session: None,
                admitted: Err(Refusal::Forbidden),
            };
            request.route()
        };
        assert_eq!(ask("transport=polling&EIO=3"), Err(Refusal::Forbidden));
        assert_eq!(Refusal::Unavailable.facts().0, 503);
        assert_eq!(ask("transport=websocket&EIO=4"), Err(Refusal::BadRequest));
        assert_eq!(ask("transport=polling&sid=x"), Err(Refusal::SidUnknown));
    }

    /// engine.io 6.6.12: a plain GET of a WebSocket session hangs, and a second WebSocket takes over
    /// a session that was born on one.
    #[test]
    fn nothing_but_its_websocket_reaches_a_session_that_is_on_one() {
        let websocket = "EIO=4&transport=websocket&sid=x";
        for method in [Method::Get, Method::Post, Method::Other] {
            for is_upgrade in [false, true] {
                for query in [SID, websocket] {
                    let case = Case(method, query, is_upgrade, Some(Live::WebSocket));
                    assert_eq!(route(case), Err(Refusal::BadRequest));
                }
            }
        }
        let second = Case(Method::Get, websocket, true, Some(Live::Probing));
        assert_eq!(route(second), Err(Refusal::BadRequest));
    }

    /// engine.io #616: EIO missing was taken for 4, and one session had two revisions.
    #[test]
    fn every_request_says_4() {
        for version in [
            "",
            "EIO=",
            "EIO=3&",
            "EIO=4&EIO=3&",
            "EIO=4.0&",
            "eio=4&",
            "EIO= 4&",
        ] {
            let query = format!("{version}&transport=polling");
            let case = Case(Method::Get, &query, false, None);
            assert_eq!(route(case), Err(Refusal::Version), "{version}");
            let query = format!("{query}&sid=x");
            let case = Case(Method::Get, &query, false, Some(Live::Polling));
            assert_eq!(route(case), Err(Refusal::BadRequest), "{version}");
        }
    }

    /// engine.io #3564, CVE-2023-31125: names of things that every object has.
    #[test]
    fn a_transport_is_one_of_two_words() {
        for name in [
            "constructor",
            "__proto__",
            "toString",
            "websocket2",
            "polling%00",
            "",
        ] {
            let query = format!("EIO=4&transport={name}");
            assert_eq!(Query::new(query.as_bytes()).transport, None);
        }
    }

    #[test]
    fn queries() {
        let query = Query::new(b"%45IO=%34&transport=x&transport=p%6flling&sid=a%2Db&t=1&&=&x");
        assert_eq!(
            query,
            Query {
                transport: Some(TransportName::Polling),
                sid: Some(Cow::Borrowed(b"a-b")),
                is_version_4: true,
            }
        );
        assert_eq!(Query::new(b"sid=").sid, None);
        assert_eq!(Query::new(b"sid").sid, None);
        assert_eq!(Query::new(b"sid=a&sid=").sid, None);
        assert_eq!(Query::new(b"sid=a&sid=b").sid.as_deref(), Some(&b"b"[..]));
        assert_eq!(Query::new(b"sid=%zz%4").sid.as_deref(), Some(&b"%zz%4"[..]));
        assert_eq!(Query::new(b""), Query::default());
    }

    #[test]
    fn bodies_have_their_codes() {
        for refusal in Refusal::ALL {
            let (status, code, body) = refusal.facts();
            assert!((400..600).contains(&status));
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["code"], code);
            assert!(body["message"].is_string());
            assert_eq!(body.as_object().unwrap().len(), 2);
        }
    }

    proptest! {
        #[test]
        fn any_query_is_read(query: Vec<u8>) {
            Query::new(&query);
        }
    }
}
