//! GTID sets of MySQL: they come from a server.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| systole_mysql::parsers::mysql_set(text));
