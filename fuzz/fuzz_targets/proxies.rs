//! See `presenced_fuzz::checks::proxies`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| presenced_fuzz::checks::proxies(data));
