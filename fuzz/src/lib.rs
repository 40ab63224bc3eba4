//! What the fuzz targets check, apart from libFuzzer.

pub mod checks;
