//! For operators: [`metrics`] and [`health`], on a listener of their own.

pub mod health;
pub mod metrics;
