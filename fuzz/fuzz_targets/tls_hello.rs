//! See `presenced_fuzz::checks::tls_hello`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| presenced_fuzz::checks::tls_hello(data));
