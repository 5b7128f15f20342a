//! Waiting for what has to become true, with a bound in the time of a machine at rest: see the crate `pace`.

use std::time::{Duration, Instant};

/// Asks again until there is an answer, at most for `limit`. `None` when there was none.
pub fn within<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let limit = pace::Limit::of(limit);
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if limit.is_over() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until it is true, and fails the test with what was waited for after half a minute.
///
/// # Panics
/// When it does not become true.
pub fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    assert!(within(Duration::from_secs(30), || is().then_some(())).is_some(), "did not come true within 30 s: {what}");
}

/// Less than this at a disk holds nobody up: an agent's shortest limits are half a second.
const DISKS: Duration = Duration::from_millis(500);

/// How long some process has waited for a disk since the machine started; `None` where the kernel does not count it.
fn held_up_by_disks() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/pressure/io").ok()?;
    let total = text.lines().find(|line| line.starts_with("some "))?.rsplit_once("total=")?.1;
    total.trim().parse().ok().map(Duration::from_micros)
}

thread_local! {
    /// When the test of this thread made its first node, what has counted since, and how long disks had held somebody up before.
    static BEGUN: (Instant, pace::Limit, Option<Duration>) = (Instant::now(), pace::Limit::of(Duration::MAX), held_up_by_disks());
}

/// Begins to count for the test of this thread: whoever makes its first node does.
pub fn begin_to_count() {
    BEGUN.with(|_| ());
}

/// What a test that fails says when the machine did not keep up: its processors, by what counts, or its disks, by what the kernel says of who
/// waited for them (pressure stall information). What an agent gives up on after a time of its own is real time: half a second that it waits
/// for a record, three for a server's answer. On a busy machine that may rightly be over. tests/attempts makes such a test again; one that
/// fails on a machine that kept up has failed.
pub fn say_whether_the_machine_kept_up() {
    BEGUN.with(|(begin, counted, before)| {
        let real = begin.elapsed();
        let by_disks = held_up_by_disks().zip(*before).map_or(Duration::ZERO, |(now, before)| now.saturating_sub(before));
        if by_disks > DISKS && by_disks * 10 > real * 2 {
            let (held, of) = (by_disks.as_secs_f64(), real.as_secs_f64());
            eprintln!("the machine did not keep up: its disks held somebody up for {held:.1} of {of:.1} s");
        }
        // The last piece is not counted yet: a short test at rest must not look like one on a busy machine.
        let counted = (counted.elapsed() + pace::BEHIND).min(real);
        if counted * 10 < real * 8 {
            eprintln!("the machine did not keep up: {:.1} of {:.1} s count", counted.as_secs_f64(), real.as_secs_f64());
        }
    });
}
