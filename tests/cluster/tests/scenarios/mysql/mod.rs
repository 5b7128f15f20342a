//! Faults of MySQL and MariaDB, and what must hold: no acknowledged write lost (L), never two writers (W), data converge
//! (C), nothing errant is merged (E), the outage is bounded (T), a refusal says what to do (R).
//!
//! The bounds of T here are not the figures (`make bench` measures those): they are generous, so that a machine that is
//! busy with something else fails no test, and still far below what the stock agent takes.

mod crash;
mod divergence;
mod durability;
mod history;
mod moves;
mod network;
mod over;
mod promise;
mod rejoin;
mod replicas;
mod steps;

use std::time::Duration;

use cluster_scenarios::{Server, Setup, Site};
use lab::{Cut, Load, Node, Result};

/// A crash of the server's process, or a planned move.
const SHORT: Duration = Duration::from_secs(10);
/// The loss of a node: token (1 s), consensus (1.2 s), fencing, and what follows.
const NODE_LOSS: Duration = Duration::from_secs(12);
/// What a monitor has to find first.
const FOUND_BY_MONITOR: Duration = Duration::from_secs(25);
/// Until another node is promoted.
const FAILOVER: Duration = Duration::from_secs(40);
/// Until a server that came back is a replica in order, two monitors and a recovery.
const RETURN: Duration = Duration::from_secs(60);

/// A setup in which a crashed primary comes back whatever it holds: it keeps what nobody acknowledged, so its data are
/// replaced then.
fn returning(server: Server) -> Setup {
    Setup { parameters: "rejoin=clone".into(), ..Setup::of(server) }
}

/// Cuts the database port between these two nodes and leaves the rest.
fn cut_database(site: &Site, a: &Node, b: &Node) -> Result<()> {
    site.lab.cut(&Cut { to: Some(b.name.clone()), port: Some(3306), ..Cut::cable(&a.name) })
}

/// How many writes were acknowledged so far.
fn acknowledged(load: &Load) -> Result<usize> {
    std::thread::sleep(Duration::from_millis(200));
    Ok(load.so_far()?.writes(lab::journal::Outcome::Ok).len())
}
