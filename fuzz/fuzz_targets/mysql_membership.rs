//! Who acknowledges, as other nodes publish it.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| systole_mysql::parsers::membership(text));
