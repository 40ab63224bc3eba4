//! The codecs over sockets: the client's with a real memcached, the server's with a real client.

use async_memcached::AsciiProtocol;
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use presenced_memcached::codec::{Asked, ClientCodec, CodecError, ServerCodec};
use presenced_protocol::meta::{Flag, ReplyFlag};
use presenced_protocol::reply::ReplyErrorKind;
use presenced_protocol::request::StoreVerb;
use presenced_protocol::{Key, Limits, Reply, Request, encode};
use presenced_testkit::memcached::Memcached;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::join;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{Decoder, Framed};

const VALUE: &[u8] = b"a value\r\nEND\r\n";

fn key(text: &str) -> Key<'_> {
    Key::new(text.as_bytes()).unwrap()
}

fn set<'a>(name: &'a str, value: &'a [u8]) -> Request<'a> {
    Request::Store {
        verb: StoreVerb::Set,
        key: key(name),
        flags: 7,
        exptime: 60,
        value,
        noreply: false,
    }
}

async fn next(framed: &mut Framed<TcpStream, ClientCodec>) -> Reply<Bytes> {
    framed.next().await.expect("open").expect("a reply")
}

#[tokio::test]
async fn a_client_asks_a_real_memcached() {
    let memcached = Memcached::start().await;
    let stream = TcpStream::connect(memcached.node()).await.unwrap();
    let mut framed = Framed::new(stream, ClientCodec::default());
    // All at once: replies come in the order of the requests.
    framed.feed(set("a", VALUE)).await.unwrap();
    framed.feed(set("b", &[b'x'; 100_000])).await.unwrap();
    let get = |out: &mut BytesMut| {
        encode::gets(out, [key("a"), key("none"), key("b")]);
    };
    framed.feed(get).await.unwrap();
    let flags = [Flag::ReturnKey, Flag::ReturnValue, Flag::ReturnClientFlags];
    let meta_get = |out: &mut BytesMut| encode::meta_get(out, key("a"), flags);
    framed.feed(meta_get).await.unwrap();
    framed.feed(Request::MetaNoop).await.unwrap();
    framed.send(Request::Version).await.unwrap();

    assert_eq!(next(&mut framed).await, Reply::Stored);
    assert_eq!(next(&mut framed).await, Reply::Stored);
    for (name, expected) in [("a", VALUE), ("b", &[b'x'; 100_000][..])] {
        let reply = next(&mut framed).await;
        let Reply::Value {
            key,
            flags: 7,
            value,
            cas: Some(_),
        } = &reply
        else {
            panic!("{reply:?}");
        };
        assert_eq!((&key[..], &value[..]), (name.as_bytes(), expected));
    }
    assert_eq!(next(&mut framed).await, Reply::End);
    let reply = next(&mut framed).await;
    let Reply::MetaValue { value, flags } = &reply else {
        panic!("{reply:?}");
    };
    assert_eq!(value, VALUE);
    assert!(
        flags
            .iter()
            .eq([ReplyFlag::Key(b"a"), ReplyFlag::ClientFlags(7)])
    );
    assert_eq!(next(&mut framed).await, Reply::MetaNoop);
    assert!(matches!(next(&mut framed).await, Reply::Version(_)));

    framed.send(Request::Quit).await.unwrap();
    assert!(framed.next().await.is_none());
}

#[tokio::test]
async fn what_is_no_reply_ends_a_client() {
    let (mut server, client) = duplex(100);
    let mut framed = Framed::new(client, ClientCodec::default());
    server
        .write_all(b"STORED\r\nHTTP/1.1 400 Bad Request\r\n")
        .await
        .unwrap();
    assert_eq!(framed.next().await.unwrap().unwrap(), Reply::Stored);
    let Some(Err(CodecError::Reply(error))) = framed.next().await else {
        panic!("not a reply");
    };
    assert_eq!(error.kind, ReplyErrorKind::Unknown);

    let (mut server, client) = duplex(100);
    let mut framed = Framed::new(client, ClientCodec::default());
    server.write_all(b"VALUE a 0 3\r\nab").await.unwrap();
    drop(server);
    assert!(matches!(framed.next().await, Some(Err(CodecError::Io(_)))));
}

/// What is decoded is where it was read.
#[test]
fn values_are_not_copied() {
    let mut input = BytesMut::from(&b"VALUE a 0 3\r\nabc\r\nEND\r\n"[..]);
    let place = input[b"VALUE a 0 3\r\n".len()..].as_ptr();
    let Ok(Some(Reply::Value { value, .. })) = ClientCodec::default().decode(&mut input) else {
        panic!("a value");
    };
    assert_eq!((&value[..], value.as_ptr()), (&b"abc"[..], place));

    let mut input = BytesMut::from(&b"set a 0 0 3\r\nabc\r\nget a\r\n"[..]);
    let place = input.as_ptr();
    let Ok(Some(Asked::Request(whole))) = ServerCodec::default().decode(&mut input) else {
        panic!("a request");
    };
    assert_eq!(
        (whole.bytes().as_ptr(), &input[..]),
        (place, &b"get a\r\n"[..])
    );
    let Request::Store { value, .. } = whole.request() else {
        panic!("a set");
    };
    assert_eq!(whole.bytes().slice_ref(value), &b"abc"[..]);
}

/// Stores one value, whatever its key.
async fn serve(stream: TcpStream) {
    let mut framed = Framed::new(stream, ServerCodec::default());
    let mut stored = Bytes::new();
    while let Some(asked) = framed.next().await {
        let Asked::Request(whole) = asked.unwrap() else {
            panic!("a real client asks well");
        };
        match whole.request() {
            Request::Store { value, .. } => {
                stored = whole.bytes().slice_ref(value);
                framed.send(Reply::<Bytes>::Stored).await.unwrap();
            }
            Request::Get { keys, .. } => {
                for key in keys {
                    let value = Reply::Value {
                        key: key.as_bytes(),
                        flags: 0,
                        value: &stored[..],
                        cas: None,
                    };
                    framed.feed(value).await.unwrap();
                }
                framed.send(Reply::<Bytes>::End).await.unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_answers_a_real_client() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { serve(listener.accept().await.unwrap().0).await });
    let mut client = async_memcached::Client::new(format!("tcp://{addr}"))
        .await
        .unwrap();
    client.set("a", VALUE, None, None).await.unwrap();
    let found = client.get_multi(["a", "b"]).await.unwrap();
    assert_eq!(found.len(), 2);
    assert!(
        found
            .iter()
            .all(|found| found.data.as_deref() == Some(VALUE))
    );
    drop(client);
    server.await.unwrap();
}

/// Sends `input` in pieces and closes; what was answered meanwhile.
async fn told(input: &[u8], bytes: usize) -> String {
    let limits = Limits {
        value_bytes_max: 10,
        ..Limits::default()
    };
    let (client, server) = duplex(16);
    let (mut reader, mut writer) = split(client);
    let mut flags = String::new();
    let ask = async {
        for piece in input.chunks(bytes) {
            // Refused once the server has closed.
            let _ = writer.write_all(piece).await;
        }
        let _ = writer.shutdown().await;
    };
    let framed = Framed::new(server, ServerCodec::new(limits));
    let (_, read, ()) = join!(ask, reader.read_to_string(&mut flags), answer_all(framed));
    read.unwrap();
    flags
}

async fn answer_all(mut framed: Framed<DuplexStream, ServerCodec>) {
    while let Some(Ok(asked)) = framed.next().await {
        let (answer, close) = match asked {
            Asked::Request(_) => (Some(Reply::Ok), false),
            Asked::Bad { answer, close } => (answer, close),
        };
        if let Some(answer) = answer {
            framed.send(answer).await.unwrap();
        }
        if close {
            return;
        }
    }
}

#[tokio::test]
async fn a_server_stays_in_step_where_memcached_does() {
    let input = b"version\r\nset a 0 0 11\r\n12345678901\r\nset b 0 0 11 noreply\r\n12345678901\r\nnone\r\n\
        mn\r\n";
    for bytes in [1, 3, 7, input.len()] {
        let expected = "OK\r\nSERVER_ERROR object too large for cache\r\nERROR\r\nOK\r\n";
        assert_eq!(told(input, bytes).await, expected);
    }
    let endless = [b"mn\r\n", &[b'x'; 5000][..]].concat();
    assert_eq!(
        told(&endless, 1000).await,
        "OK\r\nCLIENT_ERROR line too long\r\n"
    );
}

/// A client that is answered while it still writes may take the answer for another request's.
#[test]
fn a_server_answers_a_refused_value_when_it_has_come() {
    for (line, answer) in [
        ("set a x 0 5", "bad command line format"),
        ("add a 0 0 2000000", "object too large for cache"),
    ] {
        let bytes = if line.ends_with('5') { 5 } else { 2_000_000 };
        for (end, closes) in [("\r\n", false), ("\rx", true)] {
            let mut codec = ServerCodec::default();
            let value = "v".repeat(bytes);
            let mut input = BytesMut::new();
            for piece in [line, "\r\n", &value, "\r"] {
                input.extend_from_slice(piece.as_bytes());
                assert!(matches!(codec.decode(&mut input), Ok(None)), "{line}");
            }
            input.truncate(0);
            input.extend_from_slice(end.as_bytes());
            let Ok(Some(Asked::Bad {
                answer: told,
                close,
            })) = codec.decode(&mut input)
            else {
                panic!("{line} is refused");
            };
            let Some(Reply::ClientError(text) | Reply::ServerError(text)) = told else {
                panic!("{told:?}");
            };
            assert_eq!((text, close), (answer.as_bytes(), closes), "{line}");
        }
    }
}

#[tokio::test]
async fn a_server_takes_no_value_for_requests() {
    let format = "CLIENT_ERROR bad command line format\r\n";
    let chunk = "CLIENT_ERROR bad data chunk\r\n";
    for (line, flags) in [
        // Swallowed, so that the `mn` after it is answered.
        ("set a x 0 2", format!("{format}OK\r\n")),
        ("set a x 0 2 noreply", "OK\r\n".into()),
        ("ms a 2 F-1", format!("{format}OK\r\n")),
        // Closed.
        ("set a b c 0 2", "ERROR\r\n".into()),
        ("set a 0 0 x", format.into()),
        ("set a 0 0 x noreply", String::new()),
        ("set a 0 0 1", chunk.into()),
        ("set a x 0 1", format.into()),
    ] {
        // What the value is would be answered, too.
        let input = format!("{line}\r\nmn\r\nmn\r\n");
        for bytes in [1, 3, 7, input.len()] {
            assert_eq!(told(input.as_bytes(), bytes).await, flags, "{line}");
        }
    }
}
