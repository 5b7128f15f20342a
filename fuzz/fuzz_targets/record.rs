//! The record in the CIB: an operator may have typed it.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| systole_redis::parsers::record(text));
