//! See `presenced_fuzz::checks::settings_file`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| presenced_fuzz::checks::settings_file(data));
