//! crm-snippets/: every file is loaded by both crmsh versions, held against the agents' meta-data, and simulated.
//!
//! Needs the lab's images and systole's package; `make snippets` arranges it:
//!
//!     make stage
//!     SYSTOLE_LAB_BIN=$PWD/target/debug/systole-lab SYSTOLE_PACKAGE=$PWD/target/systole.deb cargo test -p snippets --test snippets
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it saw by panicking")]

mod checks;
mod cron;
mod databases;
mod galera;
mod pcs;
mod proxysql;
mod recipes;
mod sites;
mod uploads;
mod web;
mod wizards;

use std::thread;

use snippets::{Bed, Outcome, Rehearsal, Snippet, Step};

const BASE: &str = "base.crm";
const LABORATORY: &str = "base-laboratory-without-fencing.crm";

fn files(names: &[&str]) -> Vec<Snippet> {
    names.iter().map(|name| Snippet::of(name)).collect()
}

/// At the same time, each in a thread of that name, which is what a failure is reported of.
fn on_every_image(test: impl Fn(&Bed) + Sync) {
    thread::scope(|scope| {
        for image in Bed::IMAGES {
            let test = &test;
            thread::Builder::new().name(image.to_owned()).spawn_scoped(scope, move || test(&Bed::new(image))).unwrap();
        }
    });
}

/// Whether the checks of these tests see what is wrong. They are the same for every image, so the newest will do;
/// `mistakes_are_seen_on_the_other_image` has the other one.
fn on_the_newest_image(test: impl Fn(&Bed)) {
    test(&Bed::new(Bed::IMAGES[1]));
}

/// For `make full`.
#[test]
#[ignore = "the newest image has them in `make test`"]
fn mistakes_are_seen_on_the_other_image() {
    let bed = Bed::new(Bed::IMAGES[0]);
    checks::broken_snippets(&bed);
    galera::mistakes(&bed);
    recipes::mistakes(&bed);
    sites::mistakes(&bed);
}

fn assert_taken(rehearsal: &Rehearsal, what: &str) {
    assert!(rehearsal.all_loaded(), "{what} was refused: {}", rehearsal.said);
    assert_eq!(rehearsal.verified, 0, "{what}: crm_verify: {}", rehearsal.said);
}

/// Where the public addresses are after a step; what is wrong with it as a sentence.
fn apart(outcome: &Outcome, living: usize) -> Result<(), String> {
    let (one, two) = (outcome.nodes_of("public-ip-1"), outcome.nodes_of("public-ip-2"));
    if one.len() != 1 || two.len() != 1 {
        return Err(format!("public-ip-1 is on {one:?} and public-ip-2 on {two:?} of {living} nodes"));
    }
    if (one == two) != (living == 1) {
        return Err(format!("{living} nodes live: public-ip-1 is on {one:?}, public-ip-2 on {two:?}"));
    }
    Ok(())
}

/// One primary, its address with it, and started after the promotion.
fn served(outcome: &Outcome, resource: &str, node: &str) -> Result<(), String> {
    let address = format!("{resource}-ip");
    if outcome.promoted(resource) != [node] || outcome.nodes_of(&address) != [node] {
        return Err(format!(
            "{resource} is promoted on {:?} and {address} is on {:?}, not on {node}",
            outcome.promoted(resource),
            outcome.nodes_of(&address)
        ));
    }
    match (outcome.when("promote", resource), outcome.when("start", &address)) {
        (Some(promoted), Some(started)) if promoted < started => Ok(()),
        other => Err(format!("{address} starts before {resource} is promoted: {other:?}")),
    }
}

fn dying(nodes: &[&'static str]) -> Step {
    Step { dead: nodes.to_vec(), ..Step::default() }
}

/// Where the reader address is: on a readable node if there is one, and off the primary if another is readable.
fn reads(outcome: &Outcome, readable: &[&str]) -> Result<(), String> {
    let (on, primary) = (outcome.nodes_of("mysql-reader-ip"), outcome.promoted("mysql"));
    let replicas: Vec<&str> = readable.iter().copied().filter(|node| !primary.contains(node)).collect();
    let allowed = if replicas.is_empty() { readable.to_vec() } else { replicas };
    let fine = if allowed.is_empty() { on.is_empty() } else { on.len() == 1 && allowed.contains(&on[0]) };
    if fine { Ok(()) } else { Err(format!("readable are {readable:?}, the primary is on {primary:?}, the reader address on {on:?}")) }
}

/// What the agents publish when these can be read from.
fn readable(nodes: &[&str]) -> Vec<(&'static str, &'static str, &'static str)> {
    ["lxc1", "lxc2", "lxc3"].map(|node| ("readable", node, if nodes.contains(&node) { "1" } else { "0" })).into()
}

/// What the agents publish when lxc2 holds the most.
fn scores(resource: &'static str) -> Step {
    Step { scores: vec![(resource, "lxc1", 20), (resource, "lxc2", 100), (resource, "lxc3", 10)], ..Step::default() }
}

/// What the nodes of web.crm and their shared uploads are loaded on.
const SITE: [&str; 3] = [BASE, "public-addresses.crm", "web.crm"];

fn site_with(more: &[&str]) -> Vec<Snippet> {
    files(&[&SITE, more].concat())
}

/// The same with one file changed.
fn with(all: &[Snippet], file: &str, from: &str, to: &str) -> Vec<Snippet> {
    assert!(all.iter().any(|s| s.name == file), "{file} is not loaded: correct the test");
    all.iter().cloned().map(|s| if s.name == file { s.mutated(from, to) } else { s }).collect()
}

fn sorted(mut nodes: Vec<&str>) -> Vec<&str> {
    nodes.sort_unstable();
    nodes
}

const ALL: [&str; 3] = ["lxc1", "lxc2", "lxc3"];
