//! Waiting for what has to become true, with a bound in the time of a machine at rest: see the crate `pace`.

use std::time::Duration;

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

/// Waits until it is true, and fails the test with what was waited for after ten seconds.
///
/// # Panics
/// When it does not become true.
pub fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    assert!(within(Duration::from_secs(10), || is().then_some(())).is_some(), "did not come true within 10 s: {what}");
}

/// Runs a test of what an agent does within a limit of its own, which is real time: half a second that it waits for a record, a tenth for a
/// position. On a busy machine it may rightly be over, and what was to be seen comes with the next monitor. So an attempt that fails
/// counts only when the machine kept up; otherwise it is made again, a few times.
///
/// # Panics
/// With what the last attempt said.
pub fn while_the_machine_keeps_up(attempt: impl Fn()) {
    const ATTEMPTS: u32 = 5;
    for number in 1.. {
        let (begin, limit) = (std::time::Instant::now(), pace::Limit::of(Duration::MAX));
        let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&attempt)) else { return };
        // The last piece is not counted yet: a short attempt at rest must not look like one on a busy machine.
        let kept_up = (limit.elapsed() + pace::NAP) * 10 >= begin.elapsed() * 8;
        if kept_up || number == ATTEMPTS {
            std::panic::resume_unwind(panic);
        }
        eprintln!("attempt {number} on a busy machine: {:?} of {:?} count", limit.elapsed(), begin.elapsed());
    }
}
