//! The promotion scores that mean the same for each database. A score is a hint to the cluster whom to ask first; the election decides.

use pacemaker::Score;

/// The primary stays where it is unless somebody moves it.
pub const PRIMARY: Score = Score::new(1000);
/// What the better one gets when a candidate hands over to it: more than any replica has by itself.
pub const HANDED_OVER: Score = Score::new(500);
/// What the candidate that handed over keeps until its next monitor, and what one that was refused gets when another is promoted.
pub const STEPPED_BACK: Score = Score::new(1);
