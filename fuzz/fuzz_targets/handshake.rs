//! See `presenced_fuzz::checks::handshake`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| presenced_fuzz::checks::handshake(data));
