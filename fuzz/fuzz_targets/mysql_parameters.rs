//! The parameters of a MySQL: an operator types them.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| systole_mysql::parsers::parameters(text));
