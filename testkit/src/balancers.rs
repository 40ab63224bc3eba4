//! Load balancers before the edge: HAProxy and nginx, which keep connections to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::edge_stream::{TlsEdge, is_tls};
use crate::port::Port;
use crate::proxies::program;
use crate::raw::{Raw, request};
use crate::temp::{TempFile, unique_path};
use crate::{PATIENCE, until};

/// A process before an edge; killed when dropped.
pub struct Balancer {
    process: Child,
    port: Port,
    /// If the edge speaks TLS, and the balancer passes it on.
    _tls: Option<TlsEdge>,
    folder: PathBuf,
    _config: TempFile,
}

impl Balancer {
    /// HAProxy in HTTP mode; only its time-outs are set, which it asks for.
    pub async fn haproxy(edge: SocketAddr) -> Balancer {
        let config = |port: &Port, _: &str| {
            format!(
                "defaults\n  mode http\n  timeout connect 5s\n  timeout client 50s\n  timeout server 50s\n\
                 listen edge\n  bind 127.0.0.1:{}\n  server edge {edge}\n",
                port.number()
            )
        };
        Balancer::start("haproxy", config, &["-db", "-f"]).await
    }

    /// HAProxy in TCP mode; `options` are those of its server, which it checks by HTTP. Clients speak TLS through it if the
    /// edge does.
    pub async fn haproxy_tcp(edge: SocketAddr, options: &str) -> Balancer {
        let config = |port: &Port, _: &str| {
            format!(
                "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 50s\n  timeout server 50s\n\
                 listen edge\n  bind 127.0.0.1:{}\n  option httpchk\n  \
                 http-check send meth GET uri /no/such/path ver HTTP/1.1 hdr Host edge\n  http-check expect status 404\n  server edge {edge} {options}\n",
                port.number()
            )
        };
        Balancer::start_before("haproxy", config, &["-db", "-f"], is_tls(edge)).await
    }

    /// HAProxy in HTTP mode, which adds `X-Forwarded-For`.
    pub async fn haproxy_forwarding(edge: SocketAddr) -> Balancer {
        let config = |port: &Port, _: &str| {
            format!(
                "defaults\n  mode http\n  timeout connect 5s\n  timeout client 50s\n  timeout server 50s\n\
                 listen edge\n  bind 127.0.0.1:{}\n  option forwardfor\n  server edge {edge}\n",
                port.number()
            )
        };
        Balancer::start("haproxy", config, &["-db", "-f"]).await
    }

    /// HAProxy as [`Balancer::haproxy`], set so that heads with the longest token pass.
    pub async fn haproxy_for_long_heads(edge: SocketAddr) -> Balancer {
        let config = |port: &Port, _: &str| {
            format!(
                "global\n  tune.bufsize 32768\n\
                 defaults\n  mode http\n  timeout connect 5s\n  timeout client 50s\n  timeout server 50s\n\
                 listen edge\n  bind 127.0.0.1:{}\n  server edge {edge}\n",
                port.number()
            )
        };
        Balancer::start("haproxy", config, &["-db", "-f"]).await
    }

    /// nginx with a pool of connections, and what its documentation says for WebSocket.
    pub async fn nginx(edge: SocketAddr) -> Balancer {
        Balancer::nginx_with(edge, "", "").await
    }

    /// The same, set so that heads with the longest token pass.
    pub async fn nginx_for_long_heads(edge: SocketAddr) -> Balancer {
        let buffers = "large_client_header_buffers 4 24k;\n";
        Balancer::nginx_with(edge, buffers, "").await
    }

    /// The same, which adds `X-Forwarded-For`.
    pub async fn nginx_forwarding(edge: SocketAddr) -> Balancer {
        let add = "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n";
        Balancer::nginx_with(edge, "", add).await
    }

    /// `for_all` is for all servers, and `more` for the location that leads to the edge.
    async fn nginx_with(edge: SocketAddr, for_all: &str, more: &str) -> Balancer {
        let config = |port: &Port, folder: &str| {
            let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
            let temporary = temporary.map(|what| format!("  {what}_temp_path {folder}/{what};\n"));
            format!(
                "daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/error;\n\
                 events {{}}\nhttp {{\n  access_log off;\n{}{for_all}\
                 map $http_upgrade $upgrade_or_not {{ default upgrade; '' ''; }}\n\
                 upstream edge {{ server {edge}; keepalive 64; }}\n\
                 server {{\n  listen 127.0.0.1:{};\n  location / {{\n\
                 proxy_pass http://edge;\n  proxy_http_version 1.1;\n\
                 proxy_set_header Upgrade $http_upgrade;\n\
                 proxy_set_header Connection $upgrade_or_not;\n{more}  }}\n}}\n}}\n",
                temporary.concat(),
                port.number()
            )
        };
        Balancer::start("nginx", config, &["-c"]).await
    }

    /// `flags` end with that of the configuration.
    async fn start(
        package: &str,
        config: impl Fn(&Port, &str) -> String,
        flags: &[&str],
    ) -> Balancer {
        Balancer::start_before(package, config, flags, false).await
    }

    /// The same of one whose clients may speak TLS, with the edge behind it.
    async fn start_before(
        package: &str,
        config: impl Fn(&Port, &str) -> String,
        flags: &[&str],
        speaks_tls: bool,
    ) -> Balancer {
        for _ in 0..20 {
            let (port, folder) = (Port::free(), unique_path());
            std::fs::create_dir(&folder).unwrap();
            let config = TempFile::new(&config(&port, folder.to_str().unwrap()));
            let mut command = Command::new(program(package));
            command.args(flags).arg(config.path());
            command.stdin(Stdio::null());
            command.stdout(Stdio::null()).stderr(Stdio::null());
            let process = command.spawn().unwrap_or_else(|error| {
                panic!("these tests need {package}: install the package of that name ({error})")
            });
            let at = (Ipv4Addr::LOCALHOST, port.number()).into();
            let mut balancer = Balancer {
                process,
                port,
                _tls: speaks_tls.then(|| TlsEdge::at(at)),
                folder,
                _config: config,
            };
            if balancer.leads_to_edge().await {
                return balancer;
            }
        }
        panic!("the balancer does not start");
    }

    /// Returns when the edge answers through it; false if it has ended: a port was taken meanwhile.
    async fn leads_to_edge(&mut self) -> bool {
        let mut has_ended = false;
        let asked = request("GET", "/no/such/path", &[], "");
        until("the balancer leads to the edge", PATIENCE, async || {
            has_ended = self.process.try_wait().unwrap().is_some();
            let Some(mut raw) = Raw::try_connect(self.address()).await else {
                return has_ended;
            };
            raw.try_send(&asked).await;
            let answer = raw.try_response().await;
            has_ended || answer.is_some_and(|answer| answer.status == 404)
        })
        .await;
        !has_ended
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.number()).into()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
