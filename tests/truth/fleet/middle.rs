//! What stands between the edges and memcached.

use std::time::Duration;

use presenced_testkit::memcached::Memcached;
use presenced_testkit::middle::Middle;
use presenced_testkit::raw::get;
use presenced_testkit::server::metric;
use tokio::time::sleep;

use super::table::Row;
use super::{Fleet, edge_with};

#[tokio::test]
async fn several_memcacheds_behind_one_name() {
    let nodes = [
        Memcached::start().await,
        Memcached::start().await,
        Memcached::start().await,
    ];
    let balancer = Middle::haproxy(&nodes.each_ref()).await;
    let flag = format!("--memcached={}", balancer.node());
    // As many connections as it takes to get to all of them.
    let home = edge_with(4, "home", &flag).await;
    let other = edge_with(4, "other", &flag).await;
    // Misses are never believed here.
    let fleet = Fleet::untrusting(home, other).await;
    sleep(Duration::from_secs(30)).await;
    fleet.all_here().await;
    let row = Row::never(27, "three memcacheds behind one name (HAProxy)");
    row.judge(&fleet.asker.take());
    let noticed = format!(
        "memcached_several_servers_total{{node=\"{}\"}}",
        balancer.node()
    );
    let response = get(fleet.other.admin(), "/metrics").await;
    assert!(metric(&response, &noticed) > 0, "it was not noticed");
}

#[tokio::test]
async fn behind_twemproxy() {
    let mut memcached = Memcached::start().await;
    let proxy = Middle::twemproxy(&memcached).await;
    let fleet = Fleet::on_node(&proxy.node()).await;
    memcached.restart().await;
    let row = Row::never(28, "memcached behind twemproxy killed, and empty at once");
    fleet.judge(&row).await;
}

#[tokio::test]
async fn behind_haproxy() {
    let mut memcached = Memcached::start().await;
    let proxy = Middle::haproxy(&[&memcached]).await;
    let fleet = Fleet::on_node(&proxy.node()).await;
    memcached.restart().await;
    let row = Row::never(29, "memcached behind HAProxy killed, and empty at once");
    fleet.judge(&row).await;
}
