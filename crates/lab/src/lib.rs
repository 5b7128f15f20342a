//! A three-node rehearsal cluster on one machine: real systemd, corosync and Pacemaker in each node, power and network
//! that can be cut, clients that write and a checker that counts what became of the writes.
//!
//! Tests use [`Lab`]; people use the program `systole-lab`. The host itself is left as it was: nodes are overlays over
//! cached images in namespaces of their own.

mod apt_source;
mod cgroup;
pub mod check;
mod cleanup;
pub mod cli;
mod client;
pub mod cluster;
pub mod database;
mod disk;
pub mod error;
pub mod faults;
mod foreign;
pub mod host;
pub mod image;
pub mod journal;
#[allow(clippy::module_inception)]
mod lab;
pub mod load;
mod mysql_client;
pub mod network;
pub mod node;
pub mod operation;
mod overlay;
mod package;
pub mod power;
mod redis_client;
mod sandbox;
pub mod state;
mod supervisor;
pub mod timeline;
pub mod visitors;

pub use check::{CheckOptions, Report};
pub use database::Database;
pub use error::{Error, Result};
pub use faults::{Cut, Direction};
pub use host::Output;
pub use journal::Journal;
pub use lab::{Lab, LabOptions};
pub use load::{Load, LoadOptions};
pub use node::Node;
pub use package::package_layers;
pub use sandbox::{SandboxOptions, sandbox};
pub use state::{Bind, LabPaths};
pub use visitors::VisitOptions;
