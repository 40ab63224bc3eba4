//! How presenced's servers listen: listeners that threads share, one each.

pub mod limits;
mod listeners;

pub use self::listeners::{tcp, unix};
