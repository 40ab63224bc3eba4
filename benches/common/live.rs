//! Sessions for entries.

use presenced_presence::SessionId;
use presenced_presence::users::Live;
use presenced_session::slab::SessionKey;

/// A session with this index on the first worker, and when it connected.
pub fn live(index: u32) -> Live {
    Live {
        connected_at_ms: 1_234_567_890_123,
        session: SessionId {
            worker: 0,
            key: SessionKey {
                index,
                generation: 0,
            },
        },
    }
}
