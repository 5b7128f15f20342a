//! `ocf:systole:mysql`: Percona Server, MySQL and MariaDB with GTID replication as a promotable clone.
//!
//! An action observes, decides, applies. What it decides is in `election` and needs no server; every word that is said to
//! a server is in `dialect`, and said by `server`; what it remembers, locally and in the CIB, is in `state` and `record`.

mod agent;
mod copy;
mod dialect;
mod election;
mod gtid;
mod identity;
mod lifecycle;
mod limits;
mod members;
mod monitor;
mod observation;
mod params;
pub mod parsers;
mod preference;
mod premises;
mod record;
mod replication;
mod role;
mod server;
mod state;
mod succession;
mod validate;

#[cfg(test)]
mod model;

pub use agent::MySql;

/// The agent with everything it implements.
pub fn agent() -> ocf::Agent<MySql> {
    ocf::Agent::new().promotable().reloadable()
}
