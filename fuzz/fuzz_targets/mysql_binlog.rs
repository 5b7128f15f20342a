//! Binary logs: the server's account writes them, and an agent that is root reads them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| systole_mysql::parsers::binary_log(bytes));
