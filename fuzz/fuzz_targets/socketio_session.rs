//! See `presenced_fuzz::checks::socketio_session`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| presenced_fuzz::checks::socketio_session(data));
