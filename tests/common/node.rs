//! A memcached node by hand, for what a real one can't be made to do at a moment of the test's.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::PATIENCE;

/// Answers `version`, `set` and the probe as memcached does, and each `get` when the test does.
pub struct ScriptedNode {
    node: String,
    gets: UnboundedReceiver<Get>,
    /// Ends with the node, its connections too.
    _task: JoinSet<()>,
}

/// A `get` without an answer.
pub struct Get {
    /// What it asks for.
    pub keys: Vec<String>,
    answer: oneshot::Sender<String>,
}

impl ScriptedNode {
    pub async fn start() -> ScriptedNode {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = listener.local_addr().unwrap().to_string();
        let (asked, gets) = unbounded_channel();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, asked.clone()));
            }
        });
        ScriptedNode {
            node,
            gets,
            _task: task,
        }
    }

    /// For `--memcached`.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The next `get`.
    pub async fn get(&mut self) -> Get {
        let asked = timeout(PATIENCE, self.gets.recv()).await;
        asked.expect("a get").expect("the node lives")
    }
}

impl Get {
    /// That none of the keys is there.
    pub fn answer_nothing(self) {
        // Whoever asked may have waited too long.
        let _ = self.answer.send("END\r\n".into());
    }
}

async fn serve(stream: TcpStream, asked: UnboundedSender<Get>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    // An error is an end too.
    while stream.read_line(&mut line).await.unwrap_or(0) > 0 {
        let words: Vec<_> = line.split_whitespace().collect();
        let answer = match words[..] {
            ["version"] => "VERSION 1.6.0\r\n".into(),
            // It still has what the probe left with it.
            ["touch", ..] => "TOUCHED\r\n".into(),
            ["stats"] => "END\r\n".into(),
            ["set", _, _, _, bytes] => {
                let mut value = vec![0; bytes.parse::<usize>().unwrap() + 2];
                if stream.read_exact(&mut value).await.is_err() {
                    return;
                }
                "STORED\r\n".into()
            }
            ["get", ref keys @ ..] => {
                let keys = keys.iter().map(ToString::to_string).collect();
                let (answer, answered) = oneshot::channel();
                let _ = asked.send(Get { keys, answer });
                // A question that the test lets go of is never answered.
                let Ok(answer) = answered.await else { return };
                answer
            }
            _ => panic!("not expected: {line:?}"),
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        line.clear();
    }
}
