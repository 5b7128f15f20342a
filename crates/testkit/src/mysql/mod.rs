//! A node with MySQL or MariaDB, and a group of them. Which server: SYSTOLE_SERVER, or what the image has.

mod client;
mod group;
mod liar;
mod node;
mod server;

pub use client::{Client, Waiting};
pub use group::Group;
pub use liar::{Liar, Lie};
pub use node::{APP_PASSWORD, Node, REPLICATION_PASSWORD, RESOURCE};
pub use server::Server;

/// The agent, where `make install` puts it.
pub const AGENT: &str = "/usr/lib/ocf/resource.d/systole/mysql";

/// The same agent, which ends at the milestone that a test names (tests/contract/src/mysql_with_fault_points.rs).
pub const FAULTY_AGENT: &str = "/contract/fault-points/mysql";
