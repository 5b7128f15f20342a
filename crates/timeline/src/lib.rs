//! What happened in a failover, and how it is shown: which lines of the nodes' journals tell it, the steps that they mean, and the drawing.
//! Pure. The rehearsal's verdicts, the benchmarks and the operator's command have it from here.

mod drawing;
mod journal;
mod steps;

pub use drawing::{Drawing, LEFT, RIGHT, ROW, Story, WIDTH, escaped, of_stories};
pub use journal::{Clock, Event, TELLING, is_unreadable, may_tell, read_entry, without_echoes};
pub use steps::{CLIENTS, FIRST_WRITE, Moment, STEPS, meanings, steps};
