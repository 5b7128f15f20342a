//! `ocf:systole:mysql`: Percona Server, MySQL and MariaDB with GTID replication as a promotable clone.
//!
//! What an action does, step by step, is in `protocol`, which does no I/O; its steps are carried out by `engine`. Who is promoted is decided
//! by `election`. Every word that is said to a server is in `dialect`, and said by `server`; what is remembered, locally and in the CIB, is
//! in `state` and `record`.

mod agent;
mod copy;
mod dialect;
mod election;
mod engine;
mod gtid;
mod lifecycle;
mod limits;
mod membership;
mod observation;
pub mod operator;
mod params;
pub mod parsers;
mod preference;
mod premises;
mod privileges;
mod protocol;
mod proxysql;
mod record;
mod reign;
mod rejoin;
pub mod rewind;
mod sequences;
mod server;
mod state;
mod taking_back;
mod validate;

pub use agent::MySql;
pub use engine::at_fault_points;

/// The agent with everything it implements.
pub fn agent() -> ocf::Agent<MySql> {
    ocf::Agent::new().promotable().reloadable()
}
