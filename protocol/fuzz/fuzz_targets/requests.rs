//! See `presenced_protocol_fuzz::checks::requests`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| presenced_protocol_fuzz::checks::requests(data));
