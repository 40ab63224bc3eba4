//! Packets to the client, each appended to `out` as a whole Engine.IO text packet: the digit `4`
//! comes first. A namespace is one that a client may name: it has no comma.

use serde::Serialize;

use super::id::Id;

/// The answer to a CONNECT: the client's Socket.IO `sid`.
pub fn connected(out: &mut Vec<u8>, namespace: &str, sid: &str) {
    head(out, b'0', namespace);
    out.extend_from_slice(b"{\"sid\":");
    json(out, sid);
    out.push(b'}');
}

/// The refusal of a CONNECT. `code`, for programs, goes into `data`. Clients do not try again by
/// themselves, so this is only for what is final.
pub fn connect_error(out: &mut Vec<u8>, namespace: &str, message: &str, code: Option<&str>) {
    head(out, b'4', namespace);
    out.extend_from_slice(b"{\"message\":");
    json(out, message);
    if let Some(code) = code {
        out.extend_from_slice(b",\"data\":{\"code\":");
        json(out, code);
        out.push(b'}');
    }
    out.push(b'}');
}

/// The refusal of a CONNECT to a namespace that is not there.
pub fn invalid_namespace(out: &mut Vec<u8>, namespace: &str) {
    connect_error(out, namespace, "Invalid namespace", None);
}

/// The end of a connection to a namespace. Clients do not come back by themselves, so this is only
/// for what is final.
pub fn disconnect(out: &mut Vec<u8>, namespace: &str) {
    head(out, b'1', namespace);
}

/// An event. `args` is the JSON of its arguments, separated by commas; empty if there are none.
pub fn event(out: &mut Vec<u8>, namespace: &str, name: &str, args: &[u8]) {
    head(out, b'2', namespace);
    out.push(b'[');
    json(out, name);
    if !args.is_empty() {
        out.push(b',');
        out.extend_from_slice(args);
    }
    out.push(b']');
}

/// The answer to an event with an id. `args` is the JSON of its arguments, separated by commas.
pub fn ack(out: &mut Vec<u8>, namespace: &str, id: &Id, args: &[u8]) {
    head(out, b'3', namespace);
    out.extend_from_slice(id.as_bytes());
    out.push(b'[');
    out.extend_from_slice(args);
    out.push(b']');
}

fn head(out: &mut Vec<u8>, kind: u8, namespace: &str) {
    out.extend_from_slice(&[b'4', kind]);
    if namespace != "/" {
        out.extend_from_slice(namespace.as_bytes());
        out.push(b',');
    }
}

fn json(out: &mut Vec<u8>, text: &str) {
    // Neither a string nor a vector can fail.
    let _ = text.serialize(&mut serde_json::Serializer::new(out));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn as_clients_know_them() {
        let id = Id::new(b"007").unwrap();
        assert_eq!(
            written(|out| connected(out, "/", "abc")),
            r#"40{"sid":"abc"}"#
        );
        assert_eq!(
            written(|out| connected(out, "/a", "abc")),
            r#"40/a,{"sid":"abc"}"#
        );
        assert_eq!(
            written(|out| connect_error(out, "/", "token expired", Some("token_expired"))),
            r#"44{"message":"token expired","data":{"code":"token_expired"}}"#
        );
        assert_eq!(
            written(|out| invalid_namespace(out, "/x")),
            r#"44/x,{"message":"Invalid namespace"}"#
        );
        assert_eq!(written(|out| disconnect(out, "/")), "41");
        assert_eq!(written(|out| disconnect(out, "/a")), "41/a,");
        assert_eq!(written(|out| event(out, "/", "a\"", b"")), r#"42["a\""]"#);
        assert_eq!(
            written(|out| event(out, "/a", "b", b"1,{}")),
            r#"42/a,["b",1,{}]"#
        );
        assert_eq!(written(|out| ack(out, "/", &id, b"1")), "43007[1]");
        assert_eq!(written(|out| ack(out, "/a", &id, b"")), "43/a,007[]");
    }

    #[test]
    fn no_separator_of_payloads_is_written() {
        assert_eq!(
            written(|out| event(out, "/", "\u{1e}", b"")),
            r#"42["\u001e"]"#
        );
    }
}
