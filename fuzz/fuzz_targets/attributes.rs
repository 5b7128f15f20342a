//! What `attrd_updater --query --all` prints.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| pacemaker::parsers::attributes(text));
