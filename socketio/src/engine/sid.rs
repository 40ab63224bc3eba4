//! The ids of sessions. An Engine.IO `sid` says where its session lives and proves that the server
//! has said so; there is no table of them. Who knows it owns the session, so it can't be guessed, it
//! is never logged, and it is never the Socket.IO `sid`, which apps show to others.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Where a session lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// The worker.
    pub worker: u16,
    /// The entry in the worker's slab.
    pub index: u32,
    /// How many sessions the entry had before.
    pub generation: u32,
}

const PLACE_BYTES: usize = 10;

/// Bytes of the MAC: 112 bits, so that all of it fills whole characters, and an id has only one
/// spelling.
const TAG_BYTES: usize = 14;

const SID_BYTES: usize = PLACE_BYTES + TAG_BYTES;

/// Characters of an Engine.IO `sid`.
const SID_CHARS: usize = SID_BYTES / 3 * 4;

/// Bytes of a Socket.IO `sid`, 20 characters.
const SOCKET_ID_BYTES: usize = 15;

impl Place {
    fn to_bytes(self) -> [u8; PLACE_BYTES] {
        let mut bytes = [0; PLACE_BYTES];
        bytes[..2].copy_from_slice(&self.worker.to_be_bytes());
        bytes[2..6].copy_from_slice(&self.index.to_be_bytes());
        bytes[6..].copy_from_slice(&self.generation.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: [u8; PLACE_BYTES]) -> Place {
        let [w0, w1, i0, i1, i2, i3, g0, g1, g2, g3] = bytes;
        Place {
            worker: u16::from_be_bytes([w0, w1]),
            index: u32::from_be_bytes([i0, i1, i2, i3]),
            generation: u32::from_be_bytes([g0, g1, g2, g3]),
        }
    }
}

/// An Engine.IO `sid`: 32 characters of `A-Za-z0-9_-`. It is a secret, so it does not print itself.
#[derive(Clone, Copy)]
pub struct Sid([u8; SID_CHARS]);

impl Sid {
    /// As the client is told it.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sid(secret)")
    }
}

/// Makes and checks ids. All workers of a process have the same key; another process has another
/// one, so that it does not know their sessions.
#[derive(Clone)]
pub struct SidKey(Hmac<Sha256>);

impl fmt::Debug for SidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SidKey(secret)")
    }
}

impl SidKey {
    /// From 32 random bytes.
    pub fn new(key: &[u8; 32]) -> SidKey {
        // HMAC takes keys of any length, and so has no error here. A whole block is taken as it is.
        let mut block = [0; 64];
        block[..32].copy_from_slice(key);
        SidKey(Hmac::new(&block.into()))
    }

    /// The Engine.IO `sid` of a session.
    pub fn sid(&self, place: Place) -> Sid {
        let place = place.to_bytes();
        let mut bytes = [0; SID_BYTES];
        bytes[..PLACE_BYTES].copy_from_slice(&place);
        let tag = self.mac(b'e', &place).finalize().into_bytes();
        bytes[PLACE_BYTES..].copy_from_slice(&tag[..TAG_BYTES]);
        let mut text = [0; SID_CHARS];
        let written = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text);
        debug_assert_eq!(written, Ok(SID_CHARS));
        Sid(text)
    }

    /// Where the session lives that a client names; `None` if the server has given out no such id.
    /// The session may have ended. Takes the same time wherever a tag is wrong.
    pub fn place(&self, sid: &[u8]) -> Option<Place> {
        let mut bytes = [0; SID_BYTES];
        if sid.len() != SID_CHARS || URL_SAFE_NO_PAD.decode_slice(sid, &mut bytes) != Ok(SID_BYTES)
        {
            return None;
        }
        let (place, tag) = bytes.split_first_chunk::<PLACE_BYTES>()?;
        self.mac(b'e', place).verify_truncated_left(tag).ok()?;
        Some(Place::from_bytes(*place))
    }

    /// The Socket.IO `sid` of a session: 20 characters of `A-Za-z0-9_-`, which tell nothing of its
    /// Engine.IO `sid`. Further connections to namespaces, `number` 1 and up, have `-1` and so on
    /// behind it.
    pub fn socket_id(&self, place: Place, number: u32) -> String {
        let tag = self.mac(b's', &place.to_bytes()).finalize().into_bytes();
        let mut id = URL_SAFE_NO_PAD.encode(&tag[..SOCKET_ID_BYTES]);
        if number > 0 {
            id.push('-');
            id.push_str(itoa::Buffer::new().format(number));
        }
        id
    }

    fn mac(&self, purpose: u8, place: &[u8; PLACE_BYTES]) -> Hmac<Sha256> {
        self.0.clone().chain_update([purpose]).chain_update(place)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const PLACE: Place = Place {
        worker: 258,
        index: 0x0304_0506,
        generation: 0x0708_090a,
    };

    fn key() -> SidKey {
        SidKey::new(&[42; 32])
    }

    /// socket.io #2320: who guesses an id gets another's packets.
    #[test]
    fn an_id_with_one_character_changed_is_unknown() {
        let sid = key().sid(PLACE);
        assert_eq!(key().place(sid.as_str().as_bytes()), Some(PLACE));
        for at in 0..SID_CHARS {
            for other in 0..=u8::MAX {
                let mut text = sid.0;
                text[at] = other;
                let found = key().place(&text);
                assert_eq!(found.is_some(), other == sid.0[at], "{at} {other}");
            }
        }
        for bytes in [&b""[..], b"0", &sid.0[1..], &[b'A'; 33], &[0xff; 32]] {
            assert_eq!(key().place(bytes), None);
        }
        let other = SidKey::new(&[43; 32]);
        assert_eq!(other.place(&sid.0), None, "another process's");
    }

    /// socketioxide 0.18 has one id for both.
    #[test]
    fn the_id_that_others_see_tells_nothing_of_the_secret_one() {
        let (sid, shown) = (key().sid(PLACE), key().socket_id(PLACE, 0));
        assert_eq!(shown.len(), 20);
        assert!(!sid.as_str().contains(&shown[..6]));
        assert_eq!(key().socket_id(PLACE, 2), format!("{shown}-2"));
        assert_eq!(key().place(shown.as_bytes()), None);
    }

    #[test]
    fn no_secret_is_printed() {
        let sid = key().sid(PLACE);
        let printed = format!("{sid:?} {:?}", key());
        assert_eq!(printed, "Sid(secret) SidKey(secret)");
    }

    #[test]
    fn each_generation_has_ids_of_its_own() {
        let places = (0..1000).map(|generation| Place {
            generation,
            ..PLACE
        });
        let ids = places.flat_map(|place| {
            [
                key().sid(place).as_str().to_owned(),
                key().socket_id(place, 0),
            ]
        });
        assert_eq!(ids.collect::<HashSet<_>>().len(), 2000);
    }

    proptest! {
        /// socket.io #1739 and many more: a request that came to another worker knew no session.
        #[test]
        fn an_id_leads_to_its_place(worker: u16, index: u32, generation: u32, key: [u8; 32]) {
            let place = Place { worker, index, generation };
            let sid = SidKey::new(&key).sid(place);
            prop_assert_eq!(SidKey::new(&key).place(sid.as_str().as_bytes()), Some(place));
            prop_assert_eq!(sid.as_str().len(), 32);
            prop_assert!(sid.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'));
        }
    }
}
