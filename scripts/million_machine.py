"""What a machine allows `scripts/million.py`, and what its kernel has in use."""

import math
import os
import resource
import socket
from dataclasses import dataclass
from pathlib import Path

# Both ends of a connection are on this machine, and each has a socket, a file and its place in an epoll.
KERNEL_BYTES = 10_300
# An edge, a load generator (a token above all) and memcached (a key and its value).
PROCESS_BYTES = 120 + 650 + 230
# Of the memory that is available; for what else the machine does.
MEMORY_MARGIN = 0.1
# A process of an edge and its load generator before the first session.
EDGE_BASE_BYTES = 12 << 20
# Threads of an edge beside its workers, and its load generator.
OTHER_TASKS = 5
# The load generator's own: addresses of a process, and ports of each (benches/load/src/socket.rs).
CLIENT_PORTS = 240 * 50_000
CAP_SYS_ADMIN = 21


@dataclass
class Limit:
    """Something that bounds the number of sessions."""

    name: str
    value: str
    sessions: float


def number(path, default=math.inf):
    """What a file under /proc or /sys holds; `max` and a file that is not there stand for no limit."""
    try:
        return int(Path(path).read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return default


def limits(edges, per_edge, workers):
    """Everything that bounds the sessions of so many edges, which take `per_edge` sessions each."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    found = [
        Limit("open files a process (ulimit -Hn)", count(hard), edges * per_edge),
        memory(edges),
        Limit("epoll places a user (fs.epoll.max_user_watches)", *half("/proc/sys/fs/epoll/max_user_watches")),
        ports(per_edge, workers),
        Limit("connections to memcached (ulimit -Hn)", count(hard),
              math.inf if hard == resource.RLIM_INFINITY
              else (hard - 256) // (2 * connections_to_memcached(workers)) * per_edge),
        tasks(per_edge, workers),
    ]
    if not has_capability(CAP_SYS_ADMIN):
        used, maximum = number("/proc/sys/fs/file-nr", 0), number("/proc/sys/fs/file-max")
        found.append(Limit("open files of the system (fs.file-max)", count(maximum), (maximum - used) / 2))
    if tracks_loopback():
        used = number("/proc/sys/net/netfilter/nf_conntrack_count", 0)
        maximum = number("/proc/sys/net/netfilter/nf_conntrack_max")
        found.append(Limit("tracked connections (nf_conntrack_max)", count(maximum), maximum - used))
    return found


def count(value):
    return "none" if value in (math.inf, resource.RLIM_INFINITY) else f"{value:,}"


def half(path):
    """Each session has two of these: one at either end."""
    value = number(path)
    return count(value), value / 2


def memory(edges):
    rooms = {"MemAvailable": meminfo()["MemAvailable"], **cgroup_rooms("memory")}
    name, room = min(rooms.items(), key=lambda item: item[1])
    usable = room * (1 - MEMORY_MARGIN) - edges * EDGE_BASE_BYTES
    return Limit(f"memory ({name})", f"{room / (1 << 30):.1f} GiB", max(0, usable / (KERNEL_BYTES + PROCESS_BYTES)))


def ports(per_edge, workers):
    """Only connections to memcached get ports of the kernel: clients bind addresses and ports of their own."""
    low, high = local_ports()
    edges = (high - low + 1) // connections_to_memcached(workers)
    name = "ports to memcached (net.ipv4.ip_local_port_range)"
    return Limit(name, f"{low}-{high}", edges * min(per_edge, CLIENT_PORTS))


def connections_to_memcached(workers):
    """Of one edge: `2 × workers + 2`, and one more for a moment in each flush interval (docs/operations.md)."""
    return 2 * workers + 3


def local_ports():
    low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    return int(low), int(high)


def tasks(per_edge, workers):
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    # The fourth word is "running/all".
    running = int(Path("/proc/loadavg").read_text().split()[3].split("/")[1])
    rooms = {
        "kernel.pid_max": number("/proc/sys/kernel/pid_max") - running,
        "kernel.threads-max": number("/proc/sys/kernel/threads-max") - running,
        "ulimit -u": math.inf if processes == resource.RLIM_INFINITY or os.geteuid() == 0 else processes - running,
        **cgroup_rooms("pids"),
    }
    name, room = min(rooms.items(), key=lambda item: item[1])
    return Limit(f"threads ({name})", f"{count(room)} left", max(0, room) // (workers + OTHER_TASKS) * per_edge)


def cgroup_rooms(controller):
    """What this process's cgroups, and those above them, leave of `memory` or `pids`; both versions of cgroups."""
    rooms = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = Path("/sys/fs/cgroup", controller) if controllers else Path("/sys/fs/cgroup")
        folder = root / path.lstrip("/")
        for folder in [folder, *folder.parents][: len(folder.relative_to(root).parts) + 1]:
            for limit, used in [
                (f"{controller}.max", f"{controller}.current"),
                ("memory.limit_in_bytes", "memory.usage_in_bytes"),
            ]:
                maximum = number(folder / limit) if limit.startswith(controller) else math.inf
                # Version 1 has a huge number for "no limit".
                if maximum < 1 << 60:
                    rooms[f"{limit} of cgroup /{folder.relative_to(root)}"] = maximum - number(folder / used, 0)
    return rooms


def has_capability(bit):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff"))
    return bool(int(line.split()[1], 16) >> bit & 1)


def tracks_loopback():
    """Whether the kernel tracks connections on loopback: then it tracks one that is made to find out."""
    path = "/proc/sys/net/netfilter/nf_conntrack_count"
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        return number(path, 0) > 0


def meminfo():
    """/proc/meminfo in bytes."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


def kernel_bytes():
    """Memory of the kernel that sessions add to: objects of sockets, files and epolls, tables of files, and buffers."""
    info = meminfo()
    sockets = next(line for line in Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:"))
    words = sockets.split()
    pages = int(words[words.index("mem") + 1])
    return info["Slab"] + info["VmallocUsed"] + pages * resource.getpagesize()


def pss_bytes(pids):
    """Memory of processes; what several share counts in parts."""
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    return total


def cpu_seconds(pids):
    """CPU time of processes so far."""
    total = 0
    for pid in pids:
        # The name in brackets may have spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")
