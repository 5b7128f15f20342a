//! What neighbours send: anybody in the network can.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| systole_address::parsers::neighbours(bytes));
