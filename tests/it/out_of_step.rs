//! Replies that no one asked for, from a memcached by hand: what came before a question is never taken for
//! its answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use presenced_memcached::limits::{
    KEYS_PER_GET_MAX, LOOKUP_ANSWER_BYTES_MAX, LOOKUP_BUFFER_BYTES, PROBE_ANSWER_BYTES_MAX,
    STATS_TRIES,
};
use presenced_memcached::marker::{self, Marker};
use presenced_memcached::probe::{self, NoWrites};
use presenced_memcached::tls::Tls;
use presenced_memcached::{
    self as memcached, Cluster, ConnectOptions, MemcachedError, Node, NodeSpec, Reader, Writer,
};
use presenced_protocol::Key;
use presenced_testkit::PATIENCE;
use presenced_testkit::temp::TempFile;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::join;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What carries a connection.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Tcp,
    Unix,
    Tls,
}

const KINDS: [Kind; 3] = [Kind::Tcp, Kind::Unix, Kind::Tls];

/// Listens, and says nothing by itself.
struct Peer {
    listener: Listener,
    cluster: Arc<Cluster>,
    _socket: TempFile,
}

enum Listener {
    Tcp(TcpListener, Option<TlsAcceptor>),
    Unix(UnixListener),
}

/// A connection from the peer's side.
struct Wire(BufReader<Box<dyn Bytes>>);

trait Bytes: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Bytes for T {}

impl Peer {
    async fn listen(kind: Kind) -> Peer {
        Peer::listen_to(kind, None).await
    }

    /// The same for a probe, which keeps a sentinel.
    async fn probed(kind: Kind) -> Peer {
        Peer::listen_to(kind, Some("sentinel".into())).await
    }

    async fn listen_to(kind: Kind, sentinel: Option<String>) -> Peer {
        let mut tls = None;
        let socket = TempFile::new("");
        let (listener, node) = match kind {
            Kind::Unix => {
                std::fs::remove_file(socket.path()).unwrap();
                let node = format!("unix:{}", socket.path().display());
                let listener = UnixListener::bind(socket.path()).unwrap();
                (Listener::Unix(listener), node)
            }
            Kind::Tcp | Kind::Tls => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let node = listener.local_addr().unwrap().to_string();
                let acceptor = matches!(kind, Kind::Tls).then(|| {
                    tls = Some(Tls::new(&std::fs::read(file("ca.pem")).unwrap()).unwrap());
                    acceptor()
                });
                (Listener::Tcp(listener, acceptor), node)
            }
        };
        let access = ConnectOptions {
            timeout: PATIENCE,
            tls,
            sentinel,
            ..ConnectOptions::default()
        };
        let options = memcached::Config {
            connect: access,
            ..memcached::Config::default()
        };
        let spec: NodeSpec = node.parse().unwrap();
        Peer {
            listener,
            cluster: Arc::new(Cluster::new([spec.into()], options)),
            _socket: socket,
        }
    }

    fn node(&self) -> Arc<Node> {
        self.cluster.topology().nodes()[0].clone()
    }

    fn errors(&self, label: &str) -> u64 {
        let node = self.node();
        let mut errors = node.errors().filter(|(known, _)| *known == label);
        errors.next().unwrap().1
    }

    /// The next connection, greeted.
    async fn accept(&self) -> Wire {
        let accepting = async {
            let stream: Box<dyn Bytes> = match &self.listener {
                Listener::Unix(listener) => Box::new(listener.accept().await.unwrap().0),
                Listener::Tcp(listener, tls) => {
                    let (stream, _) = listener.accept().await.unwrap();
                    // What is said is on its way at once.
                    stream.set_nodelay(true).unwrap();
                    match tls {
                        None => Box::new(stream),
                        Some(tls) => Box::new(tls.accept(stream).await.unwrap()),
                    }
                }
            };
            stream
        };
        let stream = timeout(PATIENCE, accepting).await.expect("a connection");
        let mut wire = Wire(BufReader::new(stream));
        wire.hear("version\r\n").await;
        wire.say("VERSION 1.6.18\r\n").await;
        wire
    }

    async fn lookup(&self) -> (Reader, Wire) {
        let node = self.node();
        let (lookup, wire) = join!(Reader::dial(&node), self.accept());
        (lookup.unwrap(), wire)
    }
}

impl Wire {
    async fn line(&mut self) -> String {
        let mut line = String::new();
        // An error is an end, too.
        let read = timeout(PATIENCE, self.0.read_line(&mut line)).await;
        let _ = read.expect("a line or the end");
        line
    }

    async fn hear(&mut self, expected: &str) {
        assert_eq!(self.line().await, expected);
    }

    async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
        self.0.flush().await.unwrap();
    }
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/tls")
        .join(name)
}

fn acceptor() -> TlsAcceptor {
    let provider = Arc::new(rustls_graviola::default_provider());
    let certificates = CertificateDer::pem_file_iter(file("server.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            certificates.map(Result::unwrap).collect(),
            PrivateKeyDer::from_pem_file(file("server.key")).unwrap(),
        );
    TlsAcceptor::from(Arc::new(config.unwrap()))
}

/// The values found of the keys, by their places; nothing of one that is too long.
async fn get(lookup: &mut Reader, keys: &[&str]) -> Result<Vec<(usize, String)>, MemcachedError> {
    let keys: Vec<_> = keys
        .iter()
        .map(|key| Key::new(key.as_bytes()).unwrap())
        .collect();
    let (mut found, mut ends) = (Vec::new(), Vec::new());
    let marks = [Key::new(b"last").unwrap()];
    let got = lookup.get(
        &keys,
        &marks,
        |place, value| {
            let value = value.unwrap_or_default().to_vec();
            found.push((place, String::from_utf8(value).unwrap()));
        },
        |range, _, marks| ends.push((range, marks[0].clone())),
    );
    timeout(PATIENCE, got).await.expect("an answer")?;
    assert!(
        ends.iter().all(|(_, value)| value.as_deref() == Some(b"x")),
        "{ends:?}"
    );
    let told: usize = ends.into_iter().map(|(range, _)| range.len()).sum();
    assert_eq!(told, keys.len());
    Ok(found)
}

/// The end of an answer that is one.
const LAST: &str = "VALUE last 0 1\r\nx\r\nEND\r\n";

fn assert_out_of_step<T: std::fmt::Debug>(got: &Result<T, MemcachedError>, what: &str) {
    assert!(
        matches!(got, Err(MemcachedError::OutOfStep(_))),
        "{what}: {got:?}"
    );
}

#[tokio::test]
async fn each_answer_is_that_of_its_question() {
    for kind in KINDS {
        let peer = Peer::listen(kind).await;
        let (mut lookup, mut wire) = peer.lookup().await;
        for round in 0..3 {
            let value = format!("VALUE b 0 1\r\n{round}\r\n{LAST}");
            let answer = async {
                wire.hear("get a b last\r\n").await;
                wire.say(&value).await;
            };
            let (got, ()) = join!(get(&mut lookup, &["a", "b"]), answer);
            assert_eq!(got.unwrap(), [(1, round.to_string())], "{kind:?}");
        }
    }
}

#[tokio::test]
async fn what_comes_after_the_greeting_answers_no_question() {
    for kind in KINDS {
        let peer = Peer::listen(kind).await;
        let (mut lookup, mut wire) = peer.lookup().await;
        wire.say("END\r\n").await;
        let got = get(&mut lookup, &["a"]).await;
        assert_out_of_step(&got, &format!("{kind:?}"));
        // Nor was it asked.
        drop(lookup);
        wire.hear("").await;
    }
}

#[tokio::test]
async fn what_comes_after_an_answer_answers_no_question() {
    for kind in KINDS {
        for stray in ["END\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n", "\r\n", "E"] {
            let peer = Peer::listen(kind).await;
            let (mut lookup, mut wire) = peer.lookup().await;
            let answer = async {
                wire.hear("get a last\r\n").await;
                wire.say(LAST).await;
            };
            let (got, ()) = join!(get(&mut lookup, &["a"]), answer);
            assert_eq!(got.unwrap(), []);
            wire.say(stray).await;
            let got = get(&mut lookup, &["a"]).await;
            assert_out_of_step(&got, &format!("{kind:?}, {stray:?}"));
            drop(lookup);
            wire.hear("").await;
        }
    }
}

/// In one piece the answer itself can't be believed; where the answer fills the buffer, the rest is noticed
/// before the next question, also in what TLS has decrypted already.
#[tokio::test]
async fn what_comes_with_an_answer_answers_no_question() {
    let around = "VALUE a 0 65490\r\n\r\n".len() + LAST.len();
    let value = "x".repeat(LOOKUP_BUFFER_BYTES - around);
    let full = format!("VALUE a 0 {}\r\n{value}\r\n{LAST}", value.len());
    assert_eq!(full.len(), LOOKUP_BUFFER_BYTES);
    let (most, rest) = full.split_at(60_000);
    let rest = format!("{rest}END\r\n");
    let twice = format!("{LAST}{LAST}");
    let cases = [&[&*twice][..], &[LAST, LAST], &[most, &rest]];
    for kind in KINDS {
        for (case, pieces) in cases.iter().enumerate() {
            let peer = Peer::listen(kind).await;
            let (mut lookup, mut wire) = peer.lookup().await;
            let answer = async {
                wire.hear("get a last\r\n").await;
                for piece in *pieces {
                    wire.say(piece).await;
                }
            };
            let (mut got, ()) = join!(get(&mut lookup, &["a"]), answer);
            if case > 0 && got.is_ok() {
                got = get(&mut lookup, &["b"]).await;
            }
            assert_out_of_step(&got, &format!("{kind:?}, case {case}"));
            drop(lookup);
            wire.hear("").await;
        }
    }
}

#[tokio::test]
async fn what_comes_between_two_commands_of_one_question_answers_neither() {
    let names: Vec<_> = (0..=KEYS_PER_GET_MAX).map(|n| n.to_string()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    for kind in KINDS {
        let peer = Peer::listen(kind).await;
        let (mut lookup, mut wire) = peer.lookup().await;
        let answer = async {
            assert_eq!(wire.line().await.split(' ').count(), KEYS_PER_GET_MAX + 2);
            wire.say(LAST).await;
            wire.say(LAST).await;
            // Another answer than the first: what is asked for last is asked for twice.
            wire.hear("get 100 last last\r\n").await;
        };
        let (got, ()) = join!(get(&mut lookup, &names), answer);
        assert_out_of_step(&got, &format!("{kind:?}"));
        drop(lookup);
        wire.hear("").await;
    }
}

/// Nothing that was asked together with what is lost is believed.
#[tokio::test]
async fn an_answer_that_is_lost_is_noticed_by_the_next() {
    let names: Vec<_> = (0..3 * KEYS_PER_GET_MAX).map(|n| n.to_string()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let twice = LAST.replace("END", "VALUE last 0 1\r\nx\r\nEND");
    let all = [LAST, &twice, LAST];
    for kind in KINDS {
        for lost in 0..3 {
            let peer = Peer::listen(kind).await;
            let (mut lookup, mut wire) = peer.lookup().await;
            let answer = async move {
                for (number, answer) in all.iter().enumerate() {
                    wire.line().await;
                    if number != lost {
                        wire.say(answer).await;
                    }
                }
            };
            let (got, ()) = join!(get(&mut lookup, &names), answer);
            match lost {
                // Nothing comes behind it.
                2 => assert!(got.is_err(), "{kind:?}: {got:?}"),
                _ => assert_out_of_step(&got, &format!("{kind:?}, {lost}")),
            }
        }
    }
}

/// Some hundred times as much as fits the sockets' buffers, in both directions.
#[tokio::test]
async fn a_long_question_and_its_answers_pass_each_other() {
    const VALUE: usize = 1000;
    let names: Vec<_> = (0..100 * KEYS_PER_GET_MAX)
        .map(|number| format!("{number:0>240}"))
        .collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    for kind in KINDS {
        let peer = Peer::listen(kind).await;
        let (mut lookup, mut wire) = peer.lookup().await;
        let answer = async {
            for _ in 0..100 {
                let line = wire.line().await;
                let mut answer = String::new();
                for key in line.trim_end().split(' ').skip(1) {
                    let value = match key {
                        "last" => "x".to_owned(),
                        _ => "v".repeat(VALUE),
                    };
                    answer += &format!("VALUE {key} 0 {}\r\n{value}\r\n", value.len());
                }
                wire.say(&(answer + "END\r\n")).await;
            }
        };
        let (got, ()) = join!(get(&mut lookup, &names), answer);
        assert_eq!(got.unwrap().len(), names.len(), "{kind:?}");
    }
}

#[tokio::test]
async fn an_end_between_two_questions_is_no_reply_out_of_step() {
    for kind in KINDS {
        let peer = Peer::listen(kind).await;
        let (mut lookup, wire) = peer.lookup().await;
        drop(wire);
        let got = get(&mut lookup, &["a"]).await;
        let ended = matches!(got, Err(MemcachedError::Closed | MemcachedError::Io(_)));
        assert!(ended, "{kind:?}: {got:?}");
    }
}

#[tokio::test]
async fn a_connection_that_writes_has_nothing_to_be_told_unasked() {
    for kind in KINDS {
        let peer = Peer::listen(kind).await;
        let node = peer.node();
        let (connection, mut wire) = join!(Writer::<u32>::dial(&node), peer.accept());
        let mut connection = connection.unwrap();
        wire.say("STORED\r\n").await;
        let progress = connection.progress(|_, _| unreachable!("nothing was written"));
        let progress = timeout(PATIENCE, progress).await.expect("an error");
        assert_out_of_step(&progress, &format!("{kind:?}"));
    }
}

/// A probe of the peer's node, often.
fn watch(peer: &Peer) -> JoinSet<()> {
    let mut task = JoinSet::new();
    let config = probe::Config {
        interval: Duration::from_millis(50),
        entry_bytes: 100..=200,
        writes: Arc::new(NoWrites),
    };
    task.spawn(probe::watch(peer.cluster.clone(), config));
    task
}

fn marker() -> String {
    marker::Config::default().key
}

async fn is_asked(wire: &mut Wire) {
    let marker = marker();
    wire.hear("touch sentinel 9\r\n").await;
    wire.hear(&format!("touch {marker} 9\r\n")).await;
    wire.hear(&format!("get sentinel {marker}\r\n")).await;
}

/// The sentinel of a probe that has not put one there.
const SENTINEL: &str = "VALUE sentinel 0 1\r\n0\r\n";

/// The answer of a node that has all that a probe asks for.
fn all_is_well(peer: &Peer) -> String {
    let value = Marker {
        is_whole: true,
        ..Marker::young(peer.cluster.topology().ring_hash(), 1)
    };
    let (marker, value) = (marker(), value.value());
    let bytes = value.len();
    format!("TOUCHED\r\nTOUCHED\r\n{SENTINEL}VALUE {marker} 0 {bytes}\r\n{value}\r\nEND\r\n")
}

/// The next connection asks for `stats`, and is hung up on, as twemproxy does.
async fn refuse_stats(peer: &Peer) {
    let mut wire = peer.accept().await;
    wire.hear("stats\r\n").await;
}

#[tokio::test]
async fn a_probe_takes_no_answer_for_two() {
    for kind in KINDS {
        let peer = Peer::probed(kind).await;
        let _watching = watch(&peer);
        let well = all_is_well(&peer);
        let mut wire = peer.accept().await;
        is_asked(&mut wire).await;
        // The second would say that all is lost.
        wire.say(&format!("{well}NOT_FOUND\r\nNOT_FOUND\r\nEND\r\n"))
            .await;
        wire.hear("").await;
        assert_eq!(peer.errors("protocol"), 1, "{kind:?}");
        let mut wire = peer.accept().await;
        for _ in 0..STATS_TRIES {
            is_asked(&mut wire).await;
            wire.say(&well).await;
            refuse_stats(&peer).await;
        }
        is_asked(&mut wire).await;
        wire.say(&well).await;
        // Not for `stats` any more.
        is_asked(&mut wire).await;
        assert_eq!(peer.node().losses(), 0, "{kind:?}");
        assert!(peer.node().is_whole());
        assert_eq!(peer.errors("protocol"), 1, "{kind:?}");
    }
}

#[tokio::test]
async fn a_probe_puts_no_sentinel_on_what_came_unasked() {
    let peer = Peer::probed(Kind::Tcp).await;
    let _watching = watch(&peer);
    let mut wire = peer.accept().await;
    is_asked(&mut wire).await;
    wire.say("NOT_FOUND\r\nNOT_FOUND\r\nEND\r\nSTORED\r\n")
        .await;
    wire.hear("").await;
    assert_eq!(peer.errors("protocol"), 1);
}

/// Says more until the other side hangs up, which it does before this many bytes.
async fn flood(wire: &mut Wire, bytes_max: usize) {
    let more = vec![b'x'; 64 * 1024];
    let mut sent = 0;
    while wire.0.write_all(&more).await.is_ok() {
        sent += more.len();
        assert!(sent < bytes_max, "it never hangs up");
    }
}

#[tokio::test]
async fn a_look_up_reads_no_answer_without_end() {
    let peer = Peer::listen(Kind::Tcp).await;
    let node = peer.node();
    let (reader, mut wire) = join!(Reader::dial(&node), peer.accept());
    let key = Key::new(b"a").unwrap();
    let asking = async {
        // It ends with the connection.
        let mut reader = reader.unwrap();
        reader.get(&[key], &[], |_, _| {}, |_, _, _| {}).await
    };
    let answering = async {
        wire.hear("get a\r\n").await;
        wire.say("VALUE a 0 1000000000\r\n").await;
        flood(&mut wire, 2 * LOOKUP_ANSWER_BYTES_MAX).await;
    };
    let (asked, ()) = join!(asking, answering);
    assert!(
        matches!(asked, Err(MemcachedError::OutOfStep(_))),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_probe_reads_no_answer_without_end() {
    // Nor a value.
    let peer = Peer::probed(Kind::Tcp).await;
    let _watching = watch(&peer);
    let mut wire = peer.accept().await;
    is_asked(&mut wire).await;
    wire.say("TOUCHED\r\nTOUCHED\r\nVALUE sentinel 0 1000000000\r\n")
        .await;
    flood(&mut wire, 64 << 20).await;
    assert_eq!(peer.errors("protocol"), 1);
    drop(wire);

    let line = "STAT a 1\r\n".to_owned();
    let value = "VALUE a 0 1000000\r\n".to_owned();
    for endless in [line.clone(), "STAT a".into(), value] {
        let peer = Peer::probed(Kind::Tcp).await;
        let _watching = watch(&peer);
        let mut wire = peer.accept().await;
        is_asked(&mut wire).await;
        wire.say(&all_is_well(&peer)).await;
        let mut stats = peer.accept().await;
        stats.hear("stats\r\n").await;
        // Until it hangs up.
        let mut sent = 0;
        while stats.0.write_all(endless.as_bytes()).await.is_ok() {
            sent += endless.len();
            stats.0.flush().await.unwrap_or_default();
        }
        // It goes on without.
        is_asked(&mut wire).await;
        assert!(sent > 0);
    }
    // One that ends in time is read, long as it is.
    let peer = Peer::probed(Kind::Tcp).await;
    let _watching = watch(&peer);
    let mut wire = peer.accept().await;
    is_asked(&mut wire).await;
    wire.say(&all_is_well(&peer)).await;
    let mut stats = peer.accept().await;
    for _ in 0..3 {
        stats.hear("stats\r\n").await;
        let answer = line.repeat((PROBE_ANSWER_BYTES_MAX - 100) / line.len());
        stats.say(&format!("{answer}END\r\n")).await;
        is_asked(&mut wire).await;
        wire.say(&all_is_well(&peer)).await;
    }
}

#[tokio::test]
async fn a_probe_keeps_the_marker() {
    let peer = Peer::probed(Kind::Tcp).await;
    let _watching = watch(&peer);
    let (marker, ring) = (marker(), peer.cluster.topology().ring_hash());
    let mut wire = peer.accept().await;
    is_asked(&mut wire).await;
    wire.say(&format!("TOUCHED\r\nNOT_FOUND\r\n{SENTINEL}END\r\n"))
        .await;
    wire.hear(&format!("add {marker} 0 9 33\r\n")).await;
    let young = wire.line().await;
    assert!(young.starts_with(&format!("{ring} ")), "{young}");
    wire.say("NOT_STORED\r\n").await;
    refuse_stats(&peer).await;
    // Of another edge with another ring, then something else altogether: both are replaced.
    let other = "0000000000000001 0000000000000002 0000000000000002";
    for value in [other, "hello"] {
        is_asked(&mut wire).await;
        let bytes = value.len();
        let found = format!("VALUE {marker} 0 {bytes}\r\n{value}\r\nEND\r\n");
        wire.say(&format!("TOUCHED\r\nTOUCHED\r\n{SENTINEL}{found}"))
            .await;
        wire.hear(&format!("set {marker} 0 9 33\r\n")).await;
        assert_ne!(wire.line().await, young, "a new nonce");
        wire.say("STORED\r\n").await;
        assert!(!peer.node().is_whole());
        refuse_stats(&peer).await;
    }
    assert_eq!(peer.cluster.other_rings_seen(), 1);
}

#[tokio::test]
async fn a_connection_to_another_server_than_the_probes_is_noticed() {
    let peer = Peer::probed(Kind::Tcp).await;
    let _watching = watch(&peer);
    let (well, node) = (all_is_well(&peer), peer.node());
    let mut wire = peer.accept().await;
    for _ in 0..STATS_TRIES {
        is_asked(&mut wire).await;
        wire.say(&well).await;
        refuse_stats(&peer).await;
    }
    let answering = async {
        let mut other = peer.accept().await;
        other.hear("get sentinel\r\n").await;
        other.say("END\r\n").await;
        other
    };
    let (writer, _other) = join!(Writer::<()>::dial(&node), answering);
    let writer = writer.unwrap();
    assert!(node.is_several_servers() && !node.is_whole());
    // Others are not to believe the probe's server either: it is not told who connects here.
    for _ in 0..2 {
        is_asked(&mut wire).await;
        wire.say(&well).await;
        wire.hear(&format!("set {} 0 9 33\r\n", marker())).await;
        wire.line().await;
        wire.say("STORED\r\n").await;
    }
    is_asked(&mut wire).await;
    assert!(node.several_servers_seen() >= 1);
    assert_eq!(node.losses(), 0);
    drop(writer);
    assert!(
        !node.is_several_servers(),
        "the others are where the probe is"
    );
}

#[tokio::test]
async fn a_loss_is_not_forgotten_when_the_reply_to_the_new_sentinel_is() {
    let peer = Peer::probed(Kind::Tcp).await;
    let _watching = watch(&peer);
    let (well, node) = (all_is_well(&peer), peer.node());
    let mut wire = peer.accept().await;
    is_asked(&mut wire).await;
    wire.say(&well).await;
    refuse_stats(&peer).await;
    is_asked(&mut wire).await;
    // It has the marker, but not the sentinel.
    let marker_alone = well.split_once("VALUE presenced:marker").unwrap().1;
    wire.say(&format!(
        "NOT_FOUND\r\nTOUCHED\r\nVALUE presenced:marker{marker_alone}"
    ))
    .await;
    wire.hear("set sentinel 0 9 1\r\n").await;
    drop(wire);
    let mut wire = peer.accept().await;
    is_asked(&mut wire).await;
    // It was stored before the connection ended.
    wire.say(&well.replace("VALUE sentinel 0 1\r\n0", "VALUE sentinel 0 1\r\n1"))
        .await;
    refuse_stats(&peer).await;
    is_asked(&mut wire).await;
    assert_eq!(node.losses(), 1);
}
