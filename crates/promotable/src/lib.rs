//! What the agents of promotable databases have in common.

mod account;
mod drain;
mod ending;
pub mod history;
mod host;
pub mod limits;
mod login;
mod machine;
pub mod operator;
pub mod params;
pub mod preference;
mod protocol;
mod record;
mod secret;
mod state_file;

pub use account::ServerAccount;
pub use drain::{Drain, Fault as ProxyFault, HAPROXY_DRAIN, Haproxy, Proxy, Seen};
pub use ending::{end_in_order, end_server, grace, unless_gone};
pub use host::{Host, NOTIFICATIONS, Whereabouts, asked, cluster_failure, not_spawned, reloaded};
pub use login::{Login, RememberedLogin, with_login};
pub use machine::{Level, Machine, Moment, Port, Step};
pub use protocol::{
    Database, Driver, Effect, Engine, Event, Instance, OfCluster, OfProcess, Position, Remembered, Rules, Verdict, of_process, positions,
};
pub use record::{NotReplaced, Record, Review, decision, decision_of, read_record, replace_record, replace_text, review, withdrawal};
pub use secret::{is_placeholder, read_private, read_secret};
pub use state_file::{Memory, StateFile, lock, lock_within};
