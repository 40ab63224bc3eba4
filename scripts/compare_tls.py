#!/usr/bin/env python3
"""Measures what TLS costs a server beyond plain connections: memory, CPU time of pings, handshakes.

    scripts/compare_tls.py [--sessions 18000] [--duration 10s] [--rounds 3] [--burst 5000]
                           [--servers presenced,nginx,…] [--json FILE]

The servers take turns on the first core, with presenced-load and memcached on the last, so that other work on this machine
affects all alike. `presenced-tls` has presenced's own TLS, `nginx` ends TLS in front of a plain presenced (both count), and
`tungstenite-tls` is the peer with tokio-rustls. In each round a server is started anew for each of these runs:

    pings         all sessions, a ping every second: memory, CPU time of a ping and its pong
    burst         sessions that sleep, then --burst more at once, which are closed: the memory that these leave behind
    full          all sessions, which then sleep: CPU time of a handshake
    resumed       the same with TLS sessions that are resumed with tickets
    post-quantum  the same in full with X25519MLKEM768 instead of X25519

In runs of handshakes the pings are so rare that they don't count. A descriptor is needed for each session of the burst as well, so that run has fewer others where the limit of open files
is low. What the burst leaves behind is shared out among all --sessions. The certificate is one with P-256. Needs
only Python's standard library, openssl and nginx; what cannot be measured is skipped, with the reason.
"""

import argparse
import json
import os
import resource
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from compare import (
    LOAD_CORE,
    OTHER_DESCRIPTORS,
    PROCESSES,
    RELEASE,
    SERVER_CORE,
    START_TIMEOUT_S,
    Skipped,
    build,
    presenced,
    rust,
    seconds,
    start,
)
from processes import free_port, stop

# Pings that are measured, and those of sessions that sleep.
PING_INTERVAL_S, SLEEPING_INTERVAL_S = 1, 20
# An event loop for each core is nginx's advice. Two have room for two descriptors a session where the limit is 20,000.
NGINX_WORKERS = 2
NAME = "localhost"
CERTIFICATE = f"""
[req]
prompt = no
distinguished_name = name
x509_extensions = extensions
[name]
commonName = {NAME}
[extensions]
subjectAltName = DNS:{NAME},IP:127.0.0.1
basicConstraints = critical,CA:FALSE
extendedKeyUsage = serverAuth
"""


def main():
    flags = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # Debian has nginx where a user's PATH may not lead.
    os.environ["PATH"] += ":/usr/sbin"
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    room = sys.maxsize if hard == resource.RLIM_INFINITY else hard - OTHER_DESCRIPTORS
    if room <= flags.burst:
        sys.exit(f"--burst {flags.burst}: must be below {room}, as the limit of open files is {hard}")
    if flags.sessions > room:
        flags.sessions = room
        print(f"the limit of open files is {hard}: {room} sessions", file=sys.stderr)
    reasons = build(["tungstenite"])
    plain = [PLAIN[name] for name in flags.servers if name in PLAIN]
    names = [name for name in SERVERS if name in [*flags.servers, *plain]]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), flags, room)
        rounds = [bench.round(names, number, reasons.get("tungstenite")) for number in range(1, flags.rounds + 1)]
    show(names, rounds, flags, bench.burst_sessions)
    if flags.json:
        Path(flags.json).write_text(json.dumps(rounds, indent=1))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sessions", type=int, default=18_000)
    parser.add_argument("--duration", default="10s", type=seconds, help="time for which pings are measured")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--burst", type=int, default=5_000, help="handshakes at once")
    parser.add_argument("--servers", default=",".join(SERVERS), type=lambda text: text.replace(" ", ",").split(","))
    parser.add_argument("--json", metavar="FILE", help="write all results to this file")
    flags = parser.parse_args()
    if unknown := set(flags.servers) - set(SERVERS):
        parser.error(f"--servers {','.join(unknown)}: expected some of {','.join(SERVERS)}")
    for name in ["sessions", "rounds", "burst"]:
        if getattr(flags, name) < 1:
            parser.error(f"--{name} {getattr(flags, name)}: must be at least 1")
    return flags


class Bench:
    """What all servers share: a secret, a certificate, and what is measured."""

    def __init__(self, folder, flags, room):
        self.folder, self.flags = folder, flags
        self.burst_sessions = min(flags.sessions, room - flags.burst)
        self.secret, self.certificate, self.key = folder / "secret", folder / "certificate.pem", folder / "key.pem"
        self.secret.write_text(secrets.token_hex(32))
        self.secret.chmod(0o600)
        (folder / "request").write_text(CERTIFICATE)
        command = ["openssl", "req", "-x509", "-config", folder / "request", "-days", "2", "-nodes"]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        subprocess.run([*command, "-keyout", self.key, "-out", self.certificate], check=True, stderr=subprocess.DEVNULL)

    def round(self, names, number, no_peers):
        """The figures of each server, or the reason why there are none."""
        results = {}
        for name in names:
            print(f"round {number} of {self.flags.rounds}: {name} …", file=sys.stderr)
            if no_peers and name.startswith("tungstenite"):
                results[name] = no_peers
                continue
            try:
                results[name] = self.figures(name)
            except Skipped as reason:
                results[name] = str(reason)
        return results

    def figures(self, name):
        sessions, duration = self.flags.sessions, self.flags.duration
        settle = ["--settle", f"{2 * PING_INTERVAL_S + 1}s"]
        handshakes = ["--sessions", sessions, "--settle", "0s", "--duration", "0s"]
        pings = ["--sessions", sessions, *settle, "--duration", f"{duration}s"]
        pings = self.run(name, PING_INTERVAL_S, pings)
        burst = ["--sessions", self.burst_sessions, *settle, "--duration", "0s", "--burst", self.flags.burst]
        burst = self.run(name, SLEEPING_INTERVAL_S, burst)
        left = burst["burst"]["rss_bytes"] - burst["rss_bytes"]
        full = self.run(name, SLEEPING_INTERVAL_S, handshakes)
        full_us = full["cpu_us_per_handshake"]
        not_in_burst = self.flags.burst - burst["burst"]["connected"]
        figures = {
            "bytes": pings["bytes_per_session"],
            "bytes_after_burst": pings["bytes_per_session"] + left / sessions,
            "ping_us": pings["cpu_us_per_ping_and_pong"],
            "full_us": full_us,
            "pings_sent": pings["pings"] / (duration / PING_INTERVAL_S * sessions),
            "not_in_burst": not_in_burst,
            "lost": -not_in_burst,
        }
        runs = [pings, burst, full]
        if name in PLAIN:
            resumed = self.run(name, SLEEPING_INTERVAL_S, [*handshakes, "--tls-resume"])
            mixed = self.run(name, SLEEPING_INTERVAL_S, [*handshakes, "--tls-key-exchange", "x25519mlkem768"])
            figures |= {"resumed_us": of_resumed(resumed, full_us), "mixed_us": of_mixed(mixed), "tls": full["tls"]}
            runs += [resumed, mixed]
        for report in runs:
            figures["lost"] += sum(sum(report[what].values()) for what in ["lost", "refused", "connect_errors"])
        return figures

    def run(self, name, interval, load):
        """The report of presenced-load about a server that is started for it."""
        memcached_port, port = free_port(), free_port()
        try:
            listen = ["-l", "127.0.0.1", "-p", memcached_port, "-U", "0"]
            start(["memcached", "-u", "root", *listen, "-t", "1", "-m", "256"], LOAD_CORE, memcached_port)
            pids = SERVERS[name](self, port, interval, memcached_port)
            command = [RELEASE / "presenced-load", "--connect", f"127.0.0.1:{port}", "--jwt-secret-file", self.secret]
            command += ["--json", "--client-ping", "0s", "--pid", ",".join(map(str, pids)), *load]
            if name in PLAIN:
                command += ["--tls-ca", self.certificate, "--tls-name", NAME]
            command = [str(word) for word in command]
            ran = subprocess.run(command, stdout=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, {LOAD_CORE}))
            if ran.returncode != 0:
                raise Skipped(f"presenced-load ended with {ran.returncode}")
            return json.loads(ran.stdout)
        finally:
            while PROCESSES:
                stop_all(PROCESSES.pop())

    def tls_flags(self):
        return ["--tls-cert", self.certificate, "--tls-key", self.key]


def of_resumed(report, full_us):
    """The CPU time of a resumed handshake: the first ones were full, as there were no tickets yet. None without them."""
    counts = report["tls"]
    resumed = sum(count for what, count in counts.items() if what.endswith("resumed"))
    if resumed * 2 < report["connected"]:
        return None
    full = report["connected"] - resumed
    return (report["cpu_us_per_handshake"] * report["connected"] - full * full_us) / resumed


def of_mixed(report):
    """The CPU time of a handshake with the post-quantum key exchange; None if the server has it not."""
    mixed = sum(count for what, count in report["tls"].items() if "X25519MLKEM768" in what)
    return report["cpu_us_per_handshake"] if mixed == report["connected"] else None


def own(command):
    """Starts one process, and returns its id."""

    def started(bench, port, interval, memcached):
        return [start(command(bench)(port, interval, bench.secret, memcached), SERVER_CORE, port).pid]

    return started


def nginx(bench, port, interval, memcached):
    """Starts nginx and a plain presenced, and returns the ids of all their processes."""
    behind = free_port()
    trust = presenced("--trusted-proxy", "127.0.0.1")
    server = start(trust(behind, interval, bench.secret, memcached), SERVER_CORE, behind)
    config = bench.folder / "nginx.conf"
    config.write_text(nginx_config(bench, port, behind))
    master = start(["nginx", "-c", config], SERVER_CORE, port)
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end:
        workers = children(master)
        if len(workers) == NGINX_WORKERS:
            return [server.pid, master.pid, *workers]
        time.sleep(0.02)
    raise Skipped("nginx does not start its workers")


def children(process):
    """The ids of a process's children."""
    return [int(word) for word in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def stop_all(process):
    """Stops a process and its children, which would outlive it."""
    ids = children(process) if process.poll() is None else []
    stop(process)
    for pid in ids:
        os.kill(pid, signal.SIGKILL)


def nginx_config(bench, port, behind):
    """What its documentation says for WebSockets, with small buffers, and no log of requests."""
    temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    temporary = "".join(f"{what}_temp_path {bench.folder}/{what};\n" for what in temporary)
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return f"""
daemon off;
worker_processes {NGINX_WORKERS};
worker_rlimit_nofile {descriptors};
pid {bench.folder}/nginx.pid;
error_log {bench.folder}/nginx.log crit;
events {{ worker_connections {descriptors}; }}
http {{
access_log off;
{temporary}
server {{
listen 127.0.0.1:{port} ssl reuseport backlog=4096;
ssl_certificate {bench.certificate};
ssl_certificate_key {bench.key};
ssl_protocols TLSv1.2 TLSv1.3;
ssl_buffer_size 4k;
location / {{
proxy_pass http://127.0.0.1:{behind};
proxy_http_version 1.1;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection upgrade;
proxy_set_header X-Forwarded-For $remote_addr;
proxy_buffer_size 1k;
proxy_buffers 2 1k;
proxy_busy_buffers_size 1k;
proxy_read_timeout 1h;
}}
}}
}}
"""


SERVERS = {
    "presenced": own(lambda _: presenced()),
    "presenced-tls": own(lambda bench: presenced(*bench.tls_flags())),
    "nginx": nginx,
    "tungstenite": own(lambda _: rust("peer-tungstenite")),
    "tungstenite-tls": own(lambda bench: rust("peer-tungstenite", more=bench.tls_flags())),
}
# The plain server with which each is compared.
PLAIN = {"presenced-tls": "presenced", "nginx": "presenced", "tungstenite-tls": "tungstenite"}

# Titles, figures, those of the plain server that they are compared with, and their form.
COLUMNS = (
    ("B/session", "bytes", "bytes", "{:,.0f}"),
    ("B after burst", "bytes_after_burst", "bytes_after_burst", "{:,.0f}"),
    ("µs/ping+pong", "ping_us", "ping_us", "{:,.2f}"),
    ("µs/handshake", "full_us", "full_us", "{:,.1f}"),
    ("resumed", "resumed_us", "full_us", "{:,.1f}"),
    ("post-quantum", "mixed_us", "full_us", "{:,.1f}"),
)


def show(names, rounds, flags, burst_sessions):
    medians = {name: median_of([results[name] for results in rounds]) for name in names}
    lines = [["server", *(title for column in COLUMNS for title in [column[0], "beyond plain"]), "lost"]]
    for name, figures in medians.items():
        if isinstance(figures, str):
            continue
        plain = medians.get(PLAIN.get(name))
        line = [name]
        for _, what, of_plain, form in COLUMNS:
            value = figures.get(what)
            line.append("" if value is None else form.format(value))
            comparable = value is not None and isinstance(plain, dict)
            line.append(form.format(value - plain[of_plain]) if comparable else "")
        lines.append([*line, f"{figures['lost']:,.0f}"])
    print(f"\n{flags.sessions:,} sessions, a ping every {PING_INTERVAL_S} s, measured for {flags.duration} s;", end=" ")
    print(f"a burst of {flags.burst:,} beside {burst_sessions:,}; medians of {flags.rounds} rounds\n")
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for index, line in enumerate(lines):
        cells = [line[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:])]
        print("| " + " | ".join(cells) + " |")
        if index == 0:
            print("| " + " | ".join(["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]]) + " |")
    for name, figures in medians.items():
        remark(name, figures)


def remark(name, figures):
    """Says what a row does not."""
    if isinstance(figures, str):
        print(f"skipped: {name}: {figures}")
        return
    if figures["pings_sent"] < 0.95:
        print(f"{name}: sent only {figures['pings_sent']:.0%} of the pings that were due")
    if figures["not_in_burst"] > 0:
        print(f"{name}: {figures['not_in_burst']:,.0f} handshakes of the burst did not succeed")
    for what in figures.get("tls", {}):
        print(f"{name}: {what}")


def median_of(results):
    """The median of each figure, without those that are lacking; the first reason if there is one."""
    for result in results:
        if isinstance(result, str):
            return result
    medians = {}
    for what, first in results[0].items():
        values = [result[what] for result in results if result.get(what) is not None]
        medians[what] = first if isinstance(first, dict) else statistics.median(values) if values else None
    return medians


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
