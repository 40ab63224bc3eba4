"""The processes of `scripts/million.py`: memcached, edges, their load generators and an observer."""

import contextlib
import ctypes
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import million_machine as machine

ROOT = Path(__file__).resolve().parent.parent
RELEASE = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
CORES = sorted(os.sched_getaffinity(0))
START_TIMEOUT_S = 30
ADMIN_TIMEOUT_S = 30
KEYS_PER_GET = 100
# Handshakes in progress of all load generators together.
CONCURRENCY = 1024
# Bytes of a user in memcached, with room for the slabs' waste.
ITEM_BYTES = 320
PR_SET_PDEATHSIG = 1
PRCTL = ctypes.CDLL(None).prctl


@dataclass
class Edge:
    """A server, and the load generator that holds its sessions."""

    index: int
    port: int
    admin: int
    sessions: int
    process: subprocess.Popen = None
    load: subprocess.Popen = None

    def user(self, number):
        return f"e{self.index}-{number % max(self.sessions, 1)}"

    def metrics(self):
        """Each series of /metrics with its value."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=ADMIN_TIMEOUT_S) as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}

    def open_sessions(self):
        """How many sessions the edge has; none while it does not answer."""
        try:
            return int(self.metrics()["presenced_sessions"])
        except (OSError, http.client.HTTPException):
            return 0


@dataclass
class Fleet:
    """All processes, which share a folder for their secret and their logs."""

    folder: Path
    flags: object
    workers: int
    memcached_port: int = 0
    memcached_connections: int = 0
    memcached: subprocess.Popen = None
    edges: list = field(default_factory=list)
    observer: Edge = None
    processes: list = field(default_factory=list)
    cores: set = field(default_factory=lambda: set(CORES))
    ports: object = None

    def __post_init__(self):
        self.ports = fixed_ports()
        self.secret = self.folder / "secret"
        self.memcached_port = next(self.ports)

    def start(self, plan):
        """Starts everything but the sessions."""
        # Twice, as those of an edge that was killed may still be there when it is back.
        self.memcached_connections = 64 + 2 * (plan.edges + 1) * machine.connections_to_memcached(self.workers)
        self.start_memcached()
        self.observer = Edge(-1, next(self.ports), next(self.ports), 0)
        for index in range(plan.edges):
            sessions = plan.sessions * (index + 1) // plan.edges - plan.sessions * index // plan.edges
            self.edges.append(Edge(index, next(self.ports), next(self.ports), sessions))
        for edge in [self.observer, *self.edges]:
            self.start_edge(edge)
        for edge in [self.observer, *self.edges]:
            self.await_listener(edge.process, edge.port)

    def start_memcached(self):
        """Starts memcached on the last core, and returns once it listens."""
        mebibytes = 64 + self.flags.sessions * ITEM_BYTES // (1 << 20)
        listen = ["-l", "127.0.0.1", "-p", self.memcached_port, "-U", "0"]
        user = ["-u", "root"] if os.geteuid() == 0 else []
        command = ["memcached", *user, *listen, "-t", "1", "-m", mebibytes, "-c", self.memcached_connections]
        self.memcached = self.spawn("memcached", command, {CORES[-1]})
        self.await_listener(self.memcached, self.memcached_port)

    def start_edge(self, edge):
        flags = self.flags
        more = ["--pull-cache", "0s"] if edge is self.observer else []
        name = "observer" if edge is self.observer else f"edge-{edge.index}"
        edge.process = self.spawn(name, [*self.edge_command(edge.port, edge.admin), "--server-id", name, *more,
            "--ttl", f"{flags.ttl}s", "--ping-interval", f"{flags.ping_interval}s",
            "--ping-timeout", f"{flags.ping_timeout}s", "--flush-interval", f"{flags.flush_interval}s",
            # No load balancer has to notice a drain beforehand.
            "--drain-delay", "0s", "--drain", f"{flags.drain}s", "--log-level", "warn"], self.cores)

    def edge_command(self, port, admin, command=()):
        return [RELEASE / "presenced", *command, "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}",
            "--workers", self.workers, "--memcached", f"127.0.0.1:{self.memcached_port}",
            "--jwt-secret-file", self.secret]

    def sessions_of_an_edge(self):
        """How many sessions an edge takes here, by its own words."""
        command = self.edge_command(next(self.ports), next(self.ports), ["check"])
        words = [str(word) for word in [*command, "--log-format", "json"]]
        ran = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in ran.stdout.splitlines():
            text = json.loads(line)["text"]
            if found := re.search(r"enough for (\d+) sessions", text):
                return int(found[1])
        sys.exit(f"presenced check says nothing of open files: {ran.stdout}")

    def start_sessions(self, edges):
        """Starts the load generators of these edges, one for each."""
        processes = max(1, len(CORES) // len(self.edges))
        for edge in edges:
            if not edge.sessions:
                continue
            share = min(processes, edge.sessions)
            edge.load = self.spawn(f"load-{edge.index}", [RELEASE / "presenced-load",
                "--connect", f"127.0.0.1:{edge.port}", "--jwt-secret-file", self.secret, "--reconnect",
                "--sessions", edge.sessions, "--user-prefix", f"e{edge.index}-", "--processes", share,
                "--concurrency", max(share, CONCURRENCY // len(self.edges)),
                "--client-ping", "0s", "--settle", "0s", "--duration", "2h"], self.cores)

    def give_up_last_edge(self):
        """Ends an edge that has no sessions yet; returns how many it would have had."""
        edge = self.edges.pop()
        self.kill(edge.process)
        return edge.sessions

    def spawn(self, name, command, cores):
        """Starts a process that ends with this one, however this one ends."""

        def prepare():
            PRCTL(PR_SET_PDEATHSIG, signal.SIGKILL)
            os.sched_setaffinity(0, cores)

        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                # Ctrl-C is for this process, which stops the others.
                start_new_session=True,
                preexec_fn=prepare,
            )
        process.name = name
        self.processes.append(process)
        return process

    def await_listener(self, process, port):
        end = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < end and process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return
            except ConnectionRefusedError:
                time.sleep(0.02)
        sys.exit(f"{process.name} does not listen: {self.log_of(process)}")

    def log_of(self, process):
        return (self.folder / f"{process.name}.log").read_text(errors="replace")[-2000:]

    def check(self):
        """Ends the run if a process has ended that should not have."""
        of_edges = [process for edge in self.edges for process in (edge.process, edge.load)]
        for process in [self.memcached, self.observer.process, *of_edges]:
            if process is not None and process.poll() is not None:
                sys.exit(f"{process.name} has ended with {process.returncode}: {self.log_of(process)}")

    def confine(self, cores):
        """Keeps all but memcached on these cores, this process and what it starts later too."""
        self.cores = cores
        kinds = self.pids()
        for pid in [os.getpid(), self.observer.process.pid, *kinds["edges"], *kinds["load"]]:
            for task in os.listdir(f"/proc/{pid}/task"):
                # A thread may just have ended.
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(int(task), cores)

    def stop(self):
        """Kills everything, and waits until all of it is gone."""
        for process in self.processes:
            if process.poll() is None:
                # With the children that a load generator has.
                os.killpg(process.pid, signal.SIGKILL)
        for process in self.processes:
            process.wait()

    def kill(self, process, how=signal.SIGKILL):
        process.send_signal(how)
        process.wait()
        self.processes.remove(process)

    def open_sessions(self):
        return sum(edge.open_sessions() for edge in self.edges)

    def metrics(self):
        """The sum of the metrics of all edges."""
        total = {}
        for edge in self.edges:
            for name, value in edge.metrics().items():
                total[name] = total.get(name, 0) + value
        return total

    def pids(self):
        """The processes of each kind."""
        loads = [edge.load.pid for edge in self.edges if edge.load]
        return {
            "edges": [edge.process.pid for edge in self.edges],
            "memcached": [self.memcached.pid],
            "load": [pid for load in loads for pid in [load, *children(load)]],
        }

    def memcached_stat(self, name):
        start = f"STAT {name} ".encode()
        return next(int(line.split()[2]) for line in self.ask_memcached([b"stats"]) if line.startswith(start))

    def ask_memcached(self, commands):
        """The lines of memcached's answers."""
        with socket.create_connection(("127.0.0.1", self.memcached_port), timeout=60) as connection:
            connection.sendall(b"".join(command + b"\r\n" for command in [*commands, b"quit"]))
            with connection.makefile("rb") as stream:
                yield from stream

    def delete_keys(self, edge):
        """Takes the entries of an edge's users out of memcached, which no edge notices."""
        users = (edge.user(number) for number in range(edge.sessions))
        for _ in self.ask_memcached([f"delete user:{user}:online noreply".encode() for user in users]):
            pass

    def missing_keys(self, edges=None):
        """How many of the users of all edges, or of some, have no key."""
        missing = 0
        for edge in edges or self.edges:
            for first in range(0, edge.sessions, KEYS_PER_GET * 10):
                last = min(edge.sessions, first + KEYS_PER_GET * 10)
                keys = [f"user:{edge.user(number)}:online".encode() for number in range(first, last)]
                runs = [keys[at : at + KEYS_PER_GET] for at in range(0, len(keys), KEYS_PER_GET)]
                answer = self.ask_memcached([b"get " + b" ".join(run) for run in runs])
                missing += len(keys) - sum(line.startswith(b"VALUE ") for line in answer)
        return missing


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def fixed_ports():
    """Free ports that the kernel gives to nobody, so that a server that was killed finds its own free."""
    low, high = machine.local_ports()
    for port in range(20_000, 65_536):
        if low <= port <= high:
            continue
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        yield port
    sys.exit(f"no free ports outside of net.ipv4.ip_local_port_range ({low}-{high})")
