//! Published positions: they come from other nodes.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| systole_redis::parsers::position(text));
