//! Replies in the protocol of Redis: they come from whoever listens on the socket.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| systole_redis::parsers::replies(bytes));
