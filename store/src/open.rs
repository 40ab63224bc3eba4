//! Connections are counted, and there is a limit on how many are open.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::store::Store;

/// One open connection, counted while this lives.
#[derive(Debug)]
pub(super) struct Open {
    store: Arc<Store>,
}

impl Open {
    /// `None` if there are as many as there may be.
    pub(super) fn new(store: &Arc<Store>) -> Option<Open> {
        let connections = &store.connections;
        let max = u64::from(store.options().connections_max);
        if connections.open.fetch_add(1, Ordering::Relaxed) >= max {
            connections.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        connections.total.fetch_add(1, Ordering::Relaxed);
        Some(Open {
            store: Arc::clone(store),
        })
    }

    pub(super) fn store(&self) -> &Arc<Store> {
        &self.store
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.store.connections.open.fetch_sub(1, Ordering::Relaxed);
    }
}
