//! The flush as a whole, in virtual time.

use std::sync::Arc;
use std::time::Duration;

use presenced_memcached::Cluster;
use presenced_session::clock::Clock;
use presenced_session::slab::SessionKey;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{Flusher, Presence};
use crate::users::Live;
use crate::{Config, Record, SessionId, Slot, UserId};

const PERIOD: Duration = Duration::from_secs(5);

fn presence(cluster: Arc<Cluster>) -> Arc<Presence> {
    let config = Config::new(Record::new("{userId}", "edge-1", 0, 1).unwrap());
    Presence::new(&config, cluster, Clock::start(), Arc::default()).into()
}

fn connect(presence: &Presence, number: u32) -> Slot {
    let live = Live {
        connected_at_ms: 1,
        session: SessionId {
            worker: 0,
            key: SessionKey {
                index: number,
                generation: 0,
            },
        },
    };
    let user = UserId::new(&format!("u{number}")).unwrap();
    presence.connect(&user, live).slot
}

#[tokio::test(start_paused = true)]
async fn with_the_last_flush_the_regular_flush_is_over() {
    // Without a node, each flush gives a pending user back, and counts that.
    let presence = presence(Cluster::new([], Default::default()).into());
    let restored = || presence.metrics().restored.value();
    let slot = connect(&presence, 0);
    let mut tasks = JoinSet::new();
    let flusher = Flusher::start(&presence, 0, 1, &mut tasks);
    tasks.spawn(flusher.clone().run(PERIOD));
    presence.pending().record(slot);
    sleep(PERIOD * 3).await;
    assert!(restored() >= 2, "{}", restored());

    presence.begin_last_flush(30);
    // A turn that is due at this very moment is still had.
    sleep(Duration::from_millis(1)).await;
    let before = restored();
    sleep(PERIOD * 3).await;
    assert_eq!(restored(), before);
    assert_eq!(presence.pending().len(), 1);
    assert!(!flusher.flush_all().await);
    assert!(restored() > before, "what is left to do is done");
}
