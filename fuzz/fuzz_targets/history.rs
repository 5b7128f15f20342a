//! The history of a job: a file in a directory of the job's user.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let file = std::env::temp_dir().join(format!("systole-fuzz-history-{}", std::process::id()));
    std::fs::write(&file, bytes).expect("the file can be written");
    let whole = systole_cron_singleton::history::tail(&file, u64::MAX);
    let end = systole_cron_singleton::history::tail(&file, 100);
    assert!(end.len() <= whole.len(), "the end holds more than all");
    let _ = std::fs::remove_file(file);
});
