//! A primary whose log ends with what nobody acknowledged, and how it rejoins.

use cluster_scenarios::rejoin::{Became, Loss, difference, load_options, wait_noted, wait_whole};
use cluster_scenarios::{MARIADB, MYSQL, Server, Setup, expect, held, scenario};
use lab::{Error, LoadOptions};

use super::{NODE_LOSS, RETURN};

/// A commit is under way at nearly every moment, and at none in some. So many power cuts are made until one hits.
const CUTS: usize = 4;

/// Writers, a network that is cut a moment before the power, and the node returns. It rejoins by itself, and all servers are equal.
fn cut_off_and_power_cut(name: &str, server: Server, rejoin: &str, wanted: fn(Became) -> bool) {
    // With four appliers, MySQL's coordinator takes half of two processors.
    let settings = if server.client == MYSQL.client { "replica_parallel_workers=16" } else { "" };
    let setup = Setup { parameters: format!("rejoin={rejoin}"), settings: settings.to_owned(), ..Setup::of(server).on_disks() };
    scenario(name, setup, |site| {
        for cut in 1..=CUTS {
            if rejoin.starts_with("rewind") {
                wait_noted(site)?;
            }
            let load = site.load_of(&LoadOptions { pause_us: 5_000, ..load_options(site)? })?;
            let lost = Loss::PowerCut.strike(site)?;
            wait_whole(site, RETURN * 2)?;
            let became = lost.became(site)?;
            println!("power cut {cut}: whole again {:.1} s after the node's return, {became:?}", lost.for_ms() / 1000.0);
            held(site, load, NODE_LOSS, "")?;
            if let Some(difference) = difference(site)? {
                return Err(Error::Refused(format!("the servers are not equal: {difference}")));
            }
            if became.diverged {
                return expect(wanted(became), &format!("rejoin={rejoin}: {became:?}"));
            }
        }
        Err(Error::Refused(format!("in {CUTS} power cuts the primary never had anything that nobody acknowledged")))
    });
}

#[test]
fn mariadb_a_primary_with_an_unacknowledged_tail_gets_a_copy() {
    cut_off_and_power_cut("mariadb-tail-copied", MARIADB, "clone", |became| became.copied);
}

#[test]
fn mysql_a_primary_with_an_unacknowledged_tail_gets_a_copy() {
    cut_off_and_power_cut("mysql-tail-copied", MYSQL, "clone", |became| became.copied);
}

#[test]
fn mariadb_a_primary_takes_its_unacknowledged_tail_back() {
    cut_off_and_power_cut("mariadb-tail-taken-back", MARIADB, "rewind", Became::rewound);
}

#[test]
fn mysql_a_primary_takes_its_unacknowledged_tail_back() {
    cut_off_and_power_cut("mysql-tail-taken-back", MYSQL, "rewind", Became::rewound);
}
