//! What Pacemaker's daemons answer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pacemaker::parsers::answers(bytes));
