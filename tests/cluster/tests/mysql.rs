//! Faults of MySQL and MariaDB, and what must hold: no acknowledged write lost (L), never two writers (W), data converge
//! (C), nothing errant is merged (E), the outage is bounded (T), a refusal says what to do (R).
//!
//! The bounds of T here are not the figures (`make bench` measures those): they are generous, so that a machine that is
//! busy with something else fails no test, and still far below what the stock agent takes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it saw by panicking")]

use std::time::Duration;

use cluster_scenarios::{MARIADB, MARIADB_11, MYSQL, MYSQL_56, Server, Setup, Site, expect, held, scenario};
use lab::{Cut, Node, Result};
use nix::sys::signal::Signal;

/// A crash of the server's process, or a planned move.
const SHORT: Duration = Duration::from_secs(5);
/// The loss of a node: token (1 s), consensus (1.2 s), fencing, and what follows.
const NODE_LOSS: Duration = Duration::from_secs(12);
/// What a monitor has to find first.
const FOUND_BY_MONITOR: Duration = Duration::from_secs(25);

/// kill -9, three times in a row: whoever was the primary once has to become a good replica.
fn kill_9_under_load(name: &str, server: Server) {
    scenario(name, Setup::of(server), |site| {
        for _ in 0..3 {
            let load = site.load()?;
            let dead = site.kill_primary()?;
            let now = site.wait_moved(&dead, Duration::from_secs(30))?;
            expect(now.name != dead.name, "another node is promoted")?;
            held(site, load, SHORT, "")?;
            site.wait_settled()?;
        }
        Ok(())
    });
}

#[test]
fn mariadb_kill_9_under_load() {
    kill_9_under_load("mariadb-kill", MARIADB);
}

#[test]
fn mariadb_11_kill_9_under_load() {
    kill_9_under_load("mariadb11-kill", MARIADB_11);
}

fn planned_moves_under_load(name: &str, server: Server) {
    scenario(name, Setup::of(server), |site| {
        let load = site.load()?;
        for _ in 0..3 {
            let to = site.move_primary()?;
            site.wait_settled()?;
            // The ban is taken back as soon as the role has arrived; it has to stay where it is.
            std::thread::sleep(Duration::from_secs(3));
            expect(site.primary()?.name == to, "the role stays where it was moved to")?;
        }
        held(site, load, SHORT, "")
    });
}

#[test]
fn mariadb_planned_moves_under_load() {
    planned_moves_under_load("mariadb-moves", MARIADB);
}

#[test]
fn mariadb_11_planned_moves_under_load() {
    planned_moves_under_load("mariadb11-moves", MARIADB_11);
}

#[test]
fn mysql_planned_moves_under_load() {
    planned_moves_under_load("mysql-moves", MYSQL);
}

#[test]
fn mysql_56_planned_moves_under_load() {
    planned_moves_under_load("mysql56-moves", MYSQL_56);
}

/// A commit that nobody acknowledged stays on a MySQL primary that crashed: that node may refuse to follow (I3), so the
/// others are what is judged here.
#[test]
fn mysql_kill_9_under_load() {
    scenario("mysql-kill", Setup::of(MYSQL), |site| {
        let load = site.load()?;
        let dead = site.kill_primary()?;
        site.wait_moved(&dead, Duration::from_secs(30))?;
        held(site, load, SHORT, "LC")?;
        refused_or_following(site, &dead)
    });
}

/// A server with transactions of its own says which and what to do; it has not merged them, and is no candidate.
fn refused_or_following(site: &Site, node: &Node) -> Result<()> {
    site.lab.wait_for("the old primary following, or its refusal", Duration::from_secs(60), || {
        site.follows(node, true) || site.log_of(node).is_ok_and(|log| log.contains("set rejoin=clone"))
    })
}

#[test]
fn mysql_56_kill_9_promotes_a_replica() {
    scenario("mysql56-kill", Setup::of(MYSQL_56), |site| {
        let load = site.load()?;
        site.kill_primary()?;
        // Asynchronous: what is lost is not asserted, and the old primary may have what nobody else has.
        held(site, load, SHORT, "LC")
    });
}
