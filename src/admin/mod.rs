//! For operators: metrics and health, on a listener of their own.

pub mod prometheus;
pub mod routes;
