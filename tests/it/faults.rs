//! What befalls memcached while thousands of users are here: real memcached processes, real heartbeats
//! through the session layer.
//!
//! These are short forms. `make faults` runs them with 50,000 users (`FAULT_USERS`), and the random
//! restarts for as many times as `FAULT_RESTARTS` says.

#[path = "../../benches/common/rss.rs"]
#[allow(unreachable_pub, reason = "the benches share it")]
mod rss;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use async_memcached::AsciiProtocol;
use presenced_memcached::pipeline::WriteCommand;
use presenced_memcached::ring::{Member, Ring, RingKind};
use presenced_memcached::{NodeSpec, OnFailure};
use presenced_presence::limits::REFILL_RUN;
use presenced_testkit::crowd::{Crowd, Plan};
use presenced_testkit::memcached::{Memcached, key};
use presenced_testkit::network::Network;
use presenced_testkit::proxy::{Mischief, Proxy};
use presenced_testkit::until;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, sleep};

/// Long enough for a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

fn users() -> usize {
    number("FAULT_USERS", 3000)
}

/// Fails if the process has grown by more since `before`, bytes. One connection that was kept for each
/// of the restarts of a soak would be a hundred MiB. Tests that run beside this one would count too, so only a
/// soak, where it is alone, looks.
fn assert_not_grown(before: i64) {
    const GROWTH_MAX: i64 = 16 << 20;
    if std::env::var_os("FAULT_RESTARTS").is_some() {
        let now = rss::rss_bytes();
        println!(
            "{} KiB of memory before, {} KiB after",
            before >> 10,
            now >> 10
        );
        assert!(now <= before + GROWTH_MAX);
    }
}

/// No one is pinged while the test runs: what is written again is not written for a pong's sake.
fn without_pings(plan: Plan) -> Plan {
    Plan {
        ping_interval: Duration::from_secs(3000),
        ttl: Duration::from_secs(9000),
        ..plan
    }
}

fn by(command: WriteCommand, mut plan: Plan) -> Plan {
    plan.options.connect.write_command = command;
    plan
}

#[tokio::test]
async fn a_memcached_that_restarts_empty_is_refilled_without_pongs_at_the_rate_that_is_set() {
    let mut memcached = Memcached::start().await;
    let plan = Plan {
        refill_rate: users() as u32,
        ..without_pings(Plan::on(users(), &[memcached.node()]))
    };
    let crowd = Crowd::gather(plan).await;
    crowd.all_on(&[&memcached], LONG).await;
    until(
        "the refill of the first contact is done",
        LONG,
        async || {
            crowd.metrics.refilled.value() >= users() as u64 && crowd.presence.pending().is_empty()
        },
    )
    .await;
    let (refilled, memory) = (crowd.metrics.refilled.value(), rss::rss_bytes());

    memcached.restart().await;
    let back = Instant::now();
    let mut pending_max = 0;
    until("all are written, and it is counted", LONG, async || {
        pending_max = pending_max.max(crowd.presence.pending().len());
        crowd.metrics.refilled.value() >= refilled + users() as u64
    })
    .await;
    // A second's worth at this rate, the first run of which comes at once.
    assert!(back.elapsed() > Duration::from_millis(300));
    // One run at a time: what is in flight comes out of it.
    assert!(
        pending_max <= u64::from(REFILL_RUN),
        "{pending_max} pending"
    );
    assert_not_grown(memory);
    crowd.all_on(&[&memcached], LONG).await;
    assert_eq!(crowd.presence.users().len(), users());
}

#[tokio::test]
async fn an_operators_flush_all_is_noticed_and_everyone_written_again() {
    let memcached = Memcached::start().await;
    let plan = without_pings(Plan::on(users(), &[memcached.node()]));
    let crowd = Crowd::gather(plan).await;
    crowd.all_on(&[&memcached], LONG).await;
    assert_eq!(memcached.ask("flush_all").await, "OK");
    crowd.all_on(&[&memcached], LONG).await;
}

#[tokio::test]
async fn a_node_that_is_stopped_holds_up_no_other_and_gets_its_own_when_it_goes_on() {
    let nodes = three().await;
    let crowd = Crowd::gather(Plan::on(users(), &names(&nodes))).await;
    crowd.all_on(&nodes.each_ref(), LONG).await;

    nodes[0].freeze();
    let mine = |which: usize| {
        let ring = ring(&nodes.each_ref());
        let node_of = move |user: &&String| usize::from(ring.node_of(key(user).as_bytes()));
        crowd
            .users
            .iter()
            .filter(|user| node_of(user) == which)
            .count() as u64
    };
    let counts = [mine(0), mine(1), mine(2)];
    until("the stopped node's users are pending", LONG, async || {
        crowd.presence.pending().len() >= counts[0]
    })
    .await;
    for which in [1, 2] {
        let sets = nodes[which].sets().await;
        until("the others are written as ever", LONG, async || {
            nodes[which].sets().await >= sets + 2 * counts[which]
        })
        .await;
    }
    let frozen = names(&nodes)[0].clone();
    until(
        "its lag is seen, and is not that of the others",
        LONG,
        async || {
            let lags = crowd.presence.flush_lags();
            assert_eq!(lags.len(), 3);
            let is_behind = |lag: Duration| lag > Duration::from_secs(3);
            lags.iter()
                .all(|(node, lag)| is_behind(*lag) == (node.addr().to_string() == frozen))
        },
    )
    .await;
    nodes[0].thaw();
    let sets = nodes[0].sets().await;
    until("its users are written", LONG, async || {
        nodes[0].sets().await >= sets + counts[0]
    })
    .await;
    until("the lag is gone", LONG, async || {
        crowd.presence.flush_lag() < Duration::from_secs(3)
    })
    .await;
}

#[tokio::test]
async fn the_users_of_a_node_that_is_gone_for_good_are_where_readers_who_eject_look() {
    let mut nodes = three().await;
    let mut plan = without_pings(Plan::on(users(), &names(&nodes)));
    plan.options.on_failure = OnFailure::Eject;
    let crowd = Crowd::gather(plan).await;
    crowd.all_on(&nodes.each_ref(), LONG).await;
    let mut reader = Reader::of(users(), &names(&nodes));
    until("the reader finds all", LONG, async || {
        reader.count().await == users()
    })
    .await;

    nodes[1].kill();
    until("it finds all where it looks now", LONG, async || {
        reader.count().await == users()
    })
    .await;
    let left = [&nodes[0], &nodes[2]];
    crowd.all_on(&left, LONG).await;
    // A ring of the two that are left: libmemcached's, by the vectors of tests/it/ring.rs.
    let ring = ring(&left);
    let [mut at_first, mut at_second] = [Vec::new(), Vec::new()];
    for user in &crowd.users {
        match ring.node_of(key(user).as_bytes()) {
            0 => at_first.push(user.clone()),
            _ => at_second.push(user.clone()),
        }
    }
    assert_eq!(
        left[0].count_online_of_many(&at_first).await,
        at_first.len()
    );
    assert_eq!(
        left[1].count_online_of_many(&at_second).await,
        at_second.len()
    );

    // It comes back empty: once it has held for a while, it has its own again.
    nodes[1].restart().await;
    let ring = self::ring(&nodes.each_ref());
    let of_it = |user: &&String| ring.node_of(key(user).as_bytes()) == 1;
    let of_it: Vec<_> = crowd.users.iter().filter(of_it).cloned().collect();
    until("it has its users again", LONG, async || {
        nodes[1].count_online_of_many(&of_it).await == of_it.len()
    })
    .await;
    until("the reader finds all there", LONG, async || {
        reader.count().await == users()
    })
    .await;
}

#[tokio::test]
async fn a_cut_network_is_noticed_by_what_does_not_come() {
    let network = Network::lay().await;
    let memcached = &network.memcached;
    let crowd = Crowd::gather(Plan::on(users(), &[network.node()])).await;
    crowd.all_on(&[memcached], LONG).await;
    let node = crowd.presence.cluster().topology().nodes()[0].clone();
    until("it answers", LONG, async || node.is_up()).await;
    assert_eq!(crowd.logged("memcached does not answer"), 0);

    network.cut();
    let errors = |label: &str| node.errors().find(|(known, _)| *known == label).unwrap().1;
    until("it is known to be away", LONG, async || {
        !node.is_up() && errors("timeout") > 0
    })
    .await;
    // By the probe, which may notice later than what carries the flush.
    until("it is told", LONG, async || {
        crowd.logged("memcached does not answer") == 1
    })
    .await;
    until("all are pending", LONG, async || {
        crowd.presence.pending().len() == users() as u64
    })
    .await;
    network.mend();
    crowd.all_written(LONG).await;
    until("it is told again", LONG, async || {
        node.is_up() && crowd.logged("memcached answers again") == 1
    })
    .await;
    // Each change is told once, however often it was tried meanwhile.
    assert_eq!(crowd.logged("memcached does not answer"), 1);
}

#[tokio::test]
async fn no_one_is_confirmed_who_is_not_stored_whatever_happens_to_replies() {
    replies_are_meddled_with(WriteCommand::Set).await;
}

#[tokio::test]
async fn no_one_is_confirmed_who_is_not_stored_whatever_happens_to_quiet_replies() {
    replies_are_meddled_with(WriteCommand::Ms).await;
}

async fn replies_are_meddled_with(command: WriteCommand) {
    let memcached = Memcached::start().await;
    let proxy = Proxy::before(&memcached.node()).await;
    let plan = Plan::on(users(), std::slice::from_ref(&proxy.node));
    let crowd = Crowd::gather(by(command, plan)).await;
    crowd.all_on(&[&memcached], LONG).await;
    for mischief in [
        Mischief::Garble,
        Mischief::Double,
        Mischief::Cut,
        Mischief::Delay,
    ] {
        let before = proxy.connections();
        proxy.set(mischief);
        if mischief == Mischief::Delay {
            crowd.all_written(LONG).await;
        } else {
            until("connections are replaced", LONG, async || {
                proxy.connections() >= before + 4
            })
            .await;
        }
        // What was confirmed meanwhile may not be there; afterwards everyone must be.
        assert_eq!(memcached.ask("flush_all").await, "OK");
        proxy.set(Mischief::None);
        crowd.all_on(&[&memcached], LONG).await;
    }
    assert_eq!(crowd.presence.users().len(), users());
}

#[tokio::test]
async fn a_memcached_that_is_full_is_known_to_evict() {
    // One MiB has room for some thousand entries of each size.
    let memcached = Memcached::start_with(&["-m", "1", "-I", "512k"]).await;
    let crowd = Crowd::gather(Plan::on(users().max(20_000), &[memcached.node()])).await;
    let node = crowd.presence.cluster().topology().nodes()[0].clone();
    until("evictions are counted", LONG, async || node.evictions() > 0).await;
    let online = memcached.count_online_of_many(&crowd.users).await;
    assert!(online < crowd.users.len(), "{online} fit");
    // The sentinel may be evicted, too; users must not be written again and again because of that.
    let refilled = crowd.metrics.refilled.value();
    crowd.all_written(LONG).await;
    assert!(crowd.metrics.refilled.value() <= refilled + crowd.users.len() as u64);
    // Told once, though each look finds more that was evicted.
    until("it is told", LONG, async || {
        crowd.logged("memcached is full and evicts") == 1
    })
    .await;
}

#[tokio::test]
async fn a_memcached_that_refuses_for_want_of_memory_is_asked_again() {
    refuses(WriteCommand::Set).await;
}

#[tokio::test]
async fn a_memcached_that_refuses_quiet_commands_is_asked_again() {
    refuses(WriteCommand::Ms).await;
}

async fn refuses(command: WriteCommand) {
    // `-M`: rather than evict.
    let memcached = Memcached::start_with(&["-m", "1", "-I", "512k", "-M"]).await;
    let plan = without_pings(Plan::on(users().max(20_000), &[memcached.node()]));
    let crowd = Crowd::gather(by(command, plan)).await;
    let node = crowd.presence.cluster().topology().nodes()[0].clone();
    let count = |label: &str| node.errors().find(|(known, _)| *known == label).unwrap().1;
    until("all are stored that fit", LONG, async || {
        let stored = memcached.count_online_of_many(&crowd.users).await as u64;
        let pending = crowd.presence.pending().len();
        // A refusal of a quiet command leaves those pending that were sent with it.
        stored > 0 && pending > 0 && stored + pending >= crowd.users.len() as u64
    })
    .await;
    let refused = count("refused");
    until("they are tried again", LONG, async || {
        count("refused") > refused
    })
    .await;
    // It is still in step, has lost nothing, and is quoted once, however often it refuses.
    assert_eq!(count("protocol"), 0);
    assert_eq!(crowd.logged("lost its data"), 0);
    assert_eq!(crowd.logged("memcached refuses entries"), 1);
    assert_eq!(crowd.logged("SERVER_ERROR out of memory storing object"), 1);
    assert_eq!(memcached.ask("flush_all").await, "OK");
    assert_eq!(memcached.ask("cache_memlimit 64").await, "OK");
    crowd.all_on(&[&memcached], LONG).await;
}

#[tokio::test]
async fn a_memcached_that_refuses_the_sentinel_has_not_lost_its_data() {
    let memcached = Memcached::start_with(&["-m", "1", "-I", "512k", "-M"]).await;
    // Items of the sentinel's size take all the room that there is for such.
    let mut client = memcached.client().await;
    let mut count = 0;
    while client.set(filling(count), "", None, None).await.is_ok() {
        count += 1;
    }
    assert!(count > 1000, "{count} items fit");

    let plan = without_pings(Plan::on(100, &[memcached.node()]));
    let crowd = Crowd::gather(plan).await;
    crowd.all_on(&[&memcached], LONG).await;
    let looks = async || memcached.stat("cmd_touch").await;
    let looked = looks().await;
    until("it is looked at some more times", LONG, async || {
        looks().await >= looked + 3
    })
    .await;
    assert_eq!(crowd.logged("lost its data"), 0);
    assert_eq!(crowd.metrics.refilled.value(), 0);
    assert_eq!(crowd.logged("memcached refuses entries"), 1);

    // Once it has taken a sentinel, that it is gone means something.
    assert_eq!(memcached.ask("flush_all").await, "OK");
    crowd.all_on(&[&memcached], LONG).await;
    assert_eq!(memcached.ask("flush_all").await, "OK");
    until("the loss is noticed", LONG, async || {
        crowd.logged("lost its data") == 1
    })
    .await;
    crowd.all_on(&[&memcached], LONG).await;
}

/// A key as long as a sentinel's.
fn filling(number: usize) -> String {
    format!("presenced:filling:{number:017}")
}

#[tokio::test]
async fn after_restarts_at_random_memcached_has_exactly_who_is_here() {
    restarts_at_random(WriteCommand::Set).await;
}

#[tokio::test]
async fn after_restarts_at_random_memcached_has_exactly_who_was_written_quietly() {
    restarts_at_random(WriteCommand::Ms).await;
}

async fn restarts_at_random(command: WriteCommand) {
    let mut nodes = three().await;
    let plan = Plan::on(users(), &names(&nodes));
    let crowd = Crowd::gather(by(command, plan)).await;
    let mut random = fastrand::Rng::with_seed(7);
    let (restarts, mut memory) = (number("FAULT_RESTARTS", 6), 0);
    for restart in 0..restarts {
        if restart == restarts / 10 {
            memory = rss::rss_bytes();
        }
        sleep(Duration::from_millis(random.u64(0..600))).await;
        nodes[random.usize(0..3)].restart().await;
    }
    assert_not_grown(memory);
    crowd.all_on(&nodes.each_ref(), LONG).await;
    let ring = ring(&nodes.each_ref());
    for (number, node) in nodes.iter().enumerate() {
        let is_its = |user: &&String| usize::from(ring.node_of(key(user).as_bytes())) == number;
        let its: Vec<_> = crowd.users.iter().filter(is_its).cloned().collect();
        assert_eq!(node.count_online_of_many(&its).await, its.len());
        // And the sentinel and the marker, nothing else.
        until("nothing else is there", LONG, async || {
            node.stat("curr_items").await == its.len() as u64 + 2
        })
        .await;
    }
}

/// A libmemcached that ejects nodes which are away: one client all the time.
struct Reader {
    process: Child,
    counts: Lines<BufReader<ChildStdout>>,
}

impl Reader {
    fn of(users: usize, nodes: &[String]) -> Reader {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join("target/venv/bin/python");
        let mut process = Command::new(python)
            .arg(root.join("tests/it/readers/libmemcached.py"))
            .arg(users.to_string())
            .args(nodes)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("this test needs target/venv (make setup)");
        let counts = BufReader::new(process.stdout.take().unwrap()).lines();
        Reader { process, counts }
    }

    /// How many users it finds now.
    async fn count(&mut self) -> usize {
        self.process
            .stdin
            .as_mut()
            .unwrap()
            .write_all(b"\n")
            .await
            .unwrap();
        let count = self.counts.next_line().await.unwrap();
        count
            .expect("the reader has ended (make setup)")
            .parse()
            .unwrap()
    }
}

async fn three() -> [Memcached; 3] {
    [
        Memcached::start().await,
        Memcached::start().await,
        Memcached::start().await,
    ]
}

fn names(nodes: &[Memcached]) -> Vec<String> {
    nodes.iter().map(Memcached::node).collect()
}

fn ring(nodes: &[&Memcached]) -> Ring {
    let members = nodes.iter().zip(0..).map(|(node, number)| Member {
        name: node.node().parse::<NodeSpec>().unwrap().addr.ring_name(),
        weight: 1,
        node: number,
    });
    Ring::new(RingKind::Ketama, &members.collect::<Vec<_>>())
}
