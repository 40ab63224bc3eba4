//! See `presenced_fuzz::checks::memcached_client`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| presenced_fuzz::checks::memcached_client(data));
