//! Work of several askers, who take turns: one with much to do holds up itself, and nobody else.
//!
//! This is round robin with turns of [`TURN_USERS`] users; what is left of a pull waits for the
//! asker's next turn.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::VecDeque;

use hashbrown::HashMap;
use presenced_presence::users::Hasher;

use crate::limits::TURN_USERS;

/// Users of one pull that wait at one node.
#[derive(Debug)]
pub(super) struct Part {
    /// The number of the pull.
    pub(super) question: u64,
    /// Which of its users, the next one last.
    pub(super) users: Vec<u16>,
}

/// The parts that wait.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    askers: HashMap<u64, Waiting, Hasher>,
    /// Askers with something waiting, in the order of their turns.
    turns: VecDeque<u64>,
    users: usize,
}

/// What one asker waits for.
#[derive(Debug, Default)]
struct Waiting {
    parts: VecDeque<Part>,
    users: usize,
}

impl FairQueue {
    /// Users that wait.
    pub(super) fn users(&self) -> usize {
        self.users
    }

    /// Users that the asker with most of them waits for.
    pub(super) fn users_of_greediest(&self) -> usize {
        let all = self.askers.values();
        all.map(|waiting| waiting.users).max().unwrap_or_default()
    }

    /// Adds a part behind the asker's others.
    pub(super) fn add(&mut self, asker: u64, part: Part) {
        if part.users.is_empty() {
            return;
        }
        let waiting = self.askers.entry(asker).or_insert_with(|| {
            self.turns.push_back(asker);
            Waiting::default()
        });
        waiting.users += part.users.len();
        self.users += part.users.len();
        waiting.parts.push_back(part);
    }

    /// Takes users in turns until `take` has taken `max`; it says whether a user counts.
    pub(super) fn take(&mut self, max: usize, mut take: impl FnMut(u64, u16) -> bool) {
        let mut taken = 0;
        while taken < max
            && let Some(asker) = self.turns.pop_front()
        {
            let Some(waiting) = self.askers.get_mut(&asker) else {
                continue;
            };
            let turn_ends = (taken + TURN_USERS).min(max);
            while taken < turn_ends
                && let Some(part) = waiting.parts.front_mut()
            {
                let before = part.users.len();
                while taken < turn_ends
                    && let Some(user) = part.users.pop()
                {
                    taken += usize::from(take(part.question, user));
                }
                let done = before - part.users.len();
                waiting.users -= done;
                self.users -= done;
                if part.users.is_empty() {
                    waiting.parts.pop_front();
                }
            }
            if waiting.parts.is_empty() {
                self.askers.remove(&asker);
            } else {
                self.turns.push_back(asker);
            }
        }
    }

    /// The pull that was asked last by the asker with most waiting users.
    pub(super) fn last_of_greediest(&self) -> Option<u64> {
        let all = self.askers.values();
        let greediest = all.max_by_key(|waiting| {
            let last = waiting.parts.back().map(|part| part.question);
            (waiting.users, last)
        })?;
        Some(greediest.parts.back()?.question)
    }

    /// Takes out what waits of a pull.
    pub(super) fn remove(&mut self, asker: u64, question: u64) {
        let Some(waiting) = self.askers.get_mut(&asker) else {
            return;
        };
        let place = waiting
            .parts
            .iter()
            .rposition(|part| part.question == question);
        let Some(part) = place.and_then(|place| waiting.parts.remove(place)) else {
            return;
        };
        waiting.users -= part.users.len();
        self.users -= part.users.len();
        if waiting.parts.is_empty() {
            self.askers.remove(&asker);
            self.turns.retain(|waiting| *waiting != asker);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(question: u64, users: usize) -> Part {
        let users = (0..users as u16).rev().collect();
        Part { question, users }
    }

    fn taken(queue: &mut FairQueue, max: usize) -> Vec<(u64, u16)> {
        let mut taken = Vec::new();
        queue.take(max, |question, user| {
            taken.push((question, user));
            true
        });
        taken
    }

    #[test]
    fn a_small_pull_waits_for_one_turn_of_each_other() {
        let mut queue = FairQueue::default();
        for question in 0..40 {
            queue.add(1, part(question, 500));
            queue.add(2, part(100 + question, 500));
        }
        queue.add(3, part(200, 50));
        let taken = taken(&mut queue, 2 * TURN_USERS + 50);
        let of = |question| taken.iter().filter(|(of, _)| *of == question).count();
        assert_eq!((of(0), of(100), of(200)), (TURN_USERS, TURN_USERS, 50));
        // In the order of the pull.
        assert_eq!(taken[..2], [(0, 0), (0, 1)]);
    }

    #[test]
    fn who_does_not_count_costs_no_turn() {
        let mut queue = FairQueue::default();
        queue.add(1, part(1, 500));
        queue.add(2, part(2, 10));
        let mut counted = Vec::new();
        queue.take(20, |question, user| {
            let counts = question == 2 || user >= 490;
            if counts {
                counted.push(question);
            }
            counts
        });
        assert_eq!(counted, [[1; 10], [2; 10]].concat());
        assert_eq!(queue.users(), 0);
    }

    #[test]
    fn the_greediest_loses_what_it_asked_last() {
        let mut queue = FairQueue::default();
        queue.add(1, part(1, 100));
        queue.add(2, part(2, 80));
        queue.add(2, part(3, 80));
        assert_eq!(queue.users_of_greediest(), 160);
        for (asker, question) in [(2, 3), (1, 1), (2, 2)] {
            assert_eq!(queue.last_of_greediest(), Some(question));
            queue.remove(asker, question);
            queue.remove(asker, question);
        }
        assert_eq!((queue.last_of_greediest(), queue.users()), (None, 0));
        assert!(queue.turns.is_empty() && queue.askers.is_empty());
    }

    proptest! {
        /// Everything comes out once, each asker's in its order, and nobody waits for longer than a
        /// turn of each other.
        #[test]
        fn nothing_is_lost_and_turns_are_kept(
            parts in prop::collection::vec((0..5_u64, 0..700_usize), 1..30),
            rounds in prop::collection::vec(1..900_usize, 1..60),
        ) {
            let mut queue = FairQueue::default();
            let mut expected = Vec::new();
            for (number, (asker, users)) in parts.iter().enumerate() {
                let question = number as u64 * 10 + asker;
                queue.add(*asker, part(question, *users));
                expected.extend((0..*users as u16).map(|user| (question, user)));
            }
            let mut got = Vec::new();
            for max in rounds.into_iter().chain([usize::MAX]) {
                let before = queue.users();
                let taken = taken(&mut queue, max);
                prop_assert_eq!(taken.len(), before.min(max));
                got.extend(taken);
            }
            for asker in 0..5 {
                let of = |all: &[(u64, u16)]| -> Vec<_> {
                    all.iter().copied().filter(|(question, _)| question % 10 == asker).collect()
                };
                prop_assert_eq!(of(&got), of(&expected));
            }
            prop_assert_eq!(got.len(), expected.len());
            prop_assert_eq!(queue.users(), 0);
        }
    }
}
