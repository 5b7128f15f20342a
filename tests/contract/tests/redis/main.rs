//! The contract of `ocf:systole:redis`: the agent as Pacemaker runs it, against a real server, without a cluster.
//!
//! These tests start servers and kill them, as root, so they run in a sandbox only, and `cargo test --workspace` leaves
//! them out (`test = false`). `make contract` runs them; by hand, with the package that `make stage` made:
//!
//! ```text
//! cargo test -p contract --test redis --no-run --message-format=json   # prints the path of the test program
//! systole-lab sandbox --image debian12 --package target/systole.deb --bind DIRECTORY:/contract --env SYSTOLE_SANDBOX=1 \
//!   -- /contract/redis-HASH --test-threads=4
//! ```
//!
//! Each test has servers, ports and directories of its own. A test that fails leaves its directory in `/tmp/contract`
//! of the sandbox and prints the agent's log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "all of this is tests")]

mod disk;
mod durability;
mod election;
mod foreign;
mod hostile;
mod killed;
mod monitor;
mod notify;
mod secrets;
mod startup;
mod steady;
mod tester;
mod timeouts;
mod tools;
mod validate;
mod writable;
