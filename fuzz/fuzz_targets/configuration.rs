//! Server configurations: they come from an operator.
//!
//! ```text
//! cargo install cargo-fuzz
//! cargo +nightly fuzz run configuration -- -max_total_time=60     # from the directory above `fuzz`
//! ```
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| systole_redis::parsers::configuration(text));
