//! See `presenced_fuzz::checks::socketio_payload`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| presenced_fuzz::checks::socketio_payload(data));
