//! Nodes that come and go.

use std::time::Duration;

use presenced_testkit::memcached::Memcached;
use presenced_testkit::names::Names;
use presenced_testkit::process::Process;
use presenced_testkit::temp::TempFile;
use tokio::time::sleep;

use super::table::Row;
use super::{Fleet, edge, flags};

/// Two edges with a list each, which changes `between` apart.
async fn listed(before: &[&Memcached], after: &[&Memcached], between: Duration, row: Row) {
    let list =
        |nodes: &[&Memcached]| -> String { nodes.iter().map(|node| node.node() + "\n").collect() };
    let files = [(); 2].map(|()| TempFile::new(&list(before)));
    let flag = |file: &TempFile| format!("--memcached-file={}", file.path().display());
    let home = edge("home", &flag(&files[0])).await;
    let other = edge("other", &flag(&files[1])).await;
    let fleet = Fleet::of(home, other).await;
    for file in &files {
        // As configuration is changed: a file is never half written.
        let next = TempFile::new(&list(after));
        std::fs::rename(next.path(), file.path()).unwrap();
        sleep(between).await;
    }
    fleet.judge(&row).await;
}

#[tokio::test]
async fn a_node_is_added() {
    let nodes = [Memcached::start().await, Memcached::start().await];
    let row = Row::never(10, "a node added (`--memcached-file`)");
    listed(&[&nodes[0]], &nodes.each_ref(), Duration::ZERO, row).await;
}

#[tokio::test]
async fn a_node_is_removed() {
    let nodes = [Memcached::start().await, Memcached::start().await];
    let row = Row::never(11, "a node removed (`--memcached-file`)");
    listed(&nodes.each_ref(), &[&nodes[0]], Duration::ZERO, row).await;
}

#[tokio::test]
async fn a_node_is_added_to_one_edge_first() {
    let nodes = [Memcached::start().await, Memcached::start().await];
    let row = Row::never(12, "a node added, the edges' files changed 5 s apart");
    listed(&[&nodes[0]], &nodes.each_ref(), Duration::from_secs(5), row).await;
}

#[tokio::test]
async fn a_node_is_removed_from_one_edge_first() {
    let nodes = [Memcached::start().await, Memcached::start().await];
    let row = Row::never(13, "a node removed, the edges' files changed 5 s apart");
    listed(&nodes.each_ref(), &[&nodes[0]], Duration::from_secs(5), row).await;
}

#[tokio::test]
async fn a_name_leads_elsewhere() {
    let nodes = [Memcached::start().await, Memcached::start().await];
    // The same port at both addresses: a name has no port.
    let port = nodes[0].address().port();
    let second =
        presenced_testkit::proxy::Proxy::at(&format!("127.0.0.2:{port}"), &nodes[1].node()).await;
    let Some(names) = Names::new("127.0.0.1 cache.test\n") else {
        eprintln!("not measured: no file system of a process's own without `unshare`");
        return;
    };
    let node = format!("--memcached=dns+cache.test:{port}");
    let start = async |id: &str| {
        let flags = flags(id, &node);
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        Process::start_with(&names, &flags).await
    };
    let fleet = Fleet::of(start("home").await, start("other").await).await;
    assert_eq!(second.connections(), 0);
    names.set("127.0.0.2 cache.test\n");
    fleet
        .judge(&Row::never(14, "another address for a name (`dns+`)"))
        .await;
    assert!(second.connections() > 0, "the name was resolved again");
}
