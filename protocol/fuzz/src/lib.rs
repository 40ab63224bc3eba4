//! The checks of the protocol's fuzz targets, without libFuzzer.

pub mod checks;
