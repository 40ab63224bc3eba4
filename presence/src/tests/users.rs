use std::collections::HashSet;
use std::sync::Arc;

use presenced_session::slab::SessionKey;

use crate::limits::SHARDS;
use crate::users::{Hasher, Live};
use crate::{Pending, SessionId, Slot, UserId, Users};

fn id(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

fn live(number: u32) -> Live {
    Live {
        connected_at_ms: u64::from(number),
        session: SessionId {
            worker: 0,
            key: SessionKey {
                index: number,
                generation: 0,
            },
        },
    }
}

fn users(sessions_max: usize) -> (Arc<Pending>, Users) {
    let pending = Arc::new(Pending::new());
    (
        pending.clone(),
        Users::new(pending, sessions_max, Hasher::random()),
    )
}

fn rendered(users: &Users, slot: Slot, now_s: u32) -> Option<(String, u64)> {
    let mut seen = None;
    users.render(slot.shard(), &[slot.index()], now_s, |_, due| {
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
    users.disconnect(first.slot, live(1).session);
    assert_eq!(users.online_since(&id("a")), Some(2));
    assert_eq!(rendered(&users, first.slot, 0), Some(("a".into(), 2)));
    users.disconnect(first.slot, live(2).session);
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
    users.disconnect(third.slot, live(1).session);
    users.disconnect(third.slot, live(2).session);
    assert_eq!(users.online_since(&id("a")), Some(3));
}

#[test]
fn a_user_without_a_session_is_not_rendered_and_their_heartbeat_goes_with_the_slot() {
    let (pending, users) = users(2);
    let slot = users.connect(&id("a"), live(1), |_| 0).slot;
    pending.record(slot);
    users.disconnect(slot, live(1).session);
    assert_eq!(rendered(&users, slot, 0), None, "another may have them");
    assert_eq!(users.node(slot), Some(0), "the slot is theirs still");
    users.reap(slot.shard());
    assert_eq!(users.node(slot), None, "freed");
    assert!(pending.is_empty());
}

#[test]
fn a_user_who_comes_back_is_rendered_with_what_was_pending() {
    let (pending, users) = users(2);
    let slot = users.connect(&id("a"), live(1), |_| 0).slot;
    pending.record(slot);
    users.disconnect(slot, live(1).session);
    assert_eq!(users.connect(&id("a"), live(2), |_| 0).slot, slot);
    users.reap(slot.shard());
    assert!(pending.contains(slot));
    assert_eq!(rendered(&users, slot, 0), Some(("a".into(), 2)));
}

#[test]
fn who_comes_back_keeps_the_slot_and_is_reaped_once() {
    let (pending, users) = users(2);
    let slot = users.connect(&id("a"), live(1), |_| 0).slot;
    users.disconnect(slot, live(1).session);
    assert_eq!(users.connect(&id("a"), live(2), |_| 0).slot, slot);
    users.disconnect(slot, live(2).session);
    assert_eq!(users.connect(&id("a"), live(3), |_| 0).slot, slot);
    users.reap(slot.shard());
    assert_eq!(users.online_since(&id("a")), Some(3));
    users.disconnect(slot, live(3).session);
    users.reap(slot.shard());
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
            users.disconnect(slot, live(n).session);
        }
        for shard in 0..SHARDS {
            users.reap(shard);
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
    users.disconnect(slot, live(2).session);
    users.reap(slot.shard());
    // It does not know yet that it was replaced.
    pending.record(slot);
    assert_eq!(users.node(slot), Some(0), "kept");
    assert_eq!(rendered(&users, slot, 0), None, "but not written");
    users.disconnect(slot, live(1).session);
    users.reap(slot.shard());
    assert_eq!(users.node(slot), None, "freed");
    assert!(pending.is_empty());
}

#[test]
fn no_slot_changes_hands_while_a_flight_is_under_way() {
    let (_, users) = users(1);
    let slot = users.connect(&id("a"), live(1), |_| 0).slot;
    let guard = users.slot_guard(slot.shard());
    let second = guard.clone();
    users.disconnect(slot, live(1).session);
    drop(guard);
    users.reap(slot.shard());
    assert_eq!(users.node(slot), Some(0), "kept by the second");
    drop(second);
    users.reap(slot.shard());
    assert_eq!(users.node(slot), None, "freed");
}

#[test]
fn a_session_that_a_drain_wants_to_close_stays_while_a_flight_is_under_way() {
    let (_, users) = users(1);
    let slot = users.connect(&id("a"), live(1), |_| 0).slot;
    let guard = users.slot_guard(slot.shard());
    assert!(!users.try_disconnect(slot, live(1).session));
    assert_eq!(users.online_since(&id("a")), Some(1));
    drop(guard);
    assert!(users.try_disconnect(slot, live(1).session));
    assert_eq!(users.online_since(&id("a")), None);
}

#[test]
fn mark_all_marks_who_is_here() {
    let (pending, users) = users(1);
    let here = users.connect(&id("here"), live(1), |_| 0).slot;
    let gone = users.connect(&id("gone"), live(2), |_| 0).slot;
    users.disconnect(gone, live(2).session);
    users.mark_all();
    assert!(pending.contains(here) && !pending.contains(gone));
}
