//! Which runs have begun: a file in a directory of the job's user.
#![no_main]

use systole_cron_singleton::claims::Claims;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let claims = Claims::parse(text);
    for minute in text.lines().filter_map(|line| line.parse().ok()) {
        assert!(claims.may_have(minute), "{minute} was claimed");
    }
});
