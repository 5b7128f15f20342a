//! The uploads on every node: what docs/recipes/syncthing.md and glusterfs-cephfs.md say, their commands run as they stand there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it saw by panicking")]

use std::time::{Duration, Instant};

use cluster_scenarios::{finish, recipe};
use lab::{Lab, Node, Result};
use nix::sys::signal::Signal;

const UPLOADS: &str = "/var/lib/wordpress/wp-content/uploads";

/// Three nodes, a cluster, the site's account, and what the page says below these headings.
fn scenario(recipe: &str, headings: &[&str], steps: impl FnOnce(&Lab) -> Result<()>) {
    let up = || {
        let lab = recipe::in_a_cluster(&format!("uploads-{recipe}"))?;
        for node in lab.nodes() {
            node.sh("useradd --uid 2000 --create-home wpsite")?;
        }
        headings.iter().try_for_each(|heading| recipe::run(&lab, recipe, heading))?;
        Ok(lab)
    };
    let lab: Lab = up().unwrap_or_else(|e: lab::Error| panic!("{recipe}: {e}"));
    finish(&lab, steps(&lab));
}

/// The site's account writes a file.
fn upload(node: &Node, name: &str) -> Result<()> {
    node.sh(&format!("su wpsite -s /bin/sh -c 'echo {name} > {UPLOADS}/{name}'")).map(drop)
}

/// Waits until these nodes have the file. Says how long it took.
fn wait_arrived(lab: &Lab, name: &str, numbers: &[u8]) -> Result<()> {
    let begin = Instant::now();
    let has = |number: &u8| lab.node(*number).sh(&format!("cat {UPLOADS}/{name}")).is_ok_and(|file| file.stdout.trim() == name);
    lab.wait_for(&format!("{name} on {numbers:?}"), Duration::from_secs(180), || numbers.iter().all(has))?;
    println!("{name}: on {numbers:?} after {:.1} s", begin.elapsed().as_secs_f64());
    Ok(())
}

/// Kills Syncthing on a node, and waits until another one runs there.
fn kill_and_wait(lab: &Lab, node: &Node) -> Result<()> {
    let before = node.pids("syncthing");
    node.kill("syncthing", Signal::SIGKILL)?;
    let begin = Instant::now();
    let again = || node.pids("syncthing").iter().any(|pid| !before.contains(pid));
    lab.wait_for(&format!("Syncthing on {} again", node.name), Duration::from_secs(90), again)?;
    println!("Syncthing on {} again after {:.1} s", node.name, begin.elapsed().as_secs_f64());
    Ok(())
}

#[test]
fn syncthing_copies_to_every_node_and_to_one_that_was_away() {
    scenario("syncthing", &["The commands"], |lab| {
        upload(&lab.node(1), "first")?;
        wait_arrived(lab, "first", &[2, 3])?;
        let (second, third) = (lab.node(2), lab.node(3));
        third.power_off()?;
        upload(&second, "while-lxc3-is-away")?;
        wait_arrived(lab, "while-lxc3-is-away", &[1])?;
        lab.power_back(&third)?;
        lab.wait_online()?;
        wait_arrived(lab, "while-lxc3-is-away", &[3])?;

        // systemd would, but Pacemaker takes the Restart= of its units away: its monitor finds it, every 30 s.
        kill_and_wait(lab, &second)?;
        upload(&second, "after-the-crash")?;
        wait_arrived(lab, "after-the-crash", &[1, 3])
    });
}
