//! Proxies before memcached that are not ours: twemproxy and HAProxy.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};

use crate::memcached::Memcached;
use crate::port::Port;
use crate::temp::TempFile;
use crate::{PATIENCE, until};

/// A process before a memcached; killed when dropped.
pub struct ProxyProcess {
    process: Child,
    port: Port,
    /// The socket where HAProxy takes orders.
    orders: Option<TempFile>,
    _files: Files,
}

struct Files {
    config: TempFile,
    process_id: TempFile,
}

impl ProxyProcess {
    /// twemproxy before one node. It has its own idea of memcached: `stats`, meta commands, `gat`,
    /// `verbosity` and `flush_all` end the connection.
    pub async fn twemproxy(memcached: &Memcached) -> ProxyProcess {
        let server = memcached.node();
        let config = |port: &Port| {
            format!(
                "pool:\n  listen: 127.0.0.1:{}\n  hash: fnv1a_64\n  distribution: ketama\n  \
                 timeout: 1000\n  preconnect: true\n  auto_eject_hosts: false\n  \
                 server_retry_timeout: 100\n  servers:\n  - {server}:1\n",
                port.number()
            )
        };
        ProxyProcess::start("nutcracker", config, |command, files| {
            // Its statistics have a port of their own.
            let statistics = Port::free().number().to_string();
            command.args(["-a", "127.0.0.1", "-s", &statistics, "-o", "/dev/null"]);
            command.arg("-c").arg(files.config.path());
            command.arg("-p").arg(files.process_id.path());
        })
        .await
    }

    /// HAProxy in TCP mode before `memcached`, with `backup` for when that is away. Whoever is connected to
    /// the backup is moved back when the other is there again.
    pub async fn haproxy(memcached: &Memcached, backup: Option<&Memcached>) -> ProxyProcess {
        let first = memcached.node();
        let backup =
            backup.map(|backup| format!("  server backup {} check backup\n", backup.node()));
        let orders = TempFile::new("");
        let at = orders.path().display();
        let config = |port: &Port| {
            format!(
                "global\n  stats socket {at} level admin\n\
                 defaults\n  mode tcp\n  timeout connect 1s\n  timeout client 1h\n  timeout server 1h\n\
                 listen memcached\n  bind 127.0.0.1:{}\n  \
                 default-server inter 100ms fall 2 rise 2 on-marked-down shutdown-sessions\n  \
                 server first {first} check on-marked-up shutdown-backup-sessions\n{}",
                port.number(),
                backup.as_deref().unwrap_or_default()
            )
        };
        let mut proxy = ProxyProcess::start("haproxy", config, |command, files| {
            command.arg("-db").arg("-f").arg(files.config.path());
        })
        .await;
        proxy.orders = Some(orders);
        proxy
    }

    async fn start(
        package: &str,
        config: impl Fn(&Port) -> String,
        add_flags: impl Fn(&mut Command, &Files),
    ) -> ProxyProcess {
        for _ in 0..20 {
            let port = Port::free();
            let files = Files {
                config: TempFile::new(&config(&port)),
                process_id: TempFile::new(""),
            };
            let mut command = Command::new(program(package));
            add_flags(&mut command, &files);
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let process = command.spawn().unwrap_or_else(|error| {
                panic!("these tests need {package}: install the package of that name ({error})")
            });
            let mut proxy = ProxyProcess {
                process,
                port,
                orders: None,
                _files: files,
            };
            if proxy.leads_to_memcached().await {
                return proxy;
            }
        }
        panic!("the proxy does not start");
    }

    /// Returns when memcached answers through it; false if it has ended: a port was taken meanwhile.
    async fn leads_to_memcached(&mut self) -> bool {
        let mut has_ended = false;
        until("the proxy leads to memcached", PATIENCE, async || {
            has_ended = self.process.try_wait().unwrap().is_some();
            has_ended || is_answered(self.address()).await.unwrap_or(false)
        })
        .await;
        !has_ended
    }

    /// Whether HAProxy is to use the first server, which has no part in this.
    pub async fn use_first(&self, is_used: bool) {
        let state = if is_used { "ready" } else { "maint" };
        let orders = self.orders.as_ref().expect("it is HAProxy");
        let mut stream = UnixStream::connect(orders.path()).await.unwrap();
        let order = format!("set server memcached/first state {state}\n");
        stream.write_all(order.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.trim(), "");
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.number()).into()
    }

    /// For `--memcached`.
    pub fn node(&self) -> String {
        self.address().to_string()
    }
}

impl Drop for ProxyProcess {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where Debian has servers is not in every user's `PATH`.
pub fn program(name: &str) -> PathBuf {
    let path = Path::new("/usr/sbin").join(name);
    if path.exists() { path } else { name.into() }
}

async fn is_answered(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    stream.write_all(b"version\r\n").await?;
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    Ok(line.starts_with("VERSION"))
}
