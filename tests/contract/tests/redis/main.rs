//! The contract of `ocf:systole:redis`: the agent as Pacemaker runs it, against a real server, without a cluster.
//!
//! These tests start servers and kill them, as root, so they run in a sandbox only, and `cargo test --workspace` leaves
//! them out (`test = false`). `make contract/redis` runs them; `TEST=killed::` for some of them.
//!
//! Each test has servers, ports and directories of its own. A test that fails leaves its directory in `/tmp/contract`
//! of the sandbox and prints the agent's log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "all of this is tests")]

#[macro_use]
#[path = "../shared/mod.rs"]
mod shared;

mod attacks;
mod demote;
mod disk;
mod drain;
mod durability;
mod election;
mod foreign;
mod history;
mod hostile;
mod killed;
mod monitor;
mod notify;
mod premises;
mod record;
mod secrets;
mod startup;
mod steady;
mod tester;
mod timeouts;
mod tools;
mod unseen;
mod validate;
mod writable;

/// What this program tests: the kind of server of the tests that all databases have.
type Here = testkit::Redis;
