//! Published positions of the MySQL agent: they come from other nodes.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| systole_mysql::parsers::position(text));
