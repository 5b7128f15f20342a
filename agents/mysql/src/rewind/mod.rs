//! Taking back the end of a server's binary log: transactions that no other server has.
//!
//! `log` reads them, `plan` turns them round without looking at a value, `apply` has the server carry that out in one transaction, `keep` puts
//! them beside the data. Who may be taken back, and when, is not decided here. The reasons: docs/decisions/0040.
//!
//! The order, each step of which may be the last: [`progress`]; where it is [`Progress::Committed`], with the transactions that the note names, only [`finish`]. Otherwise [`Tail::read`],
//! [`common_point`], [`Plan::of`], [`check`], [`keep`], [`prepare`], [`take_back`], [`finish`]; and when the server has caught up,
//! [`fingerprint`] here and there.

mod apply;
mod bytes;
mod event;
mod keep;
mod log;
mod plan;
mod refusal;
mod rows;

pub(crate) use apply::SETTINGS;
pub use apply::{
    Family, Progress, SCHEMA, Session, Touched, abandon, check, common_point, fingerprint, finish, prepare, progress, take_back,
};
pub use event::Format;
pub(crate) use keep::TAKEN_BACK;
pub use keep::keep;
pub use log::{Limits, LogFile, Tail, Transaction};
pub(crate) use plan::read_and_turn;
pub use plan::{Plan, Touches};
pub use refusal::Refusal;
pub use rows::Table;

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
