//! A memcached node by hand, for what a real one can't be made to do at a moment of the test's.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use presenced_memcached::marker::{self, Marker};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::PATIENCE;
use crate::temp::TempFile;

/// Answers `version`, `set` and the probe as memcached does, and each look-up when the test does. The marker
/// that the probe leaves is whole at once.
///
/// On a Unix socket: what is written there can be read at once, so a test knows what comes first.
pub struct ScriptedNode {
    socket: TempFile,
    gets: UnboundedReceiver<Get>,
    stats: Arc<Stats>,
    /// Ends with the node, its connections too.
    _task: JoinSet<()>,
}

/// How it answers `stats`.
#[derive(Debug, Default)]
struct Stats {
    are_endless: AtomicBool,
    asked: AtomicU64,
}

/// A `get` without an answer.
pub struct Get {
    /// What it asks for, but for the sentinel and the marker.
    pub keys: Vec<String>,
    /// How an answer ends that can be believed.
    pub end: String,
    /// The connection it came on.
    connection: UnboundedSender<Say>,
    answered: oneshot::Sender<()>,
}

/// A connection on which a `get` came, and was answered.
pub struct Answered(UnboundedSender<Say>);

/// What a connection is to say, and who is told when it has.
type Say = (String, oneshot::Sender<()>);

impl ScriptedNode {
    pub async fn start() -> ScriptedNode {
        let socket = TempFile::new("");
        std::fs::remove_file(socket.path()).unwrap();
        let listener = UnixListener::bind(socket.path()).unwrap();
        let (asked, gets) = unbounded_channel();
        let marker = Arc::<Mutex<Option<Marker>>>::default();
        let stats = Arc::<Stats>::default();
        let answered = stats.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (asked, marker, stats) = (asked.clone(), marker.clone(), answered.clone());
                connections.spawn(serve(stream, asked, marker, stats));
            }
        });
        ScriptedNode {
            socket,
            gets,
            stats,
            _task: task,
        }
    }

    /// For `--memcached`.
    pub fn node(&self) -> String {
        format!("unix:{}", self.socket.path().display())
    }

    /// From now on the answer to `stats` never ends.
    pub fn never_end_stats(&self) {
        self.stats.are_endless.store(true, Ordering::Relaxed);
    }

    /// How often it was asked for `stats`.
    pub fn stats_asked(&self) -> u64 {
        self.stats.asked.load(Ordering::Relaxed)
    }

    /// The next `get`.
    pub async fn get(&mut self) -> Get {
        let asked = timeout(PATIENCE, self.gets.recv()).await;
        asked.expect("a get").expect("the node lives")
    }
}

impl Get {
    /// That none of the keys is there.
    pub async fn answer_nothing(self) -> Answered {
        let end = self.end.clone();
        self.answer(&end).await
    }

    /// All that memcached would say.
    pub async fn answer(self, text: &str) -> Answered {
        let answered = Answered(self.connection);
        answered.say(text).await;
        let _ = self.answered.send(());
        answered
    }
}

impl Answered {
    /// Says more, unasked; returns when it is on its way.
    pub async fn say(&self, text: &str) {
        let (said, is_said) = oneshot::channel();
        // Whoever asked may have waited too long, and be gone.
        if self.0.send((text.into(), said)).is_ok() {
            let _ = is_said.await;
        }
    }
}

/// How the keys of sentinels begin.
const SENTINEL: &str = "presenced:sentinel:";

async fn serve(
    stream: UnixStream,
    asked: UnboundedSender<Get>,
    marker: Arc<Mutex<Option<Marker>>>,
    stats: Arc<Stats>,
) {
    let its_key = marker::Config::default().key;
    let (reader, writer) = stream.into_split();
    let (connection, to_say) = unbounded_channel();
    // The task ends with the connection.
    let mut writing = JoinSet::new();
    writing.spawn(write(writer, to_say));
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    // An error is an end too.
    while reader.read_line(&mut line).await.unwrap_or(0) > 0 {
        if line.starts_with("stats") {
            stats.asked.fetch_add(1, Ordering::Relaxed);
            if stats.are_endless.load(Ordering::Relaxed) {
                return never_end(&connection).await;
            }
        }
        let words: Vec<_> = line.split_whitespace().collect();
        let answer = match words[..] {
            ["version"] => "VERSION 1.6.0\r\n",
            // It still has what the probe left with it.
            ["touch", ..] => "TOUCHED\r\n",
            ["stats"] => "END\r\n",
            ["get", key] if key.starts_with(SENTINEL) => {
                &format!("VALUE {key} 0 1\r\n0\r\nEND\r\n")
            }
            ["get", sentinel, key] if sentinel.starts_with(SENTINEL) => {
                &format!("VALUE {sentinel} 0 1\r\n0\r\n{}", end(&marker, key))
            }
            ["get", key] if key == its_key => &end(&marker, key),
            ["set" | "add", key, _, _, bytes] => {
                let mut value = vec![0; bytes.parse::<usize>().unwrap() + 2];
                if reader.read_exact(&mut value).await.is_err() {
                    return;
                }
                if key == its_key {
                    let new = Marker::parse(value.trim_ascii_end()).unwrap();
                    *marker.lock().unwrap() = Some(Marker {
                        is_whole: true,
                        ..new
                    });
                }
                "STORED\r\n"
            }
            ["get", ref keys @ .., sentinel, last] => {
                assert_eq!(last, its_key, "each look-up asks for the marker last");
                assert!(sentinel.starts_with("presenced:sentinel:"), "{sentinel}");
                let (answered, is_answered) = oneshot::channel();
                let _ = asked.send(Get {
                    keys: keys.iter().map(ToString::to_string).collect(),
                    end: format!("VALUE {sentinel} 0 1\r\n0\r\n{}", end(&marker, last)),
                    connection: connection.clone(),
                    answered,
                });
                // A question that the test lets go of is never answered.
                if is_answered.await.is_err() {
                    return;
                }
                ""
            }
            _ => panic!("not expected: {line:?}"),
        };
        let _ = connection.send((answer.into(), oneshot::channel().0));
        line.clear();
    }
}

/// Says statistics until the other side hangs up.
async fn never_end(connection: &UnboundedSender<Say>) {
    let lines = "STAT a 1\r\n".repeat(1000);
    loop {
        let (said, is_said) = oneshot::channel();
        if connection.send((lines.clone(), said)).is_err() || is_said.await.is_err() {
            return;
        }
    }
}

/// The marker, if there is one, and the end.
fn end(marker: &Mutex<Option<Marker>>, key: &str) -> String {
    let value = marker.lock().unwrap().map(|marker| marker.value());
    let found = value.map(|value| format!("VALUE {key} 0 {}\r\n{value}\r\n", value.len()));
    found.unwrap_or_default() + "END\r\n"
}

async fn write(mut writer: OwnedWriteHalf, mut to_say: UnboundedReceiver<Say>) {
    while let Some((text, said)) = to_say.recv().await {
        if writer.write_all(text.as_bytes()).await.is_err() {
            return;
        }
        let _ = said.send(());
    }
}
