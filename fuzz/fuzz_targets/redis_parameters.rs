//! The parameters of a Redis: an operator types them.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| systole_redis::parsers::parameters(text));
