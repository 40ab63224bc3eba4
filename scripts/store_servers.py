"""The servers that scripts/compare_stores.py compares: how each is started, stopped and killed."""

import os
import pwd
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from processes import free_port

CORES = sorted(os.sched_getaffinity(0))
START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 60
# Beyond what any of them needs: memory is measured, not limited.
BYTES_PER_USER = 512
LEAST_MIB = 512
RUNNING = []


class Skipped(Exception):
    """Why a store is not in the tables."""


@dataclass
class Store:
    kind: str
    # From the server to the command that starts it.
    command: object
    client_flags: tuple = ()
    # Called once, before the first start.
    prepare: object = None
    # What ends it in good order, and what ends it without writing its data.
    stop_signal: int = signal.SIGTERM
    end_signal: int = signal.SIGKILL
    # Whether it does not run as root.
    own_account: bool = False


def memcached(*more):
    def command(server):
        # It refuses to be root unless told so.
        user = ["-u", "root"] if os.geteuid() == 0 else []
        listen = ["-l", "127.0.0.1", "-U", "0", "-p", server.port]
        return [program("memcached"), *user, *listen, "-t", "1", "-m", server.mib, *more]

    return command


def presenced(server):
    listen = ["--listen", f"127.0.0.1:{server.port}"]
    return [server.presenced, "store", *listen, "--memory", f"{server.mib}MiB", "--threads", "1"]


def redis(*more):
    def command(server):
        listen = ["--port", server.port, "--bind", "127.0.0.1", "--dir", server.folder]
        # No snapshots.
        return [program("redis-server"), *listen, "--save", "", *more]

    return command


def initdb(server):
    password = server.folder / "password"
    password.touch(mode=0o600)
    password.write_text(server.password)
    if account := server.account():
        os.chown(password, account["user"], account["group"])
    command = [postgresql("initdb"), "--pgdata", server.folder / "data", "--username", "presence", "--no-sync"]
    command += ["--auth", "scram-sha-256", "--pwfile", password, "--encoding", "UTF8", "--locale", "C"]
    with open(server.log, "a") as log:
        options = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "cwd": server.folder, **server.account()}
        process = subprocess.Popen([str(word) for word in command], start_new_session=True, **options)
        try:
            process.wait()
        finally:
            # It takes a second. If it were killed, its own children would leave shared memory behind.
            process.wait()
    if process.returncode:
        raise Skipped(f"initdb: {server.log.read_text().strip()}")


def postgres(server):
    settings = {
        "port": server.port,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "shared_buffers": f"{server.mib}MB",
        "synchronous_commit": "off",
        # No replicas, no backups of the log.
        "wal_level": "minimal",
        "max_wal_senders": 0,
        "jit": "off",
    }
    options = [word for name, value in settings.items() for word in ["-c", f"{name}={value}"]]
    return [postgresql("postgres"), "-D", server.folder / "data", *options]


def postgresql(name):
    """A program of PostgreSQL. Debian keeps those of each version in a folder of their own."""
    folders = Path("/usr/lib/postgresql").glob("*/bin")
    newest_first = sorted(folders, key=lambda folder: float(folder.parent.name), reverse=True)
    for folder in newest_first:
        if (folder / name).exists():
            return folder / name
    return program(name)


def program(name):
    if not (found := shutil.which(name)):
        raise Skipped(f"{name} is not installed (scripts/setup.sh stores)")
    return found


POSTGRESQL = {
    "kind": "postgresql",
    "command": postgres,
    "prepare": initdb,
    # Fast shutdown, and immediate shutdown.
    "stop_signal": signal.SIGINT,
    "end_signal": signal.SIGQUIT,
    # It refuses to be root.
    "own_account": True,
}
STORES = {
    "memcached": Store("memcached", memcached()),
    "presenced": Store("memcached", presenced),
    "redis": Store("redis", redis("--appendonly", "no"), own_account=True),
    "postgresql": Store(**POSTGRESQL),
    # It answers a thousand pipelined commands at once, instead of twenty.
    "memcached-r1000": Store("memcached", memcached("-R", "1000")),
    # These keep users when they are killed.
    "redis-aof": Store("redis", redis("--appendonly", "yes", "--appendfsync", "everysec"), own_account=True),
    "postgresql-logged": Store(**POSTGRESQL, client_flags=("--logged",)),
}
DEFAULT = list(STORES)[:4]


class Server:
    """A store that runs within a `with`, and may be started again after that with the same data."""

    def __init__(self, store, folder, users, password, client, presenced):
        self.store, self.folder, self.password, self.client, self.presenced = store, folder, password, client, presenced
        self.log = folder.with_suffix(".log")
        self.mib = max(LEAST_MIB, users * BYTES_PER_USER >> 20)
        self.process = self.port = None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_):
        self.end()

    def start(self):
        if not self.folder.exists():
            self.folder.mkdir()
            if account := self.account():
                os.chown(self.folder, account["user"], account["group"])
            if self.store.prepare:
                self.store.prepare(self)
        self.port = free_port()
        command = [str(word) for word in self.store.command(self)]
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                preexec_fn=lambda: os.sched_setaffinity(0, {CORES[0]}),
                **self.account(),
            )
        RUNNING.append(self)
        self.wait_until_it_answers()

    def wait_until_it_answers(self):
        """PostgreSQL listens before it answers."""
        end = time.monotonic() + START_TIMEOUT_S
        while self.process.poll() is None:
            try:
                self.client(self, "usage")
                return
            except Skipped:
                if time.monotonic() > end:
                    raise
            time.sleep(0.05)
        raise Skipped(f"the server ended with {self.process.returncode}: {self.log.read_text().strip()}")

    def account(self):
        """Another account than root, as arguments for subprocess."""
        if os.geteuid() != 0 or not self.store.own_account:
            return {}
        for name in [self.store.kind, "postgres" if self.store.kind == "postgresql" else "nobody", "nobody"]:
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        raise Skipped("it must not run as root, and there is no account nobody")

    def stop(self):
        """Stops it in good order."""
        self.process.send_signal(self.store.stop_signal)
        self.process.wait(STOP_TIMEOUT_S)

    def kill(self):
        """Kills it with all its processes, so that none can write any more."""
        families = [self.process.pid, *children(self.process.pid)]
        for pid in families:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        # The children are not ours to wait for.
        end = time.monotonic() + STOP_TIMEOUT_S
        while any(Path(f"/proc/{pid}").exists() for pid in families) and time.monotonic() < end:
            time.sleep(0.01)

    def end(self):
        """Sends it the signal by which it ends soonest, and kills it if that takes too long; unless it has ended."""
        if self in RUNNING:
            RUNNING.remove(self)
        if not self.process or self.process.poll() is not None:
            return
        self.process.send_signal(self.store.end_signal)
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()


def children(parent):
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == parent:
            found.append(int(path.parent.name))
    return found


def stop_all():
    """Another signal must not leave servers behind."""
    for number in [signal.SIGINT, signal.SIGTERM]:
        signal.signal(number, signal.SIG_IGN)
    while RUNNING:
        RUNNING[-1].end()
