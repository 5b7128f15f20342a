//! The MySQL agent's record in the CIB: an operator may have typed it.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| systole_mysql::parsers::record(text));
