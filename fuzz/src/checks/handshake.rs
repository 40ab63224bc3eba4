//! Handshakes of sessions: RFC 6455 §4.2.1, the origin, and the token.

use std::net::Ipv6Addr;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Version};
use presenced::gateway::handshake::{Upgraded, check};
use presenced::gateway::handshake_rates::HandshakeRates;
use presenced::gateway::health::Departure;
use presenced::gateway::live::Live;
use presenced::gateway::origin::Origins;
use presenced::gateway::places::Room;
use presenced::gateway::rates::Rates;
use presenced::gateway::refusal::{Refusal, RequestFault};
use presenced::gateway::refused_session::{RefuseWith, RefusedSessions};
use presenced::gateway::shared_places::HttpPlaces;
use presenced::gateway::{Capacity, Gateway};
use presenced::swap::Swap;
use presenced::tokens::{Audience, Auth, Config, IssuerConfig, Key, Rules, Secret, TokenFault};
use presenced_jwt::{EncodingKey, Header, encode};
use presenced_presence::UserIdError;
use presenced_session::Seats;
use presenced_session::clock::{Clock, unix_ms};
use serde_json::{Value, json};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// Longest lifetime of a token that the gateways accept.
const LIFETIME_MAX_S: u64 = 86_400;

/// A token, and its user or why it is refused.
type Signed = (String, Result<&'static str, Refusal>);

/// What is found of any token that was not signed here.
const UNSIGNED: Result<&str, Refusal> = Err(invalid(TokenFault::Signature));

const fn invalid(fault: TokenFault) -> Refusal {
    Refusal::TokenInvalid(fault)
}

/// Takes the bytes as the lines of a request head, and as choices of its parts. The accepted user,
/// or the refusal, must be what a naive check of the head finds; no token is accepted that was not
/// signed here.
pub fn handshake(data: &[u8]) {
    let mut input = Unstructured::new(data);
    if let Ok((request, signed)) = made(&mut input) {
        compare(&request, &signed);
    }
    if let Some(request) = read(data) {
        compare(&request, &(String::new(), UNSIGNED));
    }
}

/// A gateway for pages of its own host, and one for a named origin that accepts tokens in the
/// query.
static GATEWAYS: LazyLock<[Gateway; 2]> = LazyLock::new(|| {
    [(&[][..], false), (&[String::from(NAMED)][..], true)].map(|(named, allow_query_token)| {
        let live = Live {
            auth: Auth::new(Config {
                issuers: vec![IssuerConfig {
                    source: None,
                    name: None,
                    audience: Audience::None,
                    user_claim: "sub".into(),
                    keys: vec![Key::of_secret(&Secret::new(SECRET).unwrap())],
                }],
                rules: Rules {
                    bytes_max: 4096,
                    lifetime_max: Duration::from_secs(LIFETIME_MAX_S),
                    leeway: Duration::from_secs(5),
                    require_scope: false,
                },
            }),
            origins: Origins::new(named).unwrap(),
            allow_query_token,
            dev: None,
            serve_health: false,
            head_bytes_max: 1,
            refuse_with: RefuseWith::Auto,
            keep_alive: Duration::from_secs(75),
        };
        Gateway {
            live: Swap::new(live),
            tls: None,
            tls_rates: HandshakeRates::new(Rates::default(), Clock::start()),
            dev: None,
            departure: Departure::default(),
            health: None,
            seats: Arc::new(Seats::new(1)),
            refused_sessions: RefusedSessions::new(1),
            proxies: Default::default(),
            user_names: Default::default(),
            places: HttpPlaces::new("gateway", ROOM),
            capacity: Capacity {
                room: ROOM,
                lobby_max: 1,
                turned_away_max: 1,
                refused_sessions_max: 1,
            },
            rates: HandshakeRates::new(Rates::default(), Clock::start()),
            socketio: None,
            clock: Clock::start(),
            metrics: Arc::default(),
            full_logged: Default::default(),
            proxy_header_logged: Default::default(),
        }
    })
});

const ROOM: Room = Room {
    max: 1,
    per_peer_max: 1,
    leaving_max: 1,
    idle_min: Duration::ZERO,
    awaited_min: Duration::ZERO,
    silent_may_evict: true,
};

const NAMED: &str = "https://app.example";

fn compare(request: &Request<()>, signed: &Signed) {
    for gateway in &*GATEWAYS {
        let live = gateway.live.get();
        let mut found = pin!(check(request, gateway, &live));
        let found = found.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(found) = found else {
            panic!("no keys are fetched that it could wait for");
        };
        let found = found.and_then(|accepted| {
            let accept = &accepted.answer.headers()["sec-websocket-accept"];
            assert_eq!(accept.len(), 28);
            match accepted.upgraded {
                Upgraded::Session(_, identity, _) => Ok(Some(identity.user.to_string())),
                Upgraded::TokenAwaited(_) => Ok(None),
                Upgraded::SocketIo(..) | Upgraded::Probe(..) => panic!("this is not its path"),
                Upgraded::Refused(refused) => {
                    assert!(may_be_a_page(request), "{request:?}");
                    Err(refused.refusal())
                }
            }
        });
        let expected = self::expected(request, live.allow_query_token, signed);
        let found = found.as_ref().map(Option::as_deref);
        let found = found.map_err(|refusal| match refusal {
            Refusal::TokenInvalid(TokenFault::TooLong | TokenFault::Malformed) => {
                invalid(TokenFault::Signature)
            }
            Refusal::TokenInvalid(TokenFault::Algorithm) => invalid(TokenFault::Signature),
            refusal => *refusal,
        });
        assert_eq!(found, expected);
    }
}

/// The expected result, checked step by step; no user where the token is to come as a message.
fn expected<'s>(
    request: &Request<()>,
    named: bool,
    (token, verdict): &'s Signed,
) -> Result<Option<&'s str>, Refusal> {
    upgrade(request)?;
    let headers = request.headers();
    if !origin(headers, named) {
        return Err(Refusal::Origin);
    }
    let Some(sent) = sent_token(request, named)? else {
        return Ok(None);
    };
    match sent == *token {
        true => verdict.map(Some),
        false => UNSIGNED.map(Some),
    }
}

/// Whether the request may be answered with a close instead of a status.
fn may_be_a_page(request: &Request<()>) -> bool {
    let lines = texts(request.headers(), "sec-websocket-protocol");
    let offered: Vec<_> = lines
        .iter()
        .flat_map(|line| line.split(',').map(str::trim))
        .collect();
    offered.contains(&"presence.v1")
        && (request.headers().contains_key("origin")
            || offered.iter().any(|offered| offered.starts_with("bearer.")))
}

/// `uri-host [":" port]` of RFC 3986, or nothing.
fn is_host(host: &[u8]) -> bool {
    let Ok(host) = str::from_utf8(host) else {
        return false;
    };
    let (name, port) = match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => (&host[..colon], &host[colon + 1..]),
        _ => (host, ""),
    };
    let is_port = port.chars().all(|c| c.is_ascii_digit()) && port.len() < 20;
    if port.is_empty() && name.is_empty() {
        return host.is_empty();
    }
    let is_literal = name.starts_with('[')
        && name.ends_with(']')
        && name[1..name.len() - 1].parse::<Ipv6Addr>().is_ok();
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || "!$&'()*+,-.;=_~".contains(c);
    let is_name = !name.is_empty() && name.chars().all(is_of_name);
    is_port && port.parse::<u64>().unwrap_or(0) < 65_536 && (is_literal || is_name)
}

fn upgrade(request: &Request<()>) -> Result<(), Refusal> {
    let headers = request.headers();
    let all = |name: &str| {
        headers
            .get_all(name)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect::<Vec<_>>()
    };
    let listed = |name: &str, word: &str| {
        let lines = texts(headers, name);
        lines
            .iter()
            .flat_map(|line| line.split(','))
            .any(|part| part.trim().to_lowercase() == word)
    };
    if request.method() != Method::GET {
        return Err(Refusal::Method);
    }
    if request.version() != Version::HTTP_11 {
        return Err(Refusal::BadRequest(RequestFault::HttpVersion));
    }
    if !matches!(all("host")[..], [host] if is_host(host)) {
        return Err(Refusal::BadRequest(RequestFault::Host));
    }
    if !listed("upgrade", "websocket") {
        return Err(Refusal::UpgradeRequired);
    }
    let has_length = all("content-length").iter().any(|length| *length != b"0");
    let has_body = has_length || !all("transfer-encoding").is_empty();
    let versions = all("sec-websocket-version");
    if !listed("connection", "upgrade") {
        return Err(Refusal::BadRequest(RequestFault::Connection));
    }
    if has_body {
        return Err(Refusal::BadRequest(RequestFault::Body));
    }
    if versions.len() != 1 {
        return Err(Refusal::BadRequest(RequestFault::WebSocketVersion));
    }
    if versions[0] != b"13" {
        return Err(Refusal::Version);
    }
    match all("sec-websocket-key")[..] {
        [key] if is_nonce(key) => Ok(()),
        _ => Err(Refusal::BadRequest(RequestFault::Key)),
    }
}

/// 16 bytes in base64: 22 letters, of which the last has four unused bits.
fn is_nonce(key: &[u8]) -> bool {
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    key.len() == 24
        && key[..21].iter().all(letter)
        && b"AQgw".contains(&key[21])
        && key.ends_with(b"==")
}

fn origin(headers: &HeaderMap, named: bool) -> bool {
    let origins: Vec<_> = headers.get_all("origin").iter().collect();
    let [origin] = origins[..] else {
        return origins.is_empty();
    };
    let Ok(origin) = origin.to_str().map(str::to_lowercase) else {
        return false;
    };
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let of_page = place(scheme, authority);
    let allowed = match named {
        true => place("https", "app.example").filter(|_| scheme == "https"),
        false => headers
            .get("host")
            .and_then(|host| host.to_str().ok())
            .and_then(|host| place(scheme, &host.to_lowercase())),
    };
    of_page.is_some() && of_page == allowed
}

/// The host and the port of a web address.
fn place(scheme: &str, authority: &str) -> Option<(String, u32)> {
    let own_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (v6, port) = rest.split_once(']')?;
            (v6.parse::<Ipv6Addr>().ok()?.to_string(), port)
        }
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            let (host, port) = authority.split_at(end);
            let legal = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
            (!host.is_empty() && host.chars().all(legal)).then_some((host.into(), port))?
        }
    };
    let digits = match port.strip_prefix(':') {
        None => return port.is_empty().then_some((host, own_port)),
        Some(digits) => digits,
    };
    let is_plain = digits.chars().all(|c| c.is_ascii_digit()) && !digits.starts_with('0');
    let port = digits.parse().ok().filter(|port| *port <= 65_535)?;
    is_plain.then_some((host, port))
}

fn sent_token(request: &Request<()>, in_query: bool) -> Result<Option<String>, Refusal> {
    let headers = request.headers();
    if headers.get_all("authorization").iter().count() > 1 {
        return Err(Refusal::BadRequest(RequestFault::Authorization));
    }
    let lines = texts(headers, "sec-websocket-protocol");
    let offered = lines.iter().flat_map(|line| line.split(',').map(str::trim));
    let offered: Vec<&str> = offered
        .filter_map(|offered| offered.strip_prefix("bearer."))
        .collect();
    let query = request.uri().query();
    // A valid token contains nothing to decode.
    let pairs = query.into_iter().flat_map(|query| query.split('&'));
    let values: Vec<&str> = pairs
        .filter_map(|pair| match pair {
            "token" => Some(""),
            _ => pair.strip_prefix("token="),
        })
        .collect();
    if offered.len() > 1 || (in_query && values.len() > 1) {
        return Err(Refusal::BadRequest(RequestFault::Tokens));
    }
    for line in texts(headers, "authorization") {
        let (scheme, token) = line.split_once(' ').unwrap_or_default();
        if scheme.to_lowercase() == "bearer" && !token.trim().is_empty() {
            return Ok(Some(token.trim().into()));
        }
    }
    if let [token] = offered[..] {
        return Ok(Some(token.into()));
    }
    // One that is not looked at, or can't be read, is not shown, and its sender believes that it is.
    let Some(value) = values.first() else {
        return Ok(None);
    };
    let decoded = percent_encoding::percent_decode_str(value).decode_utf8();
    match decoded {
        Ok(decoded) if in_query => Ok(Some(decoded.into())),
        _ => Err(Refusal::TokenMissing),
    }
}

fn texts<'h>(headers: &'h HeaderMap, name: &str) -> Vec<&'h str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .collect()
}

/// The first line is the request target, the others are headers.
fn read(data: &[u8]) -> Option<Request<()>> {
    let mut lines = data.split(|&byte| byte == b'\n');
    let mut request = Request::get(lines.next()?).body(()).ok()?;
    for line in lines.take(30) {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        request.headers_mut().append(name, value);
    }
    Some(request)
}

/// A request with few faults, and the token that it may contain.
fn made(input: &mut Unstructured<'_>) -> Result<(Request<()>, Signed)> {
    let signed = token(input)?;
    let mut request = Request::new(());
    if input.ratio(1, 16)? {
        *request.method_mut() = Method::POST;
    }
    if input.ratio(1, 16)? {
        *request.version_mut() = Version::HTTP_10;
    }
    let headers: &[(&'static str, &[&str])] = &[
        ("host", &["chat.example:8080", "Chat.Example:8080"]),
        (
            "upgrade",
            &["websocket", "h2c, WebSocket", "h2c", "web socket"],
        ),
        (
            "connection",
            &["Upgrade", "keep-alive,upgrade", "close", ""],
        ),
        ("sec-websocket-version", &["13", "8", "13, 8", " 13"]),
        (
            "sec-websocket-key",
            &[
                "dGhlIHNhbXBsZSBub25jZQ==",
                "AAAAAAAAAAAAAAAAAAAAAA==",
                "AAAAAAAAAAAAAAAAAAAAAB==",
                "AAAA",
                "x",
            ],
        ),
    ];
    for (name, values) in headers {
        // Mostly exactly one valid value.
        for _ in 0..*input.choose(&[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 2])? {
            let value = match input.ratio(1, 6)? {
                true => *input.choose(values)?,
                false => values[0],
            };
            let value = HeaderValue::from_str(value).unwrap();
            request.headers_mut().append(*name, value);
        }
    }
    more_headers(input, &mut request)?;
    place_token(input, &mut request, &signed.0)?;
    Ok((request, signed))
}

fn more_headers(input: &mut Unstructured<'_>, request: &mut Request<()>) -> Result<()> {
    for _ in 0..*input.choose(&[0, 0, 1, 2])? {
        let origins = [
            NAMED,
            "http://chat.example:8080",
            "HTTPS://CHAT.example:8080",
            "null",
            "http://evil",
            "",
        ];
        let origin = HeaderValue::from_str(input.choose(&origins)?).unwrap();
        request.headers_mut().append("origin", origin);
    }
    if input.ratio(1, 12)? {
        let name = *input.choose(&["content-length", "transfer-encoding", "x"])?;
        let length = *input.choose(&["0", "0", "1", "00", ""])?;
        request
            .headers_mut()
            .append(name, HeaderValue::from_static(length));
    }
    if input.ratio(1, 12)? {
        let names = [
            "host",
            "upgrade",
            "connection",
            "origin",
            "authorization",
            "sec-websocket-protocol",
        ];
        let name = *input.choose(&names)?;
        if let Ok(value) = HeaderValue::from_bytes(input.arbitrary()?) {
            request.headers_mut().append(name, value);
        }
    }
    Ok(())
}

fn place_token(input: &mut Unstructured<'_>, request: &mut Request<()>, token: &str) -> Result<()> {
    let header = |text: &str| HeaderValue::from_str(text).unwrap();
    let mut target = String::from("/ws");
    if input.ratio(1, 4)? {
        let scheme = input.choose(&["Bearer ", "bearer  ", "Basic ", "Bearer"])?;
        request
            .headers_mut()
            .append("authorization", header(&format!("{scheme}{token}")));
    }
    if input.ratio(1, 2)? {
        let before = input.choose(&["", "presence.v1, ", "presence.v1", "bearer.x, ", "other,"])?;
        request.headers_mut().append(
            "sec-websocket-protocol",
            header(&format!("{before}bearer.{token}")),
        );
    }
    if input.ratio(1, 2)? {
        let before = input.choose(&["", "a=b&", "token&", "token=%ff&", "token=+&"])?;
        target = format!("/ws?{before}token={token}");
    }
    *request.uri_mut() = target.parse().unwrap();
    Ok(())
}

/// How far in the past or future a time that must be noticed lies.
const FAR_S: u64 = 100_000;

/// A token with at most a few faults. The refusal is that of the fault that is checked first.
fn token(input: &mut Unstructured<'_>) -> Result<Signed> {
    let (typ, known) = token_type(input)?;
    let now_s = unix_ms() / 1000;
    let (exp, expired) = expiry(input, now_s)?;
    let lasts_too_long = exp.as_u64().is_some_and(|exp| exp > now_s + LIFETIME_MAX_S);
    let (sub, user) = subject(input)?;
    let (nbf, not_before) = match input.int_in_range(0..=7)? {
        0 => (json!(now_s + FAR_S), Err(invalid(TokenFault::NotYetValid))),
        _ => (json!(now_s - FAR_S), Ok(())),
    };
    let (key, signed) = match input.ratio(1, 10)? {
        true => (
            &b"another secret of thirty-two bytes"[..],
            Err(invalid(TokenFault::Signature)),
        ),
        false => (SECRET, Ok(())),
    };
    if input.ratio(1, 10)? {
        let garbage = input.choose(&["", ".", "..", "a.b.c", "x"])?;
        return Ok((garbage.to_string(), UNSIGNED));
    }
    let header = Header {
        typ: typ.map(String::from),
        ..Header::default()
    };
    let claims = json!({"sub": sub, "exp": exp, "nbf": nbf});
    let token = encode(&header, &claims, &EncodingKey::from_secret(key)).unwrap();
    let verdict = match signed.and(expired).and(not_before).and(known).and(user) {
        Ok(_) if lasts_too_long => Err(invalid(TokenFault::LifetimeTooLong)),
        verdict => verdict,
    };
    Ok((token, verdict))
}

/// A `typ`, and whether it is that of a token for us.
fn token_type(input: &mut Unstructured<'_>) -> Result<(Option<&'static str>, Result<(), Refusal>)> {
    let types = [
        (Some("JWT"), Ok(())),
        (Some("at+jwt"), Ok(())),
        (Some("application/jwt"), Ok(())),
        (None, Ok(())),
        (Some("dpop+jwt"), Err(invalid(TokenFault::Typ))),
        (Some(""), Err(invalid(TokenFault::Typ))),
    ];
    Ok(*input.choose(&types)?)
}

/// An `exp`, and whether it is one in the future.
fn expiry(input: &mut Unstructured<'_>, now_s: u64) -> Result<(Value, Result<(), Refusal>)> {
    Ok(match input.int_in_range(0..=9)? {
        0 => (json!(now_s - 3600), Err(Refusal::TokenExpired)),
        1 => (json!("soon"), Err(invalid(TokenFault::Claims))),
        2 => (Value::Null, Err(invalid(TokenFault::Claims))),
        3 => (json!(now_s + LIFETIME_MAX_S + FAR_S), Ok(())),
        _ => (json!(now_s + 3600), Ok(())),
    })
}

/// A `sub`, and the user whom it names.
fn subject(input: &mut Unstructured<'_>) -> Result<(Value, Result<&'static str, Refusal>)> {
    let too_long = "u".repeat(201);
    Ok(match input.int_in_range(0..=9)? {
        0 => (json!(42), Ok("42")),
        1 => (json!("a b"), Err(Refusal::UserId(UserIdError::Character))),
        2 => (json!(too_long), Err(Refusal::UserId(UserIdError::TooLong))),
        3 => (json!(1.5), Err(invalid(TokenFault::UserClaim))),
        4 => (Value::Null, Err(invalid(TokenFault::UserClaim))),
        5 => (json!("zo\u{eb}"), Ok("zo\u{eb}")),
        _ => (json!("alice"), Ok("alice")),
    })
}
