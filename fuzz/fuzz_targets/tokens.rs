//! See `presenced_fuzz::checks::tokens`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| presenced_fuzz::checks::tokens(data));
