//! How much of an operation's timeout is left. Measured on the monotonic clock from the start of the process.

use std::time::{Duration, Instant};

/// The moment by which an action must have answered.
///
/// Pacemaker kills an agent that outlives its timeout and learns nothing from it, so every wait of an action is
/// bounded by this and leaves a margin in which the reason can still be reported.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
}

impl Deadline {
    /// What of a timeout is left for saying why an action failed: a tenth of it, at most two seconds.
    pub fn margin(timeout: Duration) -> Duration {
        (timeout / 10).min(Duration::from_secs(2))
    }

    /// A deadline `timeout` after `start`, less the margin.
    pub fn with_margin(start: Instant, timeout: Duration) -> Self {
        Self { at: start + timeout - Self::margin(timeout) }
    }

    /// A deadline `timeout` from now.
    pub fn after(timeout: Duration) -> Self {
        Self { at: Instant::now() + timeout }
    }

    /// The earlier of this deadline and `limit` from now: for a step that must not use up the whole action.
    pub fn within(self, limit: Duration) -> Self {
        Self { at: self.at.min(Instant::now() + limit) }
    }

    /// The deadline that leaves `reserve` of the time for what has to follow.
    pub fn reserving(self, reserve: Duration) -> Self {
        Self { at: self.at.checked_sub(reserve).unwrap_or(self.at) }
    }

    /// What is left; zero when it has passed.
    pub fn left(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Whether nothing is left.
    pub fn passed(self) -> bool {
        self.left().is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_margin_is_a_tenth_and_at_most_two_seconds() {
        let start = Instant::now();
        let short = Deadline::with_margin(start, Duration::from_secs(10));
        assert!(short.left() <= Duration::from_secs(9) && short.left() > Duration::from_millis(8500));
        let long = Deadline::with_margin(start, Duration::from_secs(120));
        assert!(long.left() > Duration::from_millis(117_500));
    }

    #[test]
    fn a_step_ends_no_later_than_its_action() {
        let action = Deadline::after(Duration::from_millis(50));
        assert!(action.within(Duration::from_secs(9)).left() <= Duration::from_millis(50));
    }
}
