use std::collections::HashSet;
use std::sync::Arc;

use crate::limits::SHARDS;
use crate::presence::users::Live;
use crate::presence::{Pending, SessionId, Slot, UserId, Users};

const TTL_S: u32 = 60;

fn id(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

fn live(number: u32) -> Live {
    Live {
        connected_at_ms: u64::from(number),
        session: SessionId {
            worker: 0,
            index: number,
            generation: 0,
        },
    }
}

fn users(sessions_max: usize) -> (Arc<Pending>, Users) {
    let pending = Arc::new(Pending::new());
    (pending.clone(), Users::new(pending, sessions_max))
}

fn rendered(users: &Users, slot: Slot, now_s: u32) -> Option<(String, u64)> {
    let mut seen = None;
    users.render(slot.shard(), &[slot.place()], now_s, TTL_S, |_, due| {
        seen = Some((due.user.to_string(), due.live.connected_at_ms));
    });
    seen
}

#[test]
fn sessions_of_a_user_share_a_slot_and_the_oldest_counts() {
    let (_, users) = users(10);
    let first = users.connect(&id("a"), live(1), |_| 7);
    let second = users.connect(&id("a"), live(2), |_| panic!("known already"));
    assert_eq!(first.slot, second.slot);
    assert_ne!(users.connect(&id("b"), live(3), |_| 0).slot, first.slot);
    assert_eq!(users.node(first.slot), Some(7));
    assert_eq!(users.len(), 2);
    assert_eq!(users.online_since(&id("a")), Some(1));
    users.disconnect(first.slot, live(1).session, 0);
    assert_eq!(users.online_since(&id("a")), Some(2));
    assert_eq!(rendered(&users, first.slot, 0), Some(("a".into(), 2)));
    users.disconnect(first.slot, live(2).session, 0);
    assert_eq!(users.online_since(&id("a")), None);
    assert_eq!(users.len(), 1);
}

#[test]
fn one_session_too_many_replaces_the_oldest() {
    let (_, users) = users(2);
    users.connect(&id("a"), live(1), |_| 0);
    assert_eq!(users.connect(&id("a"), live(2), |_| 0).replaced, None);
    let third = users.connect(&id("a"), live(3), |_| 0);
    assert_eq!(third.replaced, Some(live(1).session));
    assert_eq!(users.online_since(&id("a")), Some(2));
    // The replaced session reports its end later; that takes nothing from the others.
    users.disconnect(third.slot, live(1).session, 0);
    users.disconnect(third.slot, live(2).session, 0);
    assert_eq!(users.online_since(&id("a")), Some(3));
}

#[test]
fn a_slot_is_kept_until_its_heartbeat_is_flushed_or_too_old() {
    let (pending, users) = users(2);
    let slot = users.connect(&id("a"), live(1), |_| 0).slot;
    pending.record(slot);
    users.disconnect(slot, live(1).session, 100);
    users.reap(slot.shard(), 101, TTL_S);
    assert_eq!(
        rendered(&users, slot, 101),
        Some(("a".into(), 1)),
        "pending still"
    );
    pending.drain(slot.shard(), drop);
    users.reap(slot.shard(), 106, TTL_S);
    assert_eq!(rendered(&users, slot, 106), None, "freed");

    let slot = users.connect(&id("b"), live(2), |_| 0).slot;
    pending.record(slot);
    users.disconnect(slot, live(2).session, 200);
    assert_eq!(rendered(&users, slot, 259), Some(("b".into(), 2)));
    assert_eq!(rendered(&users, slot, 260), None, "a set would be a lie");
    users.reap(slot.shard(), 260, TTL_S);
    assert!(!pending.contains(slot));
}

#[test]
fn who_has_left_is_written_for_what_is_left_of_the_ttl() {
    let (pending, users) = users(2);
    let slot = users.connect(&id("a"), live(1), |_| 0).slot;
    pending.record(slot);
    let ttl_s = |now_s, ttl_s| {
        let mut seen = None;
        let places = [slot.place()];
        users.render(slot.shard(), &places, now_s, ttl_s, |_, due| {
            seen = Some(due.ttl_s);
        });
        seen
    };
    assert_eq!(ttl_s(1000, 60), Some(60), "all of it while here");
    users.disconnect(slot, live(1).session, 1000);
    assert_eq!(ttl_s(1000, 60), Some(60));
    assert_eq!(ttl_s(1001, 60), Some(59));
    assert_eq!(ttl_s(1059, 60), Some(1));
    assert_eq!(ttl_s(1060, 60), None, "0 would be for ever");
    assert_eq!(ttl_s(5000, 60), None);
    assert_eq!(ttl_s(1060, 70), Some(10), "a TTL lengthened meanwhile");
    assert_eq!(users.connect(&id("a"), live(2), |_| 0).slot, slot);
    assert_eq!(ttl_s(5000, 60), Some(60), "all of it when back");
}

#[test]
fn who_comes_back_keeps_the_slot_and_is_reaped_once() {
    let (pending, users) = users(2);
    let slot = users.connect(&id("a"), live(1), |_| 0).slot;
    users.disconnect(slot, live(1).session, 0);
    assert_eq!(users.connect(&id("a"), live(2), |_| 0).slot, slot);
    users.disconnect(slot, live(2).session, 0);
    assert_eq!(users.connect(&id("a"), live(3), |_| 0).slot, slot);
    users.reap(slot.shard(), 1, TTL_S);
    assert_eq!(users.online_since(&id("a")), Some(3));
    users.disconnect(slot, live(3).session, 2);
    users.reap(slot.shard(), 3, TTL_S);
    assert_eq!(rendered(&users, slot, 3), None);
    assert!(users.is_empty() && pending.is_empty());
}

#[test]
fn freed_slots_are_used_again() {
    let (_, users) = users(1);
    let mut seen = HashSet::new();
    for round in 0..3 {
        let slots: Vec<_> = (0..1000)
            .map(|n| {
                users
                    .connect(&id(&format!("u{round}-{n}")), live(n), |_| 0)
                    .slot
            })
            .collect();
        assert_eq!(users.len(), 1000);
        seen.extend(slots.iter().copied());
        for (n, slot) in (0..).zip(slots) {
            users.disconnect(slot, live(n).session, 0);
        }
        for shard in 0..SHARDS {
            users.reap(shard, 0, TTL_S);
        }
    }
    assert!(
        seen.len() < 1500,
        "{} slots for 1000 users at a time",
        seen.len()
    );
}

#[test]
fn a_slot_is_kept_until_a_replaced_session_has_ended() {
    let (pending, users) = users(1);
    let slot = users.connect(&id("a"), live(1), |_| 0).slot;
    users.connect(&id("a"), live(2), |_| 0);
    users.disconnect(slot, live(2).session, 0);
    users.reap(slot.shard(), TTL_S, TTL_S);
    // It does not know yet that it was replaced.
    pending.record(slot);
    assert_eq!(users.node(slot), Some(0), "kept");
    assert_eq!(rendered(&users, slot, TTL_S), None, "but not written");
    users.disconnect(slot, live(1).session, 0);
    users.reap(slot.shard(), TTL_S, TTL_S);
    assert_eq!(users.node(slot), None, "freed");
    assert!(pending.is_empty());
}

#[test]
fn no_slot_changes_hands_while_a_flight_is_under_way() {
    let (_, users) = users(1);
    let slot = users.connect(&id("a"), live(1), |_| 0).slot;
    let flight = users.flight(slot.shard());
    let second = flight.clone();
    users.disconnect(slot, live(1).session, 0);
    drop(flight);
    users.reap(slot.shard(), TTL_S, TTL_S);
    assert_eq!(users.node(slot), Some(0), "kept by the second");
    drop(second);
    users.reap(slot.shard(), TTL_S, TTL_S);
    assert_eq!(users.node(slot), None, "freed");
}

#[test]
fn mark_all_marks_who_is_here() {
    let (pending, users) = users(1);
    let here = users.connect(&id("here"), live(1), |_| 0).slot;
    let gone = users.connect(&id("gone"), live(2), |_| 0).slot;
    users.disconnect(gone, live(2).session, 0);
    users.mark_all();
    assert!(pending.contains(here) && !pending.contains(gone));
}
