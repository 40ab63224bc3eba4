//! See `presenced_fuzz::checks::tls_records`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| presenced_fuzz::checks::tls_records(data));
