//! The contract of `ocf:systole:mysql`: the agent as Pacemaker runs it, against real servers, without a cluster.
//!
//! These tests start servers and kill them, as root, so they run in a sandbox only, and `cargo test --workspace` leaves
//! them out (`test = false`). `make contract/mariadb` and its like run them with a server; `TEST=killed::` for some of them.
//!
//! SYSTOLE_SERVER is mariadb, mysql, mysql80, mysql57 or mysql56. What a server cannot do is skipped inside the tests that need it.
//! Each test has servers, addresses and directories of its own. A test that fails leaves its directory in
//! `/tmp/contract` of the sandbox, without the data, and prints the agent's log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "all of this is tests")]

#[macro_use]
#[path = "../shared/mod.rs"]
mod shared;

mod actions;
mod attacks;
mod closed;
mod connections;
mod copy;
mod demote;
mod disk;
mod drain;
mod election;
mod hang;
mod history;
mod hostile;
mod killed;
mod memory;
mod premises;
mod proxysql;
mod record;
mod replica;
mod rewind;
mod says;
mod secrets;
mod silent;
mod steady;
mod strangers;
mod taking_back;
mod tester;
mod tools;
mod unseen;
mod validate;
mod waiting;

/// What this program tests: the kind of server of the tests that all databases have.
type Here = testkit::mysql::Server;
