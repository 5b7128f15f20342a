//! A node without a way out: what docs/recipes/connectivity.md says, its drill run as it stands there.

use std::time::{Duration, Instant};

use cluster_scenarios::{expect, finish, lab_name, recipe, snippet};
use lab::{Lab, LabOptions, Result};

/// The clients' two addresses, which no node has.
const HOSTS: &str = "198.51.100.254 192.0.2.254";
/// The attribute is told after a monitor, whose pings have to fail first, and the dampening.
const NOTICED: Duration = Duration::from_secs(60);

fn wait_pingd(lab: &Lab, value: &str, nodes: &[&str]) -> Result<()> {
    let says = |node: &&str| {
        let asked = lab.node(1).exec(&["attrd_updater", "--query", "--name", "pingd", "--node", node]);
        asked.is_ok_and(|answer| answer.stdout.contains(&format!("value=\"{value}\"")))
    };
    lab.wait_for(&format!("pingd is {value} on {nodes:?}"), NOTICED, || nodes.iter().all(says))
}

fn place_of(lab: &Lab, address: &str) -> String {
    lab.view().map(|view| view.with_role(address, "Started").concat()).unwrap_or_default()
}

fn wait_place(lab: &Lab, address: &str, node: &str) -> Result<()> {
    let begin = Instant::now();
    lab.wait_for(&format!("{address} on {node}"), NOTICED, || place_of(lab, address) == node)?;
    println!("{address}: on {node} after {:.1} s", begin.elapsed().as_secs_f64());
    Ok(())
}

fn drill(lab: &Lab) -> Result<()> {
    lab.load_crm(&snippet("public-addresses.crm")?)?;
    lab.load_crm(&snippet("connectivity.crm")?.replace("198.51.100.1 203.0.113.1", HOSTS))?;
    wait_pingd(lab, "2", &["lxc1", "lxc2", "lxc3"])?;
    lab.wait_idle()?;
    wait_place(lab, "public-ip-1", "lxc1")?;
    wait_place(lab, "public-ip-2", "lxc2")?;

    let blocks = recipe::blocks("connectivity", "The drill")?;
    let [fails, back] = blocks.as_slice() else { panic!("the drill has two blocks: {blocks:?}") };
    fails.run(lab)?;
    wait_place(lab, "public-ip-1", "lxc3")?;
    expect(place_of(lab, "public-ip-2") == "lxc2", "the other address stays")?;
    back.run(lab)?;
    wait_place(lab, "public-ip-1", "lxc1")?;

    // The router is down.
    for node in lab.nodes() {
        node.sh(&fails.commands)?;
    }
    wait_pingd(lab, "0", &["lxc1", "lxc2", "lxc3"])?;
    lab.wait_idle()?;
    let places = [place_of(lab, "public-ip-1"), place_of(lab, "public-ip-2")];
    expect(places == ["lxc1", "lxc2"], &format!("nothing moves when no node has a way out: {places:?}"))
}

#[test]
fn an_address_leaves_a_node_without_a_way_out() {
    let lab =
        recipe::in_a_cluster(LabOptions { name: lab_name("connectivity"), ..LabOptions::default() }).unwrap_or_else(|e| panic!("{e}"));
    finish(&lab, drill(&lab));
}
