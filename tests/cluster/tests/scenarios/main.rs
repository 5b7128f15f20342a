//! Faults in the rehearsal cluster, and what must hold. One program, so that a scenario is named in one way wherever it is:
//! `redis::power_cut_of_the_primary`. Each has a lab of its own, so several can run at once.
//!
//! Needs root, an image of the nodes and the package of systole; `make cluster SCENARIO=redis::` arranges it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it saw by panicking")]

mod address;
mod balancers;
mod command;
mod connectivity;
mod cron;
mod daemons;
mod day_two;
mod doctor;
mod galera;
mod haproxy;
mod mysql;
mod proxysql;
mod redis;
mod sentinel;
mod sites;
mod two_nodes;
mod upgrade;
mod uploads;
mod workshop;
