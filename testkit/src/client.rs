//! A WebSocket client on tokio-tungstenite: an independent reading of RFC 6455.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::PATIENCE;
use crate::edge_stream::EdgeStream;
use crate::tokens::token;

/// A session whose socket is read all the time, so that pings are answered. Dropping it ends the
/// connection without a close frame.
pub struct Client {
    orders: UnboundedSender<Message>,
    texts: UnboundedReceiver<Value>,
    task: JoinHandle<End>,
    pulls: u64,
}

/// How a session ended.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// The server's close code, if there was a close frame.
    pub code: Option<u16>,
    /// When the close frame, or the end of the connection, came.
    pub at: Instant,
}

impl Client {
    /// A session of `user`.
    pub async fn connect(edge: SocketAddr, user: &str) -> Client {
        let bearer = format!("Bearer {}", token(user));
        let headers = [("authorization", bearer.as_str())];
        let connected = Client::try_connect(edge, "/ws", &headers).await;
        connected.expect("the handshake succeeds").0
    }

    /// A handshake with headers of the caller's.
    ///
    /// # Errors
    ///
    /// What the WebSocket library says to a handshake that was refused.
    pub async fn try_connect(
        edge: SocketAddr,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<(Client, Response), Error> {
        let mut request = format!("ws://{edge}{path}").into_client_request().unwrap();
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).unwrap();
            request.headers_mut().append(*name, value);
        }
        let stream = EdgeStream::connect(edge).await.unwrap();
        let connecting = timeout(PATIENCE, client_async(request, stream)).await;
        let (socket, response) = connecting.expect("the handshake is answered")?;
        let (orders, to_send) = unbounded_channel();
        let (received, texts) = unbounded_channel();
        let client = Client {
            orders,
            texts,
            task: tokio::spawn(run(socket, to_send, received)),
            pulls: 0,
        };
        Ok((client, response))
    }

    /// Sends a text message.
    pub fn say(&self, text: impl Into<String>) {
        let _ = self.orders.send(Message::text(text.into()));
    }

    /// Sends a pong that no ping has asked for: a sign of life.
    pub fn unasked_pong(&self) {
        let _ = self.orders.send(Message::Pong("".into()));
    }

    /// The next text message, which is JSON.
    pub async fn hear(&mut self) -> Value {
        let heard = timeout(PATIENCE, self.texts.recv()).await;
        heard.expect("an answer").expect("the session is open")
    }

    /// Asks who of `users` is online; the answer without its number.
    pub async fn pull(&mut self, users: &[&str]) -> Value {
        self.pulls += 1;
        self.say(json!({"pull": self.pulls, "users": users}).to_string());
        let mut answer = self.hear().await;
        let number = answer.as_object_mut().unwrap().remove("pull");
        assert_eq!(number, Some(self.pulls.into()), "{answer}");
        answer
    }

    /// Whether the connection is up.
    pub fn is_open(&self) -> bool {
        !self.task.is_finished()
    }

    /// Leaves with a close frame and waits for the server's end of it.
    pub async fn close(self) -> End {
        let normal = CloseFrame {
            code: 1000.into(),
            reason: "".into(),
        };
        let _ = self.orders.send(Message::Close(Some(normal)));
        self.closed().await
    }

    /// Waits until the server ends the session.
    pub async fn closed(self) -> End {
        let ended = timeout(PATIENCE, self.task).await;
        ended.expect("the session ends").unwrap()
    }
}

async fn run(
    mut socket: WebSocketStream<EdgeStream>,
    mut orders: UnboundedReceiver<Message>,
    texts: UnboundedSender<Value>,
) -> End {
    let mut end = None;
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let text = serde_json::from_str(&text).expect("messages are JSON");
                    let _ = texts.send(text);
                }
                Some(Ok(Message::Close(frame))) => {
                    let code = frame.map(|frame| frame.code.into());
                    end = Some(End { code, at: Instant::now() });
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break,
            },
            order = orders.recv() => match order {
                Some(message) => {
                    // The end of the session shows when it is read.
                    let _ = socket.send(message).await;
                }
                // The test has let go of the client.
                None => break,
            },
        }
    }
    end.unwrap_or(End {
        code: None,
        at: Instant::now(),
    })
}
