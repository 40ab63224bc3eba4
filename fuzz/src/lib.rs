//! The checks of the fuzz targets, without libFuzzer.

pub mod checks;
