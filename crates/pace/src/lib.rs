//! Time as this machine at rest would have it. A limit in a test says "this hangs", or "this takes longer than it needs"; on a machine
//! that is busy with something else, the same work takes several times as long, and nothing is wrong.
//!
//! So a limit counts the time in which the machine did our work. A thread of low cost works for a moment every now and then and looks how
//! long its processor time took to come by: where it took three times as long, a second counts for a third of one. Two processors with
//! four busy programs count about half. A machine that stands still as a whole does not count at all.
//!
//! One process of the machine does that for all of the same priority (module `common`): a lab has up to four that count, and several labs
//! run at once.
//!
//! Owns the clock and the limits made of it. For tests and the rehearsal cluster only: no agent decides by a clock.

mod common;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// Between two looks.
const NAP: Duration = Duration::from_millis(250);
/// What was counted last may be so old: where another process looks, it is read as often as that one looks.
pub const BEHIND: Duration = Duration::from_millis(500);
/// Work for one look: longer than the time that a scheduler gives at once, so that it has to share.
const WORK: Duration = Duration::from_millis(3);

/// Counted so far, microseconds.
static COUNTED: AtomicU64 = AtomicU64::new(0);
static BEGUN: OnceLock<()> = OnceLock::new();

/// Counted time since the first call in this process, which begins to count. Its steps are a quarter of a second.
#[must_use]
pub fn now() -> Duration {
    BEGUN.get_or_init(|| drop(std::thread::Builder::new().name("pace".to_owned()).spawn(count)));
    Duration::from_micros(COUNTED.load(Ordering::Relaxed))
}

fn count() {
    let mut common = common::Common::open();
    let mut last = Instant::now();
    loop {
        std::thread::sleep(NAP);
        let heard = common.as_mut().and_then(|common| common.next(look));
        let real = last.elapsed();
        last = Instant::now();
        // Nothing counts for more than it is.
        let counted = heard.unwrap_or_else(look).min(real + WORK);
        COUNTED.fetch_add(u64::try_from(counted.as_micros()).unwrap_or(0), Ordering::Relaxed);
    }
}

/// Works for a moment. What the nap before it and the work count.
fn look() -> Duration {
    let begin = Instant::now();
    work();
    worth(begin.elapsed())
}

/// What one nap and its work count, when the work took so long.
fn worth(took: Duration) -> Duration {
    (NAP + WORK).div_f64((took.as_secs_f64() / WORK.as_secs_f64()).max(1.0))
}

/// Uses the processor for [`WORK`].
fn work() {
    let used = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::MAX, Duration::from);
    let until = used().saturating_add(WORK);
    while used() < until {
        std::hint::black_box((0..1_000_u32).fold(0_u32, |sum, n| sum.rotate_left(1) ^ n));
    }
}

/// A limit in counted time.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    begin: Duration,
    length: Duration,
}

impl Limit {
    /// A limit that begins now.
    #[must_use]
    pub fn of(length: Duration) -> Self {
        Self { begin: now(), length }
    }

    /// Counted time since its beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        now().saturating_sub(self.begin)
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.elapsed() >= self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_three_times_as_long_counts_a_third() {
        assert_eq!(worth(WORK), NAP + WORK);
        assert_eq!(worth(WORK / 2), NAP + WORK, "nothing counts for more than it is");
        assert_eq!(worth(WORK * 4), (NAP + WORK) / 4);
    }

    #[test]
    fn it_counts_and_never_more_than_the_clock() {
        let limit = Limit::of(Duration::from_millis(600));
        let begin = Instant::now();
        while !limit.is_over() {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(begin.elapsed() + NAP + WORK >= Duration::from_millis(600), "{:?}", begin.elapsed());
    }
}
