//! One value that many read and that is replaced as a whole, seldom.

use std::sync::{Arc, PoisonError, RwLock};

/// What is in force now. Whoever takes it keeps it for as long as a piece of work lasts, so that all of that goes by
/// the same.
#[derive(Debug, Default)]
pub struct Swap<T>(RwLock<Arc<T>>);

impl<T> Swap<T> {
    /// With `value` in force.
    pub fn new(value: T) -> Swap<T> {
        Swap(RwLock::new(Arc::new(value)))
    }

    /// What is in force. Cheap: a lock is held while a pointer is copied.
    pub fn get(&self) -> Arc<T> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Puts `value` in force.
    pub fn set(&self, value: T) {
        let mut place = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *place, Arc::new(value));
        drop(place);
        // Not under the lock, as it may be large.
        drop(before);
    }
}
