//! Waiting for what has to become true, with a bound in the time of a machine at rest: see the crate `pace`.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Asks again until there is an answer, at most for `limit`. `None` when there was none.
pub fn within<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let limit = pace::Limit::of(limit);
    loop {
        let answer = ask();
        if answer.is_some() || limit.is_over() {
            note(answer.is_none());
            return answer;
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

thread_local! {
    /// Whether the last thing that the test of this thread has waited for, or the last action whose status it has judged, was not as it should.
    static LATE: Cell<bool> = const { Cell::new(false) };
}

/// Notes how the last wait or action ended: only that can be a matter of time.
pub(crate) fn note(late: bool) {
    LATE.set(late);
}

/// What a test that fails says when a time can explain it: the last that it waited for did not come, or an action ended otherwise than it
/// should, and the machine did not keep up. What an agent gives up on after a time of its own is real time: half a second that it waits for a
/// record, three for a server's answer. On a busy machine that may rightly be over. tests/attempts makes such a test again; one that fails on a
/// machine that kept up has failed, and so has one that finds a row lost, however busy the machine is.
pub fn say_whether_the_machine_kept_up() {
    BEGUN.with(|(begin, counted, before)| {
        let real = begin.elapsed();
        let by_disks = held_up_by_disks().zip(*before).map_or(Duration::ZERO, |(now, before)| now.saturating_sub(before));
        // The last piece is not counted yet: a short test at rest must not look like one on a busy machine.
        let counted = (counted.elapsed() + pace::BEHIND).min(real);
        if let Some(why) = forgives(LATE.get(), by_disks, real, counted) {
            eprintln!("the machine did not keep up: {why}");
        }
    });
}

/// Why a failure is a matter of time: the processors, by what of it counts, or the disks, by what the kernel says of who waited for them
/// (pressure stall information). `late`: whether what failed waits or gives up.
fn forgives(late: bool, by_disks: Duration, real: Duration, counted: Duration) -> Option<String> {
    let seconds = real.as_secs_f64();
    if !late {
        return None;
    }
    if by_disks > DISKS && by_disks * 10 > real * 2 {
        return Some(format!("its disks held somebody up for {:.1} of {seconds:.1} s", by_disks.as_secs_f64()));
    }
    (counted * 10 < real * 8).then(|| format!("{:.1} of {seconds:.1} s count", counted.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Answer;

    #[test]
    fn a_failure_is_forgiven_when_a_time_can_explain_it_and_the_machine_was_busy() {
        let table = [
            // late, held up by disks, real, counted (milliseconds), forgiven
            (true, 0, 10_000, 10_000, None),
            (true, 0, 10_000, 8_000, None),
            (true, 0, 10_000, 7_999, Some("8.0 of 10.0 s count")),
            (true, 2_000, 10_000, 10_000, None),
            (true, 2_001, 10_000, 10_000, Some("its disks held somebody up for 2.0 of 10.0 s")),
            // Half a second at a disk holds nobody up.
            (true, 500, 1_000, 1_000, None),
            // A lost row is lost on a busy machine, too.
            (false, 0, 10_000, 1_000, None),
            (false, 9_000, 10_000, 1_000, None),
        ];
        for (late, by_disks, real, counted, expected) in table {
            let [by_disks, real, counted] = [by_disks, real, counted].map(Duration::from_millis);
            assert_eq!(forgives(late, by_disks, real, counted).as_deref(), expected, "{late} {by_disks:?} {real:?} {counted:?}");
        }
    }

    #[test]
    fn what_was_late_is_the_last_wait_or_action() {
        let answer = |status| Answer {
            action: "monitor".to_owned(),
            status,
            stdout: String::new(),
            stderr: String::new(),
            elapsed: Duration::ZERO,
            counted: Duration::ZERO,
        };
        let after = |what: &dyn Fn()| {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(what));
            LATE.get()
        };
        assert!(!LATE.get());
        assert!(after(&|| assert_eq!(within(Duration::ZERO, || None::<()>), None)));
        assert!(!after(&|| assert_eq!(within(Duration::ZERO, || Some(())), Some(()))));
        assert!(after(&|| drop(answer(1).ok().clone())));
        assert!(!after(&|| drop(answer(0).ok().clone())));
        assert!(after(&|| drop(answer(0).refused(1, &[]).clone())));
        // The right status and the wrong words: no time explains that.
        assert!(!after(&|| drop(answer(1).refused(1, &["why"]).clone())));
    }
}
