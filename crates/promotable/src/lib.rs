//! What the agents of promotable databases have in common.

mod account;
mod drain;
mod ending;
pub mod limits;
mod login;
mod machine;
mod record;
mod secret;
#[doc(hidden)]
pub mod slowest;
mod state_file;

pub use account::ServerAccount;
pub use drain::{Drain, HAPROXY_DRAIN};
pub use ending::{end_server, grace, unless_gone};
pub use login::{Login, RememberedLogin, with_login};
pub use machine::{Level, Machine, Moment, Port, Step};
pub use record::{NotReplaced, Record, Review, decision, read_record, replace_record, review, withdrawal};
pub use secret::{is_placeholder, read_secret};
pub use state_file::{Memory, StateFile, lock, lock_within};
