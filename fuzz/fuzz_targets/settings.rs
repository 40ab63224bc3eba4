//! See `presenced_fuzz::checks::settings`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| presenced_fuzz::checks::settings(data));
