//! INFO replies: they come from a server, which may be any program that listens on the socket.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| systole_redis::parsers::info(text));
