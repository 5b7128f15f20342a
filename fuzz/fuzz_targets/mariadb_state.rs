//! GTID states of MariaDB: they come from a server.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| systole_mysql::parsers::mariadb_state(text));
