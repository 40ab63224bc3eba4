//! See `presenced_fuzz::checks::worker_records`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| presenced_fuzz::checks::worker_records(data));
