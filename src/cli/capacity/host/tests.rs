use std::fs;
use std::path::Path;
use std::time::Duration;

use clap::Parser;

use super::*;
use crate::cli::Flags;

/// A file system with these files, which is gone when it is dropped.
struct Root(PathBuf);

impl Root {
    fn new(name: &str, files: &[(&str, &str)]) -> Root {
        let root = std::env::temp_dir().join(format!("presenced-{name}-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        for (path, text) in files {
            let file = root.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        Root(root)
    }

    fn host(&self) -> Host {
        Host {
            root: self.0.clone(),
            cores: 8,
            may_exceed_file_max: false,
        }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Settings of a server with eight workers, unless `flags` say how many.
fn config(flags: &[&str]) -> Config {
    let eight = ["--workers=8"];
    let has_workers = flags.iter().any(|flag| flag.starts_with("--workers"));
    let usual = if has_workers { &[][..] } else { &eight };
    let flags = [&["presenced"], usual, flags].concat();
    Flags::try_parse_from(flags).unwrap().check().unwrap()
}

const COSTS: Costs = Costs {
    process_bytes: 100.0,
    kernel_bytes: 4900.0,
    heartbeat: Duration::from_micros(10),
};
const GIB: u64 = 1 << 30;

#[test]
fn memory_is_what_is_available_or_what_the_tightest_group_leaves() {
    let meminfo = (
        "proc/meminfo",
        "MemTotal: 999 kB\nMemAvailable:    1048576 kB\n",
    );
    let sessions = |bytes: u64| Some((bytes as f64 * MEMORY_SHARE / 5000.0) as u64);
    let free = Root::new("free", &[meminfo]);
    let limit = free.host().memory(&COSTS);
    assert_eq!(limit.sessions, sessions(GIB));
    assert!(
        limit
            .why
            .contains("of 1.0 GiB (MemAvailable), at 5000 B each"),
        "{limit:?}"
    );

    let v2 = Root::new(
        "v2",
        &[
            meminfo,
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/memory.max", "536870912\n"),
            // Half of what is used is a cache of files.
            ("sys/fs/cgroup/a/memory.current", "536870912\n"),
            (
                "sys/fs/cgroup/a/memory.stat",
                "anon 1\ninactive_file 268435456\nfile 2\n",
            ),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
        ],
    );
    let limit = v2.host().memory(&COSTS);
    assert_eq!(limit.sessions, sessions(GIB / 4));
    assert!(
        limit.why.contains("(/sys/fs/cgroup/a/memory.max)"),
        "{limit:?}"
    );

    // In a container of version 1 the group's own path is not there.
    let v1 = Root::new(
        "v1",
        &[
            meminfo,
            (
                "proc/self/cgroup",
                "5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n",
            ),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "0\n"),
        ],
    );
    assert_eq!(v1.host().memory(&COSTS).sessions, sessions(GIB / 2));
    let unlimited = Root::new(
        "unlimited",
        &[
            meminfo,
            ("proc/self/cgroup", "4:memory:/\n"),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
        ],
    );
    assert_eq!(unlimited.host().memory(&COSTS).sessions, sessions(GIB));
}

#[test]
fn cores_are_those_of_the_machine_the_threads_or_the_quota() {
    let each = COSTS.heartbeat.as_secs_f64() / 25.0;
    let sessions = |cores: f64| Some((cores * CPU_SHARE / each) as u64);
    let cpu = |root: &Root, flags: &[&str]| root.host().cpu(&config(flags), &COSTS);
    let free = Root::new("cores", &[]);
    let limit = cpu(&free, &[]);
    assert_eq!(limit.sessions, sessions(8.0));
    assert!(
        limit
            .why
            .contains("of 8.0 cores (this machine), at 10.0 µs"),
        "{limit:?}"
    );
    assert_eq!(cpu(&free, &["--workers=2"]).sessions, sessions(2.0));
    // With twice as many pings there is room for half as many sessions.
    let often = cpu(&free, &["--ping-interval=12500ms", "--ping-timeout=10s"]);
    assert!(often.sessions.unwrap().abs_diff(sessions(4.0).unwrap()) <= 1);
    for (name, files) in [
        (
            "quota-v2",
            &[
                ("proc/self/cgroup", "0::/a\n"),
                ("sys/fs/cgroup/cpu.max", "max 100000\n"),
                ("sys/fs/cgroup/a/cpu.max", "150000 100000\n"),
            ][..],
        ),
        (
            "quota-v1",
            &[
                ("proc/self/cgroup", "5:cpu,cpuacct:/\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "75000\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "50000\n"),
            ],
        ),
    ] {
        let limit = cpu(&Root::new(name, files), &[]);
        assert_eq!(limit.sessions, sessions(1.5), "{name}");
        assert!(
            limit.why.contains("1.5 cores (the quota of its cgroup)"),
            "{limit:?}"
        );
    }
    let none = [
        ("proc/self/cgroup", "5:cpu:/\n"),
        ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
        ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
    ];
    assert_eq!(
        cpu(&Root::new("no-quota", &none), &[]).sessions,
        sessions(8.0)
    );
}

#[test]
fn what_the_kernel_bounds_is_less_what_is_in_use() {
    let root = Root::new(
        "kernel",
        &[
            ("proc/sys/fs/file-nr", "1000\t0\t500000\n"),
            ("proc/sys/fs/file-max", "500000\n"),
            ("proc/sys/fs/epoll/max_user_watches", "300000\n"),
            ("proc/sys/net/netfilter/nf_conntrack_max", "65536\n"),
            ("proc/sys/net/netfilter/nf_conntrack_count", "36\n"),
            ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
        ],
    );
    let host = root.host();
    assert_eq!(host.file_max().sessions, Some(499_000));
    let privileged = Host {
        may_exceed_file_max: true,
        ..root.host()
    };
    assert_eq!(privileged.file_max().sessions, None);
    assert_eq!(host.epoll().sessions, Some(300_000));
    assert_eq!(host.conntrack().sessions, Some(65_500));
    let one = host.ports(&config(&[])).unwrap();
    assert!(
        one.ends_with("has 28,232 for each of its addresses"),
        "{one}"
    );
    let two = host
        .ports(&config(&["--listen=127.0.0.1:0,127.0.0.2:0"]))
        .unwrap();
    assert!(
        two.contains("has 56,464 for each of its addresses, over the 2 of --listen"),
        "{two}"
    );

    let idle = Root::new(
        "idle",
        &[
            ("proc/sys/net/netfilter/nf_conntrack_max", "65536\n"),
            ("proc/sys/net/netfilter/nf_conntrack_count", "0\n"),
        ],
    );
    assert_eq!(idle.host().conntrack().sessions, None);
    let bare = Host {
        root: Path::new("/nowhere").into(),
        ..idle.host()
    };
    assert_eq!(bare.conntrack().sessions, None);
    assert_eq!(bare.ports(&config(&[])), None);
}

#[test]
fn only_an_embedded_store_bounds_users() {
    let limits = |flags: &[&str]| {
        let limits = Root::new("store", &[])
            .host()
            .limits(&config(flags), &COSTS);
        limits.into_iter().find(|limit| limit.about == "store")
    };
    let store = limits(&["--store-memory=64MiB"]).unwrap();
    assert_eq!(store.sessions, Some((64 << 20) / STORE_BYTES_PER_USER));
    assert_eq!(limits(&["--memcached=127.0.0.1:1"]), None);
}
