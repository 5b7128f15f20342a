//! The parameters of an address: an operator types them.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| systole_address::parsers::parameters(text));
