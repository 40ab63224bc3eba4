//! What a node is asked in one go: the keys of users of several pulls, each once.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use presenced_presence::users::Hasher;
use presenced_presence::{Record, UserId};
use presenced_protocol::Key;

/// Keys, and who waits for what is found.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) keys: Keys,
    pub(super) waiters: Vec<Waiter>,
    /// The places of the keys, by their hash.
    places: HashTable<u32>,
}

/// A user of a pull whose answer is that of a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    /// Which of the keys.
    pub(super) key: u32,
    /// The number of the pull.
    pub(super) question: u64,
    /// Which of its users.
    pub(super) user: u16,
}

/// Keys, in one piece.
#[derive(Debug, Default)]
pub(super) struct Keys {
    text: Vec<u8>,
    ends: Vec<u32>,
}

impl Keys {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, place: usize) -> &[u8] {
        let start = match place {
            0 => 0,
            place => self.ends[place - 1],
        };
        &self.text[start as usize..self.ends[place] as usize]
    }

    /// User ids make legal keys.
    pub(super) fn all(&self) -> impl Iterator<Item = Key<'_>> {
        (0..self.len()).flat_map(|place| Key::new(self.get(place)))
    }
}

impl Round {
    /// Asks for a user, once however many wait.
    pub(super) fn add(
        &mut self,
        record: &Record,
        hasher: &Hasher,
        user: &UserId,
        (question, index): (u64, u16),
    ) {
        let Round { keys, places, .. } = self;
        let start = keys.text.len();
        record.append_key(&mut keys.text, user);
        let hash = hasher.hash_one(&keys.text[start..]);
        let known = places.find(hash, |&place| {
            keys.get(place as usize) == &keys.text[start..]
        });
        let key = match known {
            Some(&known) => {
                keys.text.truncate(start);
                known
            }
            None => {
                let new = keys.len() as u32;
                keys.ends.push(keys.text.len() as u32);
                let keys = &self.keys;
                self.places.insert_unique(hash, new, |&place| {
                    hasher.hash_one(keys.get(place as usize))
                });
                new
            }
        };
        self.waiters.push(Waiter {
            key,
            question,
            user: index,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_is_asked_for_once() {
        let record = Record::new("user:{userId}:online", "s", 0, 1).unwrap();
        let (mut round, hasher) = (Round::default(), Hasher::default());
        for (number, id) in ["a", "b", "a", "c", "b"].iter().enumerate() {
            let user = UserId::new(id).unwrap();
            round.add(&record, &hasher, &user, (number as u64, 7));
        }
        let keys: Vec<_> = round
            .keys
            .all()
            .map(|key| key.as_bytes().to_vec())
            .collect();
        assert_eq!(
            keys,
            ["a", "b", "c"].map(|id| format!("user:{id}:online").into_bytes())
        );
        let waiters = round.waiters.iter();
        let waiters: Vec<_> = waiters
            .map(|waiter| (waiter.key, waiter.question))
            .collect();
        assert_eq!(waiters, [(0, 0), (1, 1), (0, 2), (2, 3), (1, 4)]);
    }
}
