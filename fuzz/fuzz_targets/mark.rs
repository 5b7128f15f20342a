//! Marks of the cron jobs: they come from other nodes, and from files that survived a boot.
#![no_main]

use systole_cron_singleton::mark::Mark;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Some(mark) = Mark::parse(text) else { return };
    assert_eq!(Mark::parse(&mark.to_string()), Some(mark), "what was printed reads back");
});
