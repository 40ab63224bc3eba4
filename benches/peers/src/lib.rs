//! Code shared by the peers of presenced: flags, TLS, checking a token, and writing the users that were
//! heard from to memcached.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fs, io, mem, process};

use clap::Args;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use presenced_jwt::{Algorithm, DecodingKey, Validation, decode};
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls_graviola::Ticketer;
use serde::Deserialize;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, interval, interval_at};
use tokio_rustls::TlsAcceptor;

/// The defaults of presenced.
const FLUSH_INTERVAL: Duration = Duration::from_secs(5);
const TTL_S: u32 = 60;
/// The listen backlog of presenced.
const BACKLOG: i32 = 4096;
/// Commands in flight, bounded so that rendering a flush does not hold up the sessions.
const WINDOW: usize = 1024;

/// Flags of all peers, named like those of presenced.
#[derive(Clone, Copy, Debug, Args)]
pub struct PeerFlags {
    /// Address for clients
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: SocketAddr,
    /// Interval of the pings; a session that has not answered when the next is due is closed
    #[arg(long, default_value = "25s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub ping_interval: Duration,
}

impl PeerFlags {
    /// The non-blocking listener. Its connections inherit TCP_NODELAY.
    ///
    /// # Errors
    ///
    /// If the address can't be bound.
    pub fn listener(&self) -> io::Result<std::net::TcpListener> {
        let socket = Socket::new(Domain::for_address(self.listen), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&self.listen.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    }

    /// Ticks when a session is to be pinged. The first is at a random time within the interval, so
    /// that the pings of sessions that connect in a burst are evenly spread.
    pub fn pings(&self) -> Interval {
        let first = Instant::now() + self.ping_interval.mul_f64(fastrand::f64());
        interval_at(first, self.ping_interval)
    }
}

/// Flags of TLS.
#[derive(Clone, Debug, Args)]
pub struct TlsFlags {
    /// File with the certificate and its chain (PEM); with it, clients speak TLS
    #[arg(long, requires = "tls_key", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// File with the certificate's private key (PEM)
    #[arg(long, requires = "tls_cert", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
}

impl TlsFlags {
    /// What does the handshakes, with the cryptography and the settings of presenced; `None` for plain connections.
    ///
    /// # Errors
    ///
    /// If a file can't be read, or the two don't fit each other.
    pub fn acceptor(&self) -> io::Result<Option<TlsAcceptor>> {
        let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) else {
            return Ok(None);
        };
        let chain: Result<Vec<_>, pem::Error> =
            CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
        let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
        let provider = Arc::new(rustls_graviola::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(chain.map_err(io::Error::other)?, key)
            .map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Ticketer::new().map_err(io::Error::other)?;
        config.send_tls13_tickets = 1;
        Ok(Some(Arc::new(config).into()))
    }
}

/// Flags of a [`Presence`].
#[derive(Clone, Debug, Args)]
pub struct PresenceFlags {
    /// File with the HS256 secret of the tokens
    #[arg(long, value_name = "FILE")]
    pub jwt_secret_file: PathBuf,
    /// The memcached node
    #[arg(long, value_name = "ADDR:PORT")]
    pub memcached: SocketAddr,
}

/// The users that were heard from, and the connection on which they are written.
#[derive(Debug)]
pub struct Presence {
    key: DecodingKey,
    validation: Validation,
    sockets: AtomicU64,
    connected: mpsc::UnboundedSender<Session>,
    heard: Arc<Mutex<HashMap<Arc<str>, Session>>>,
}

/// The entry of a user.
#[derive(Clone, Debug)]
pub struct Session {
    user: Arc<str>,
    connected_at_ms: u64,
    socket: u64,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
}

impl Presence {
    /// Connects to memcached and starts the flush.
    ///
    /// # Errors
    ///
    /// If the secret's file can't be read, or memcached does not accept the connection.
    pub async fn start(flags: &PresenceFlags) -> io::Result<Arc<Presence>> {
        let secret = fs::read(&flags.jwt_secret_file)?;
        let socket = TcpStream::connect(flags.memcached).await?;
        socket.set_nodelay(true)?;
        let (connected, to_write) = mpsc::unbounded_channel();
        let heard = Arc::default();
        tokio::spawn(write(socket, to_write, Arc::clone(&heard)));
        Ok(Arc::new(Presence {
            key: DecodingKey::from_secret(secret.strip_suffix(b"\n").unwrap_or(&secret)),
            validation: Validation::new(Algorithm::HS256),
            sockets: AtomicU64::new(0),
            connected,
            heard,
        }))
    }

    /// The session of the token's user, whose entry is written at once. `None` if the token is
    /// missing or invalid.
    pub fn enter(&self, headers: &HeaderMap) -> Option<Session> {
        let token = headers.get(AUTHORIZATION)?.to_str().ok()?;
        self.enter_with(token.strip_prefix("Bearer ")?)
    }

    /// The same of a token that came in another way.
    pub fn enter_with(&self, token: &str) -> Option<Session> {
        let token = decode::<Claims>(token, &self.key, &self.validation).ok()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        let session = Session {
            user: token.claims.sub.into(),
            connected_at_ms: now.as_millis() as u64,
            socket: self.sockets.fetch_add(1, Ordering::Relaxed),
        };
        self.connected.send(session.clone()).ok()?;
        Some(session)
    }

    /// Marks `session` to be written by the next flush.
    pub fn hear(&self, session: &Session) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.insert(Arc::clone(&session.user), session.clone());
    }
}

async fn write(
    mut socket: TcpStream,
    mut connected: mpsc::UnboundedReceiver<Session>,
    heard: Arc<Mutex<HashMap<Arc<str>, Session>>>,
) {
    let mut flush = interval(FLUSH_INTERVAL);
    let mut sessions = Vec::new();
    loop {
        tokio::select! {
            _ = connected.recv_many(&mut sessions, WINDOW) => {}
            _ = flush.tick() => {
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                sessions.extend(mem::take(&mut *heard).into_values());
            }
        }
        for window in sessions.chunks(WINDOW) {
            if let Err(error) = write_window(&mut socket, window).await {
                eprintln!("memcached: {error}");
                process::exit(1);
            }
        }
        sessions.clear();
    }
}

/// Reads while it writes, as two ends that only write would wait for each other forever.
async fn write_window(socket: &mut TcpStream, sessions: &[Session]) -> io::Result<()> {
    let commands: String = sessions.iter().map(Session::command).collect();
    let mut replies = vec![0; b"STORED\r\n".len() * sessions.len()];
    let (mut reader, mut writer) = socket.split();
    tokio::try_join!(
        writer.write_all(commands.as_bytes()),
        reader.read_exact(&mut replies)
    )?;
    if replies.chunks(8).any(|reply| reply != b"STORED\r\n") {
        return Err(io::Error::other(
            String::from_utf8_lossy(&replies).into_owned(),
        ));
    }
    Ok(())
}

impl Session {
    fn command(&self) -> String {
        let Session {
            user,
            connected_at_ms,
            socket,
        } = self;
        let value = format!(
            r#"{{"serverId":"peer","connectedAt":{connected_at_ms},"socketId":"{socket}"}}"#
        );
        format!(
            "set user:{user}:online 0 {TTL_S} {}\r\n{value}\r\n",
            value.len()
        )
    }
}
