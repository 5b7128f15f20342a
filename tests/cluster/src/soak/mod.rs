//! The soak: random faults, one after the other and two at once, under clients whose history is judged. What happens when is in `schedule`,
//! how it is done in `fault`, what was promised in `history`; `run` puts them together and keeps the numbers.

mod bed;
mod fault;
pub mod history;
mod run;
pub mod schedule;

pub use run::{Order, Served, run};
