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
