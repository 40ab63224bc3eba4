//! Socket.IO: payloads and requests, packets, and a whole session.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use presenced_socketio::engine::{
    BadPacket, Kind, Packet, Payload, Query, SEPARATOR, SidKey, TransportName, push,
};
use presenced_socketio::packet::{self, Body, Event, Name, encode};
use serde_json::Value;

// The tests of the crate have the same model.
#[path = "../../../socketio/tests/model/mod.rs"]
mod model;

/// Takes each two bytes as an operation on a session; the state machines must do what a naive model
/// says.
pub fn socketio_session(data: &[u8]) {
    model::run(data);
}

/// Takes the bytes as the body of a POST, as a query and as an id.
pub fn socketio_payload(data: &[u8]) {
    as_payload(data);
    as_query(data);
    let key = SidKey::new(&[1; 32]);
    if let Some(place) = key.place(data) {
        assert_eq!(key.sid(place).as_str().as_bytes(), data);
    }
}

/// The packets are those that a naive reading finds, are parts of the body, and are written as they
/// came.
fn as_payload(data: &[u8]) {
    let mut body = data.to_vec();
    let range = body.as_ptr_range();
    let mut written = Vec::new();
    let mut pieces = data.split(|&byte| byte == SEPARATOR);
    let mut bad = None;
    for packet in Payload::new(&mut body) {
        assert_eq!(bad, None, "behind a bad packet");
        let piece = pieces.next().unwrap();
        assert_eq!(
            packet,
            naive_packet(piece)
                .as_ref()
                .map(Owned::packet)
                .map_err(|bad| *bad)
        );
        match packet {
            Ok(packet) => {
                let (Packet::Text(_, data) | Packet::Binary(data)) = packet;
                assert!(range.start <= data.as_ptr() && data.as_ptr_range().end <= range.end);
                push(&mut written, packet);
            }
            Err(error) => bad = Some(error),
        }
    }
    match bad {
        None => {
            assert_eq!(pieces.next(), None);
            assert_eq!(written, data);
        }
        Some(_) => assert!(data.starts_with(&written)),
    }
}

enum Owned {
    Text(Kind, Vec<u8>),
    Binary(Vec<u8>),
}

impl Owned {
    fn packet(&self) -> Packet<'_> {
        match self {
            Owned::Text(kind, data) => Packet::Text(*kind, data),
            Owned::Binary(data) => Packet::Binary(data),
        }
    }
}

fn naive_packet(piece: &[u8]) -> Result<Owned, BadPacket> {
    match piece.first() {
        None => Err(BadPacket::Empty),
        Some(b'b') => match STANDARD.decode(&piece[1..]) {
            Ok(data) => Ok(Owned::Binary(data)),
            Err(_) => Err(BadPacket::Base64),
        },
        Some(digit @ b'0'..=b'6') => {
            let kinds = [
                Kind::Open,
                Kind::Close,
                Kind::Ping,
                Kind::Pong,
                Kind::Message,
                Kind::Upgrade,
                Kind::Noop,
            ];
            match String::from_utf8(piece[1..].to_vec()) {
                Ok(text) => Ok(Owned::Text(kinds[usize::from(digit - b'0')], text.into())),
                Err(_) => Err(BadPacket::Utf8),
            }
        }
        Some(_) => Err(BadPacket::Kind),
    }
}

/// What counts is what a naive reading from the end finds.
fn as_query(data: &[u8]) {
    let query = Query::new(data);
    let find = |key: &[u8]| {
        let pairs = data.split(|&byte| byte == b'&').rev();
        let mut pairs = pairs.map(|pair| {
            let mut halves = pair.splitn(2, |&byte| byte == b'=');
            let mut half = || naive_decoded(halves.next().unwrap_or_default());
            (half(), half())
        });
        pairs.find(|(name, _)| name == key).map(|(_, value)| value)
    };
    assert_eq!(query.is_version_4, find(b"EIO").as_deref() == Some(b"4"));
    let transport = match find(b"transport").as_deref() {
        Some(b"polling") => Some(TransportName::Polling),
        Some(b"websocket") => Some(TransportName::WebSocket),
        _ => None,
    };
    assert_eq!(query.transport, transport);
    let sid = find(b"sid").filter(|sid| !sid.is_empty());
    assert_eq!(query.sid.map(|sid| sid.to_vec()), sid);
}

fn naive_decoded(bytes: &[u8]) -> Vec<u8> {
    let hex = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

/// Takes the bytes as a Socket.IO packet. It is what a naive reading finds, and it is the same when
/// it is written and read again.
pub fn socketio_packet(data: &[u8]) {
    let found = packet::Packet::decode(data);
    match naive_message(data) {
        Naive::Bad => assert!(found.is_err(), "{found:?}"),
        // serde_json can't hold all JSON.
        Naive::Unknown => {}
        Naive::Packet(naive) => {
            let found = found
                .as_ref()
                .unwrap_or_else(|bad| panic!("{bad:?} but {naive:?}"));
            let (attachments, id, json) = match &found.body {
                Body::Disconnect => (0, None, None),
                Body::Connect(json) => (0, None, *json),
                Body::ConnectError(json) => (0, None, Some(*json)),
                Body::Event(event) => (event.attachments, event.id, Some(event.array)),
                Body::Ack {
                    id,
                    args,
                    attachments,
                } => (*attachments, *id, Some(*args)),
            };
            assert_eq!(found.namespace, naive.namespace);
            assert_eq!(attachments, naive.attachments);
            let id = id.map(|id| String::from_utf8(id.as_bytes().to_vec()).unwrap());
            assert_eq!(id, naive.id);
            assert_eq!(
                json.map(|json| serde_json::from_str(json).unwrap()),
                naive.json
            );
        }
    }
    let Ok(packet) = found else {
        return;
    };
    let mut written = Vec::new();
    match &packet.body {
        Body::Event(event) => {
            let array = format!("[{}]", event.args);
            let raw: Vec<&serde_json::value::RawValue> = serde_json::from_str(event.array).unwrap();
            if !event.args.is_empty() {
                let args: Vec<&serde_json::value::RawValue> = serde_json::from_str(&array).unwrap();
                let same = args
                    .iter()
                    .zip(&raw[1..])
                    .all(|(one, other)| one.get() == other.get());
                assert!(same && args.len() == raw.len() - 1);
            }
            let Name::Text(name) = &event.name else {
                return;
            };
            encode::event(&mut written, packet.namespace, name, event.args.as_bytes());
            let again = packet::Packet::decode(written.strip_prefix(b"4").unwrap()).unwrap();
            let Body::Event(again) = again.body else {
                panic!("{again:?}");
            };
            let Event { name, args, .. } = event;
            assert_eq!((&again.name, again.args), (name, *args));
        }
        Body::Ack {
            id: Some(id),
            args,
            attachments: 0,
        } => {
            let inner = args
                .strip_prefix('[')
                .and_then(|args| args.strip_suffix(']'));
            encode::ack(
                &mut written,
                packet.namespace,
                id,
                inner.unwrap().as_bytes(),
            );
            let again = packet::Packet::decode(written.strip_prefix(b"4").unwrap());
            assert_eq!(again.as_ref(), Ok(&packet));
        }
        Body::Disconnect => {
            encode::disconnect(&mut written, packet.namespace);
            let again = packet::Packet::decode(written.strip_prefix(b"4").unwrap());
            assert_eq!(again.as_ref(), Ok(&packet));
        }
        Body::Connect(auth) => {
            let token = auth.and_then(packet::token);
            let naive: Option<Value> = auth.and_then(|auth| serde_json::from_str(auth).ok());
            if let (Some(token), Some(naive)) = (token, naive) {
                assert_eq!(naive["token"], *token);
            }
        }
        Body::Ack { .. } | Body::ConnectError(_) => {}
    }
}

enum Naive {
    Bad,
    Unknown,
    Packet(NaivePacket),
}

#[derive(Debug)]
struct NaivePacket {
    namespace: String,
    attachments: u8,
    id: Option<String>,
    json: Option<Value>,
}

fn naive_message(data: &[u8]) -> Naive {
    let Ok(text) = str::from_utf8(data) else {
        return Naive::Bad;
    };
    let mut chars = text.chars().peekable();
    let kind = chars.next().unwrap_or('x');
    if !('0'..='6').contains(&kind) {
        return Naive::Bad;
    }
    let mut attachments = 0;
    if kind == '5' || kind == '6' {
        let mut digits = String::new();
        while let Some(digit) = chars.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        attachments = digits.parse().unwrap_or(0);
        let is_legal = (1..=10).contains(&attachments) && attachments.to_string() == digits;
        if !is_legal || chars.next() != Some('-') {
            return Naive::Bad;
        }
    }
    let mut namespace = String::new();
    if chars.peek() == Some(&'/') {
        namespace.extend(chars.by_ref().take_while(|&letter| letter != ','));
    } else {
        namespace.push('/');
    }
    let mut id = String::new();
    while let Some(digit) = chars.next_if(char::is_ascii_digit) {
        id.push(digit);
    }
    let has_id = !id.is_empty();
    if has_id && (id.len() > 16 || id.parse::<u64>().unwrap() >= 1 << 53) {
        return Naive::Bad;
    }
    let json: String = chars.collect();
    // serde_json reads an object whose member has a name of its own, `$serde_json::private::…`, as what the text of that
    // member says.
    let may_be_misread = json.contains('$') || json.contains("\\u0024");
    let json: Option<Value> = match json.is_empty() {
        true => None,
        false => match serde_json::from_str(&json) {
            Ok(_) if may_be_misread => return Naive::Unknown,
            Ok(json) => Some(json),
            // Numbers and nesting that a value can't hold, and halves of characters.
            Err(_) if serde_json::from_str::<&serde_json::value::RawValue>(&json).is_ok() => {
                return Naive::Unknown;
            }
            Err(_) => return Naive::Bad,
        },
    };
    let is_legal = match (kind, &json) {
        ('0', None | Some(Value::Object(_)))
        | ('1', None)
        | ('4', Some(Value::Object(_) | Value::String(_))) => !has_id,
        ('2' | '5', Some(Value::Array(items))) => match items.first() {
            Some(Value::String(name)) => !matches!(
                name.as_str(),
                "connect"
                    | "connect_error"
                    | "disconnect"
                    | "disconnecting"
                    | "newListener"
                    | "removeListener"
            ),
            Some(Value::Number(_)) => true,
            _ => false,
        },
        ('3' | '6', Some(Value::Array(_))) => true,
        _ => false,
    };
    if !is_legal || attachments > 0 && !json.iter().all(|json| is_placed(json, attachments)) {
        return Naive::Bad;
    }
    Naive::Packet(NaivePacket {
        namespace,
        attachments,
        id: has_id.then_some(id),
        json,
    })
}

fn is_placed(json: &Value, attachments: u8) -> bool {
    match json {
        Value::Array(items) => items.iter().all(|item| is_placed(item, attachments)),
        Value::Object(members) => {
            let is_place = members.get("_placeholder") == Some(&Value::Bool(true));
            let number = members.get("num").and_then(Value::as_u64);
            (!is_place || number.is_some_and(|number| number < u64::from(attachments)))
                && members
                    .values()
                    .all(|member| is_placed(member, attachments))
        }
        _ => true,
    }
}
