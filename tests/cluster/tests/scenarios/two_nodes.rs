//! Two nodes, with a qdevice on a third machine and without one: what docs/recipes/two-nodes.md says, its commands run as they stand
//! there.

use std::time::Duration;

use cluster_scenarios::{Durability, REDIS, Site, expect, finish, held, recipe};
use lab::{Cut, Node, Result};

const WITH: &str = "With a third machine";
const WITHOUT: &str = "Without one";
const EITHER: &str = "Pacemaker, either way";
/// What the scenarios allow: token, consensus, the third machine's patience, fencing. On this machine, and far above the figures.
const NODE_LOSS: Duration = Duration::from_secs(25);
/// priority-fencing-delay: the node with the primary is fenced so much later.
const LATE: Duration = Duration::from_secs(15);
/// Nothing that the clients have to notice.
const UNDISTURBED: Duration = Duration::from_secs(3);

/// Two nodes with Redis, by the commands below one of the headings.
fn scenario(name: &str, way: &str, steps: impl FnOnce(&Site) -> Result<()>) {
    edited(name, way, "true", steps);
}

/// The same, with a command run on the nodes before Pacemaker starts.
fn edited(name: &str, way: &str, edit: &str, steps: impl FnOnce(&Site) -> Result<()>) {
    let name = format!("two-nodes-{name}");
    let up = || {
        let lab = recipe::follow(&name, "two-nodes", 1, &[way])?;
        lab.members().iter().try_for_each(|node| node.sh(edit).map(drop))?;
        recipe::run(&lab, "two-nodes", EITHER)?;
        Site::on(lab, REDIS, Durability::Async)
    };
    let site = up().unwrap_or_else(|e| panic!("{name}: {e}"));
    finish(&site.lab, steps(&site));
}

/// The node that is not the primary's.
fn other(site: &Site) -> Result<Node> {
    Ok(site.replicas()?.remove(0))
}

/// How often a node was switched off by the other one.
fn fenced(site: &Site, node: &Node) -> Result<usize> {
    let events = site.lab.paths().read_events()?;
    Ok(events.iter().filter(|event| event.by != "lab" && event.text.starts_with(&format!("power off {}", node.name))).count())
}

/// Cuts the network between the two nodes only, the third machine sees both; waits until `lost` was fenced, and mends it.
fn split_and_return(site: &Site, lost: &Node) -> Result<()> {
    let before = fenced(site, lost)?;
    site.lab.cut(&Cut { to: Some("lxc2".into()), ..Cut::cable("lxc1") })?;
    let fenced = || fenced(site, lost).is_ok_and(|times| times > before);
    site.lab.wait_for(&format!("{} fenced", lost.name), Duration::from_secs(40), fenced)?;
    site.lab.heal(None)?;
    site.lab.wait_online()?;
    site.wait_settled()
}

/// Moves the primary to this node.
fn primary_on(site: &Site, name: &str) -> Result<Node> {
    if site.primary()?.name != name {
        site.move_primary()?;
        site.wait_settled()?;
    }
    expect(site.primary()?.name == name, &format!("the primary is on {name}"))?;
    site.primary()
}

#[test]
fn a_split_leaves_the_primary_and_a_power_cut_of_the_primary_the_other_node() {
    scenario("split", WITH, |site| {
        // Where the lowest node id would not win.
        let primary = primary_on(site, "lxc2")?;
        let lost = other(site)?;
        let load = site.load()?;
        split_and_return(site, &lost)?;
        expect(fenced(site, &primary)? == 0, "the primary is not fenced")?;
        expect(site.primary()?.name == primary.name, "the primary stays")?;
        held(site, load, UNDISTURBED, "")?;

        let load = site.load()?;
        primary.power_off()?;
        let next = site.wait_moved(&primary, Duration::from_secs(40))?;
        expect(next.name == lost.name, "the other one takes over")?;
        held(site, load, NODE_LOSS, "L")?;
        site.lab.power_back(&primary)?;
        site.lab.wait_online()?;
        site.wait_settled()
    });
}

/// What the page says of the lines that ask for the writers' address: without them, the node with the lower number wins.
#[test]
fn without_the_heuristics_the_primary_may_be_the_one_that_is_fenced() {
    let edit = "sed -i '/^        heuristics {/,/^        }/d' /etc/corosync/corosync.conf; systemctl restart corosync corosync-qdevice";
    edited("lowest", WITH, edit, |site| {
        let primary = primary_on(site, "lxc2")?;
        let load = site.load()?;
        split_and_return(site, &primary)?;
        expect(site.primary()?.name == "lxc1", "the primary is fenced, and lxc1 goes on")?;
        held(site, load, NODE_LOSS, "L")
    });
}

#[test]
fn the_third_machine_can_be_lost_but_not_a_node_after_it() {
    scenario("third", WITH, |site| {
        let (primary, replica, third) = (site.primary()?, other(site)?, site.lab.node(3));
        let load = site.load()?;
        third.power_off()?;
        std::thread::sleep(Duration::from_secs(20));
        expect(load.writing(), "writes go on without the third machine")?;
        expect(site.lab.view()?.quorum, "two votes of three are a quorum")?;
        held(site, load, UNDISTURBED, "")?;

        replica.power_off()?;
        let idle = |view: lab::cluster::ClusterView| !view.quorum && view.instances.iter().all(|instance| instance.node != primary.name);
        let stopped = || site.lab.view().is_ok_and(idle);
        site.lab.wait_for("everything stopped on the last node", Duration::from_secs(60), stopped)?;
        third.power_on()?;
        site.lab.wait_for("the last node goes on", Duration::from_secs(60), || site.primary().is_ok_and(|now| now.name == primary.name))?;
        site.wait_settled()?;
        expect(fenced(site, &replica)? == 1, "the dead node is fenced first")
    });
}

#[test]
fn without_a_third_machine_the_delays_decide_and_nobody_boots_alone() {
    scenario("delays", WITHOUT, |site| {
        for name in ["lxc2", "lxc1"] {
            let primary = primary_on(site, name)?;
            let lost = other(site)?;
            let load = site.load()?;
            split_and_return(site, &lost)?;
            expect(site.primary()?.name == primary.name, "the primary stays")?;
            held(site, load, UNDISTURBED, "")?;
        }
        let load = site.load()?;
        let (primary, replica) = (site.primary()?, other(site)?);
        primary.power_off()?;
        site.wait_moved(&primary, Duration::from_secs(60))?;
        held(site, load, NODE_LOSS + LATE, "L")?;
        replica.power_off()?;
        primary.power_on()?;
        std::thread::sleep(Duration::from_secs(30));
        let alone = primary.sh("corosync-quorumtool -s; crm_mon -1")?.stdout;
        expect(
            !alone.contains("Promoted") && !alone.contains("Quorate:          Yes"),
            &format!("a node that boots alone waits: {alone}"),
        )?;
        expect(fenced(site, &replica)? == 1, "and fences nobody")?;
        replica.power_on()?;
        site.lab.wait_online()?;
        site.wait_settled()
    });
}
