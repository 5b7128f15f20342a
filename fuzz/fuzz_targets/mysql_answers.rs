//! Variables and state of replication: they come from a server.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| systole_mysql::parsers::answers(text));
