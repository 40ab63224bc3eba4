//! How presenced's servers listen: listeners that threads share, one each, and how these accept.

mod accept_pause;
mod accepting;
pub mod limits;
mod listeners;

pub use self::{
    accepting::Accepting,
    listeners::{tcp, unix},
};
