//! See `presenced_protocol_fuzz::checks::exchange`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| presenced_protocol_fuzz::checks::exchange(data));
