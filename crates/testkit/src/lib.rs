//! Contract tests of the resource agents: an agent run as Pacemaker runs it, a real server behind it, and stand-ins for
//! the cluster's tools. Development only.
//!
//! Everything here panics when the bed itself cannot be made: a test that could not be arranged must not look passed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is the failure of a test")]

mod agent;
mod client;
mod cluster;
mod disk;
mod group;
mod haproxy;
mod lists;
pub mod mysql;
mod node;
mod processes;
mod redis;
mod sandbox;
mod wait;

pub use agent::{Agent, Answer, Costs, NO_USER_DATABASE, Running, after, by_turns};
pub use client::Client;
pub use cluster::FakeCluster;
pub use disk::Disk;
pub use group::GroupOf;
pub use haproxy::Haproxy;
pub use lists::{Lists, Spelling};
pub use node::{Kind, NodeOf};
pub use processes::{Process, signal};
pub use redis::{Group, Node, Redis};
pub use sandbox::{AGENT, require};
pub use wait::{begin_to_count, eventually, say_whether_the_machine_kept_up, within};

pub use nix::sys::signal::Signal;
pub use nix::unistd::User;
