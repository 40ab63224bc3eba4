//! A fleet in one thread and in virtual time, with faults at random: nobody who is online is called
//! offline. A seed repeats its run: `SEED=17 cargo test --test it -- simulation`, and `SEEDS=2000` tries
//! that many of each kind.

mod checks;
mod excuses;
mod faults;
mod kind;
mod run;

use std::fmt::Write;
use std::time::Duration;

use presenced_memcached::OnFailure;
use presenced_presence::UserId;
use presenced_presence::limits::REFILL_RATE;
use presenced_testkit::fleet::{Edge, Fleet};
use presenced_testkit::simulation::{LINK_DELAY, Simulation};
use tokio::runtime::Builder;

use self::faults::{FAULTS, Fault};
use self::kind::Kind;
use self::run::Run;

const EDGES: u64 = 3;

/// Nodes that run.
const NODES: u8 = 4;

/// Nodes on the edges' lists at first.
const LISTED: u8 = 3;

/// How long a run lasts.
const RUN: Duration = Duration::from_secs(300);

/// One in so many steps begins a fault, so that markers are whole again at times.
const STEPS_TO_FAULT: u32 = 100;

/// When the last faults end: what was broken must then be whole again.
const FAULTS_END: Duration = Duration::from_secs(220);

/// How often every edge is asked for every user.
const ASK_INTERVAL: Duration = Duration::from_millis(500);

/// After how many questions it is looked at what was written, and whether each user is stored or pending.
const ASKS_PER_LOOK_AT_DEBTS: u32 = 2;

/// After how many questions all entries on the nodes are looked at, a multiple of the above.
const ASKS_PER_LOOK: u32 = 8;

/// Users that an edge writes again in a second where refills are slower than looks.
const SLOW_REFILL_RATE: u32 = 1;

/// How far nodes are where they are far: another region.
const FAR: Duration = Duration::from_millis(100);

/// What was wrong in a run, and all that happened. With `to_the_end` it goes on after something was.
fn run(seed: u64, kind: Kind<'_>, to_the_end: bool) -> (Vec<String>, Vec<String>) {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(async {
        let mut run = Run::start(seed, kind).await;
        let mut asks = 0;
        while run.started.elapsed() < RUN && (run.wrong.is_empty() || to_the_end) {
            let is_calm = kind.is_calm && !run.active.is_empty();
            if run.random.u8(..4) == 0 && !is_calm {
                run.move_a_user();
            }
            if run.started.elapsed() > FAULTS_END {
                run.end_all().await;
            } else if !kind.faults.is_empty() {
                let steps = match run.active.first() {
                    None => STEPS_TO_FAULT,
                    Some(active) => kind.steps_to_end(active.fault),
                };
                if run.random.u32(..steps) == 0 {
                    run.begin_or_end().await;
                }
            }
            run.pass(ASK_INTERVAL).await;
            run.judge().await;
            asks += 1;
            if asks % ASKS_PER_LOOK_AT_DEBTS == 0 {
                let entries = run.entries().await;
                run.look_at_writes(&entries);
                run.look_at_debts(&entries);
                if asks % ASKS_PER_LOOK == 0 {
                    run.look_at_entries(&entries);
                    run.look_at_bounds();
                }
            }
        }
        (run.wrong, run.fleet.simulation.events())
    })
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

/// Tries seeds, and shows the run of the first in which something is wrong.
fn try_seeds(kind: Kind<'_>) {
    let seeds = match number("SEED", u64::MAX) {
        u64::MAX => 0..number("SEEDS", 1),
        seed => seed..seed + 1,
    };
    for seed in seeds {
        let (wrong, events) = run(seed, kind, false);
        if !wrong.is_empty() {
            let mut story = String::new();
            for event in events.iter().rev().take(80).rev() {
                writeln!(story, "{event}").unwrap();
            }
            panic!("{story}SEED={seed}, {kind:?}: {wrong:#?}");
        }
    }
}

/// Tries seeds with one fault at a time.
fn try_faults(faults: &[Fault]) {
    try_seeds(Kind::of(faults));
}

#[test]
fn users_who_come_move_and_leave_are_seen_where_they_are() {
    try_faults(&[]);
}

#[test]
fn nobody_is_called_offline_while_links_are_cut_or_slow() {
    try_faults(&[Fault::Cut, Fault::Slow]);
}

#[test]
fn nobody_is_called_offline_while_an_edge_or_a_node_is_cut_off() {
    try_faults(&[Fault::CutEdge, Fault::CutNode]);
}

#[test]
fn nobody_is_called_offline_while_writes_are_held_and_users_come() {
    try_faults(&[Fault::HoldWrites]);
}

#[test]
fn nobody_is_called_offline_while_writes_are_held_and_nobody_comes() {
    try_seeds(Kind {
        is_calm: true,
        ..Kind::of(&[Fault::HoldWrites])
    });
}

#[test]
fn a_reply_that_is_lost_or_comes_twice_makes_nobody_offline() {
    try_faults(&[Fault::Garble]);
}

#[test]
fn an_edge_that_stands_still_makes_nobody_offline() {
    try_faults(&[Fault::Pause]);
}

#[test]
fn a_wall_clock_that_is_set_changes_when_users_connected_and_nothing_else() {
    try_faults(&[Fault::ClockJump]);
}

#[test]
fn a_node_that_is_restarted_makes_nobody_offline() {
    try_faults(&[Fault::Restart]);
}

#[test]
fn flush_all_makes_nobody_offline() {
    try_faults(&[Fault::FlushAll]);
}

#[test]
fn flush_all_with_a_delay_makes_nobody_offline() {
    try_faults(&[Fault::DelayedFlush]);
}

#[test]
fn a_node_that_evicts_makes_nobody_offline() {
    try_faults(&[Fault::Evict]);
}

#[test]
fn lists_of_nodes_that_change_one_after_the_other_make_nobody_offline() {
    try_faults(&[Fault::RingChange]);
}

#[test]
fn users_of_an_edge_that_ends_come_back_and_a_new_edge_knows_all() {
    try_faults(&[Fault::EdgeRestart]);
}

#[test]
fn a_new_edge_takes_no_loss_for_an_answer() {
    let faults = [Fault::EdgeRestart, Fault::FlushAll, Fault::Restart];
    try_seeds(Kind::two_of(&faults));
}

#[test]
fn a_node_that_takes_no_more_connections_makes_nobody_offline() {
    try_faults(&[Fault::Refuse]);
}

#[test]
fn an_answer_that_comes_once_more_is_taken_for_no_other() {
    try_faults(&[Fault::Stale]);
}

#[test]
fn cuts_that_are_longer_than_a_ttl_make_nobody_offline() {
    try_seeds(Kind::of(&[Fault::Cut, Fault::CutEdge]).long());
}

#[test]
fn losses_while_links_are_cut_make_nobody_offline() {
    let faults = [Fault::Cut, Fault::CutEdge, Fault::FlushAll, Fault::Restart];
    try_seeds(Kind::two_of(&faults).long());
}

#[test]
fn lists_that_change_while_edges_are_cut_off_make_nobody_offline() {
    let faults = [Fault::RingChange, Fault::Cut, Fault::Pause];
    try_seeds(Kind::two_of(&faults).long());
}

#[test]
fn lists_that_change_far_from_the_nodes_make_nobody_offline() {
    try_seeds(Kind {
        link_delay: FAR,
        ..Kind::of(&[Fault::RingChange])
    });
}

#[test]
fn lists_that_share_no_node_make_nobody_offline() {
    try_faults(&[Fault::ListSwap]);
}

#[test]
fn an_edge_without_users_believes_no_loss_while_others_write_again() {
    try_seeds(Kind {
        has_observer: true,
        refill_rate: SLOW_REFILL_RATE,
        ..Kind::of(&[Fault::FlushAll, Fault::DelayedFlush, Fault::Restart])
    });
}

#[test]
fn writes_that_are_held_from_a_loss_on_make_nobody_offline() {
    let faults = [Fault::HoldWrites, Fault::FlushAll, Fault::Refuse];
    try_seeds(Kind {
        has_observer: true,
        refill_rate: SLOW_REFILL_RATE,
        ..Kind::two_of(&faults).long()
    });
}

#[test]
fn a_drain_makes_nobody_offline() {
    try_faults(&[Fault::Drain]);
}

#[test]
fn two_faults_at_once_make_nobody_offline() {
    try_seeds(Kind::two_of(&FAULTS));
}

#[test]
fn a_seed_repeats_its_run_event_by_event() {
    let kind = Kind::two_of(&FAULTS);
    let once = run(1, kind, true);
    assert_eq!(once, run(1, kind, true));
    assert_ne!(once.1, run(2, kind, true).1);
}

/// What one edge with `nodes` nodes goes through.
fn alone<T>(nodes: u8, on_failure: OnFailure, live: impl AsyncFnOnce(&mut Fleet) -> T) -> T {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(async {
        let mut fleet = Fleet::new(Simulation::with_nodes(nodes));
        let nodes: Vec<_> = (0..nodes).collect();
        let edge = Edge::start(&fleet.simulation, 0, 1, &nodes, on_failure, REFILL_RATE).await;
        fleet.edges.insert(0, edge);
        fleet.pass(Duration::from_secs(2)).await;
        live(&mut fleet).await
    })
}

#[test]
fn a_node_that_comes_and_goes_stays_off_the_ring_ever_longer() {
    let changes = alone(2, OnFailure::Eject, async |fleet| {
        for _ in 0..30 {
            fleet.simulation.kill(1);
            fleet.pass(Duration::from_secs(5)).await;
            fleet.simulation.start(1);
            fleet.pass(Duration::from_secs(5)).await;
        }
        let cluster = fleet.edges[&0].presence().cluster().clone();
        let changes = cluster.topology().version();
        fleet.pass(Duration::from_secs(130)).await;
        let is_back = cluster
            .topology()
            .nodes()
            .iter()
            .all(|node| !node.is_ejected());
        assert!(is_back, "it has held");
        changes
    });
    // Off, on, and off for good: it never holds for the 6 s that the second time takes.
    assert!(
        (1..=4).contains(&changes),
        "the ring changed {changes} times in five minutes"
    );
}

#[test]
fn the_end_of_an_idle_connection_delays_nobody() {
    alone(1, OnFailure::Wait, async |fleet| {
        for number in 0..20 {
            fleet.pass(Duration::from_secs(6)).await;
            fleet.simulation.hang_up(0);
            // Time for the next connection, and no more.
            fleet.pass(Duration::from_millis(15)).await;
            let user = UserId::new(&format!("u{number}")).unwrap();
            fleet.connect(&user, 0);
            fleet.pass(Duration::from_millis(15)).await;
            let get = format!("get user:{user}:online");
            let found = fleet.simulation.command(0, &get).await.unwrap();
            assert!(found.contains("edge-0"), "{user} is written at once");
        }
    });
}

#[test]
fn users_who_connect_while_a_connection_is_made_anew_wait_for_it() {
    alone(1, OnFailure::Wait, async |fleet| {
        for number in 0..20 {
            fleet.pass(Duration::from_secs(6)).await;
            fleet.simulation.hang_up(0);
            // The end has come, and the next connection is under way.
            fleet.pass(LINK_DELAY * 2).await;
            let user = UserId::new(&format!("u{number}")).unwrap();
            fleet.connect(&user, 0);
            fleet.pass(LINK_DELAY * 20).await;
            let get = format!("get user:{user}:online");
            let found = fleet.simulation.command(0, &get).await.unwrap();
            assert!(found.contains("edge-0"), "{user} has waited");
        }
    });
}
