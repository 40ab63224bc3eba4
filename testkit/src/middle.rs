//! Real programs that stand between an edge and its memcached: HAProxy and twemproxy.

use std::process::{Child, Command, Stdio};

use tokio::net::TcpStream;

use crate::memcached::Memcached;
use crate::port::Port;
use crate::temp::TempFile;
use crate::{PATIENCE, until};

/// A process, killed when dropped.
pub struct Middle {
    process: Child,
    port: Port,
    _settings: TempFile,
    /// twemproxy tells its figures on a port of its own.
    _figures: Port,
}

impl Middle {
    /// HAProxy in TCP mode: each connection goes to any of `nodes`.
    pub async fn haproxy(nodes: &[&Memcached]) -> Middle {
        let servers: String = (0..)
            .zip(nodes)
            .map(|(number, node)| format!("  server s{number} {}\n", node.node()))
            .collect();
        let settings = |port: u16| {
            format!(
                "defaults\n  mode tcp\n  maxconn 1000\n  timeout connect 1s\n  timeout client 1h\n  \
                 timeout server 1h\nlisten memcached\n  bind 127.0.0.1:{port}\n  \
                 balance random\n{servers}"
            )
        };
        Middle::start("haproxy", "haproxy", settings, |_| {
            vec!["-db".into(), "-f".into()]
        })
        .await
    }

    /// twemproxy, which speaks memcached's protocol, before `node`.
    pub async fn twemproxy(node: &Memcached) -> Middle {
        let settings = |port: u16| {
            format!(
                "presence:\n  listen: 127.0.0.1:{port}\n  hash: fnv1a_64\n  distribution: ketama\n  \
                 timeout: 1000\n  auto_eject_hosts: false\n  servers:\n  - {}:1\n",
                node.node()
            )
        };
        Middle::start("nutcracker", "nutcracker", settings, |figures| {
            let port = figures.number().to_string();
            ["-a", "127.0.0.1", "-s", &port, "-c"]
                .map(String::from)
                .to_vec()
        })
        .await
    }

    /// The file with the settings is the last argument.
    async fn start(
        program: &str,
        package: &str,
        settings: impl Fn(u16) -> String,
        arguments: impl Fn(&Port) -> Vec<String>,
    ) -> Middle {
        for _ in 0..20 {
            let [port, figures] = [Port::free(), Port::free()];
            let settings = TempFile::new(&settings(port.number()));
            let process = Command::new(program)
                .args(arguments(&figures))
                .arg(settings.path())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            let process = process.unwrap_or_else(|error| {
                panic!("these tests need {program}: install the package {package} ({error})")
            });
            let mut middle = Middle {
                process,
                port,
                _settings: settings,
                _figures: figures,
            };
            if middle.listens(program).await {
                return middle;
            }
        }
        panic!("{program} does not start");
    }

    /// Returns when it listens; false if it has ended: a port was taken meanwhile.
    async fn listens(&mut self, program: &str) -> bool {
        let mut has_ended = false;
        until(program, PATIENCE, async || {
            has_ended = self.process.try_wait().unwrap().is_some();
            has_ended || TcpStream::connect(self.node()).await.is_ok()
        })
        .await;
        !has_ended
    }

    /// For `--memcached`.
    pub fn node(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }
}

impl Drop for Middle {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
